"""The HTTP server of the examples, on a tiny model."""

import http.client
import importlib.util
import json
import socket
import sys
import threading
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from itertools import permutations
from pathlib import Path

import pytest
import torch
from helpers.tiny import make_model, make_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dynabert_hf import CascadeRecord, LatencyController, ServingTarget, SizeRecord, SubNetwork
from dynabert_hf import measure_cascade as measure
from dynabert_hf.sizes.serving import ServingReport

spec = importlib.util.spec_from_file_location("serving_example", Path(__file__).parents[2] / "examples" / "serving.py")
example = sys.modules["serving_example"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)

METRICS = {"w0.25-d0.5": {"accuracy": 0.8}, "w0.5-d0.75": {"accuracy": 0.85}, "w1-d1": {"accuracy": 0.9}}


def save(folder, metrics, model_max_length=20):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "number", "is", "good", "."]
    make_tokenizer(words, model_max_length=model_max_length).save_pretrained(folder)
    make_model(metrics=metrics, stock={"max_position_embeddings": 40}).save_pretrained(folder)


def test_the_example_answers_over_http(tmp_path, capsys):
    save(tmp_path, METRICS)
    example.main([str(tmp_path), "--port", "0", "--smoke", "--p95-ms", "60000"])
    first, last = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("Serving at http://127.0.0.1:")
    report = json.loads(last)
    assert report["answers"] == sum(report["served"].values()) == 40
    assert report["last"]["label"] in {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert report["last"]["size"] == report["active"] == "w1-d1"
    assert report["mean_metric"] == pytest.approx(0.9)


def test_the_example_serves_by_two_sizes_too(tmp_path, monkeypatch, capsys):
    save(tmp_path, METRICS)
    texts = [" ".join(words) for words in permutations(["film", "is", "good", "number"])]
    inputs = AutoTokenizer.from_pretrained(tmp_path)(texts, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.inference_mode():
        labels = model(**inputs).logits.argmax(-1).tolist()
    rows = [f"{text},{label}" for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "dev.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    cascade = ["--cascade", "w0.25-d0.5", "w1-d1", "--file", str(tmp_path / "dev.csv")]
    made, tables, controller = [], [], LatencyController
    monkeypatch.setattr(
        example, "LatencyController", lambda *ask, **told: tables.append(ask[1]) or controller(*ask, **told)
    )
    monkeypatch.setattr(example, "measure_cascade", lambda *given, **told: made.extend(measure(*given, **told)) or made)
    example.main([str(tmp_path), "--port", "0", "--smoke", "--p95-ms", "60000", *cascade])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["answers"] == sum(report["served"].values()) == 40
    assert {one.small for one in made} == {SubNetwork(0.25, 0.5)}
    [full] = (one for one in tables[0] if str(one) == "w1-d1")
    assert full.metrics == made[-1].metrics == {"accuracy": 1.0}  # on these rows; 0.9 is stored, of others
    with pytest.raises(SystemExit):
        example.main([str(tmp_path), "--port", "0", *cascade[:3]])
    assert "--cascade and --file go together" in capsys.readouterr().err


def test_cascades_of_nearly_the_same_threshold_are_told_apart_and_none_of_their_requests_is_lost():
    near = [
        CascadeRecord("w1-d1", {"accuracy": 0.9}, {}, small="w0.25-d0.5", threshold=threshold)
        for threshold in (0.99996171, 0.99998, 1.0)
    ]
    report = ServingReport(
        near[0], None, None, served=dict(zip(near, (7, 2, 1), strict=True)), changes=0, mean_metric=0.9
    )
    told = example.describe(report)
    assert told["active"] == "w0.25-d0.5>w1-d1@0.99996171"
    assert list(told["served"].values()) == [7, 2, 1]


def test_an_answer_of_a_cascade_names_the_size_that_gave_it(tmp_path):
    save(tmp_path, METRICS)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    small = SizeRecord("w0.25-d0.5", {"accuracy": 0.5}, {"latency_ms": 1.0})
    told = {"small": "w0.25-d0.5", "latencies_ms": (1.0, 2.0)}
    for threshold, share, size in ((0.0, 0.0, "w0.25-d0.5"), (1.0, 1.0, "w1-d1")):
        cost = {"latency_ms": 1.5}
        record = CascadeRecord("w1-d1", {"accuracy": 0.9}, cost, threshold=threshold, share=share, **told)
        controller = LatencyController(model, [small, record], ServingTarget(max_queue=9))
        handler = example.make_handler(controller, AutoTokenizer.from_pretrained(tmp_path))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            answer = example.ask(f"http://127.0.0.1:{server.server_port}", "film is good")
            server.shutdown()
        assert answer["size"] == size


def test_the_direction_that_a_checkpoint_stores_says_which_size_serves():
    metrics = {"w0.25-d0.5": {"gap": 0.2}, "w1-d1": {"gap": 0.1}}
    model = make_model(metrics=metrics, metric_directions={"gap": "lower"})
    controller = example.make_controller(model, ServingTarget(p95_ms=60000), metric="gap", length=6)
    assert str(controller.report().active) == "w1-d1"


def test_sizes_whose_layers_differ_are_named_by_their_texts(tmp_path, capsys):
    shapes = ["l0h4n48-l2h1n7", "l1h4n48-l3h1n7"]  # as many heads and neurons
    save(tmp_path, {shape: {"accuracy": 0.8} for shape in shapes} | {"w1-d1": {"accuracy": 0.7}})
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    records = [SizeRecord(shape, {"accuracy": 0.8}, {"latency_ms": 1.0}) for shape in shapes]
    controller = LatencyController(model, records, ServingTarget(max_queue=9))
    handler = example.make_handler(controller, AutoTokenizer.from_pretrained(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        example.serve(server, controller, is_smoke=True)
    first, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert first.endswith(f"the sizes are {shapes[0]}, {shapes[1]}")
    assert told["last"]["size"] == told["active"] == shapes[1]
    assert told["served"] == {shapes[1]: 40}


def test_the_example_asks_for_a_checkpoint_with_accuracies(tmp_path):
    save(tmp_path, None)
    with pytest.raises(SystemExit, match=r"^serving.py: The model stores no metrics to choose by.*dynabert evaluate"):
        example.main([str(tmp_path), "--port", "0", "--smoke"])


@pytest.mark.parametrize(("option", "value"), [("--p95-ms", "0.0"), ("--length", "0"), ("--metric", "f1")])
def test_an_error_of_the_example_names_its_options(tmp_path, option, value):
    save(tmp_path, METRICS)
    with pytest.raises(SystemExit, match=rf"^serving.py: .*{option} ({value} is not possible|one of them)"):
        example.main([str(tmp_path), "--port", "0", "--smoke", option, value])


def test_the_example_cuts_a_long_text_where_the_tokenizer_knows_no_length(tmp_path, capsys, monkeypatch):
    save(tmp_path, METRICS, model_max_length=None)
    assert AutoTokenizer.from_pretrained(tmp_path).model_max_length > 10**6
    ask = example.ask
    monkeypatch.setattr(example, "ask", lambda url, text: ask(url, text * 20))
    example.main([str(tmp_path), "--port", "0", "--smoke", "--p95-ms", "60000"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["answers"] == 40


@pytest.fixture
def connection(tmp_path):
    save(tmp_path, None)
    sizes = [SizeRecord(SubNetwork(width), {"accuracy": width}, {"latency_ms": width}) for width in (0.5, 1.0)]
    controller = LatencyController(make_model(), sizes, ServingTarget(p95_ms=60000))
    handler = example.make_handler(controller, AutoTokenizer.from_pretrained(tmp_path))
    with example.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("length", "body", "status", "message"),
    [
        ("4", b"caf\xe9", 400, "The text is not UTF-8"),
        (None, b"", 400, "Send it as Content-Length"),
        ("-1", b"", 400, "A text of -1 bytes was sent"),
        ("0", b"", 400, "A text of 0 bytes was sent"),
        ("3", b" \n ", 400, "The text is empty"),
        (str(2**20 + 1), b"", 413, "Send at most 1048576"),
    ],
)
def test_the_example_answers_what_it_cannot_read_with_an_error(connection, length, body, status, message):
    connection.putrequest("POST", "/")
    if length:
        connection.putheader("Content-Length", length)
    connection.endheaders(body)
    answer = connection.getresponse()
    assert answer.status == status
    assert message in json.load(answer)["error"]
    connection.close()


def test_all_clients_that_come_at_once_are_heard():
    with example.Server(("127.0.0.1", 0), example.make_handler(None, None)) as server, ExitStack() as opened:
        waiting = (socket.create_connection(server.server_address, timeout=2) for _ in range(40))
        clients = [opened.enter_context(client) for client in waiting]  # none is accepted yet
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        for client in clients:
            client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        answers = [client.recv(12) for client in clients]
        server.shutdown()
        thread.join()
    assert answers == [b"HTTP/1.0 400"] * 40


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken"), ConnectionResetError(104, "Reset"), KeyError("x")])
def test_of_a_client_that_left_before_its_answer_nothing_is_said(capfd, monkeypatch, error):
    handler = example.make_handler(None, None)
    monkeypatch.setattr(handler, "do_GET", lambda self: (_ for _ in ()).throw(error))
    with example.Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with socket.create_connection(server.server_address, timeout=30) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(1) == b""
        thread.join()
    last = capfd.readouterr().err.rstrip("-\n").rpartition("\n")[2]
    assert last == ("KeyError: 'x'" if isinstance(error, KeyError) else "")


def test_a_port_that_is_taken_is_said_before_anything_is_measured(tmp_path, monkeypatch):
    save(tmp_path, METRICS)
    monkeypatch.setattr(example, "profile", lambda *args, **kwargs: pytest.fail("measured"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"Port {port} of 127\.0\.0\.1 cannot be used.*another --port"):
            example.main([str(tmp_path), "--port", str(port)])


def test_ctrl_c_ends_the_server_with_its_report(tmp_path, capsys, monkeypatch):
    save(tmp_path, {size: {"f1": own["accuracy"]} for size, own in METRICS.items()})
    monkeypatch.setattr(
        example.ThreadingHTTPServer, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    seen = {}
    measure = example.profile
    monkeypatch.setattr(example, "profile", lambda *args, **kwargs: seen.update(kwargs) or measure(*args, **kwargs))
    example.main([str(tmp_path), "--port", "0", "--p95-ms", "10000", "--length", "7", "--host", "0.0.0.0"])
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Serving at http://0.0.0.0:")
    assert json.loads(last)["served"] == {}
    assert seen["sequence_lengths"] == (7,)


def test_ctrl_c_while_sizes_are_measured_ends_without_a_traceback(tmp_path, capsys, monkeypatch):
    save(tmp_path, METRICS)
    monkeypatch.setattr(example, "profile", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit) as ended:
        example.main([str(tmp_path), "--port", "0"])
    assert ended.value.code == 130
    assert capsys.readouterr().out == ""
