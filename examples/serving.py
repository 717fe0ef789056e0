"""A small HTTP server that answers each request with the best size that keeps
a latency target.

    python examples/serving.py outputs/demo/dynabert/model --p95-ms 30
    curl -d "What a film." localhost:8000   # {"label": "positive", ...}
    curl localhost:8000                     # what the controller did so far

The model classifies texts or predicts values, and stores the metrics of its
sizes: train_dynabert stores them, and so does
`dynabert evaluate MODEL --file test.csv --store`. If you load the machine with
something else, the sizes shrink, and then grow again. Ctrl-c ends the server.
"""

import argparse
import json
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from script_errors import in_one_line
from transformers import AutoModelForSequenceClassification

from dynabert_hf import (
    CascadeRecord,
    LabelledText,
    LatencyController,
    ServingTarget,
    measure_cascade,
    profile,
    read_stored_metrics,
)
from dynabert_hf.cli.inputs import load_with_head, needed_tokenizer
from dynabert_hf.cli.options import options_of, with_options
from dynabert_hf.data.encoding import most_tokens
from dynabert_hf.families import check_elastic
from dynabert_hf.model.subnetwork import size_name
from dynabert_hf.sizes.choosing import leading_metric
from dynabert_hf.tasks import answers_of
from dynabert_hf.training.callbacks import bars_of_files_in_terminals

MOST_BYTES = 2**20
"""Of a text; a longer one is refused."""


class Server(ThreadingHTTPServer):
    """A thread for each request."""

    request_queue_size = 128
    """Clients that may wait until they are accepted; of Python's 5, those of a burst lose their connection."""

    def handle_error(self, request, client_address):
        """Say nothing of a client that left before its answer; of all else what Python says."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_controller(model, target, *, metric, length, cascade=()):
    """A controller with the metric that the checkpoint stores and latencies measured now.

    Beside a cascade the metric is measured anew, since only metrics of the same rows compare.

    Args:
        model: The elastic model.
        target: What is promised.
        metric: What a size is good in.
        length: Tokens of a usual request.
        cascade: Two sizes and labelled text, where the larger one may be asked about what the small one is unsure of.
    """
    stored = read_stored_metrics(model.config, metric=metric)
    table = profile(model, list(stored), sequence_lengths=(length,))
    direction = (model.config.metric_directions or {}).get(metric)
    told = {"metric": metric, "greater_is_better": None if direction is None else direction == "higher"}
    if not cascade:
        return LatencyController(model, table.with_metrics(stored, metric=metric), target, **told)
    text = cascade[-1]
    records = list(table.with_metrics(lambda size: text.evaluate(model.share(size))))
    records += measure_cascade(model, *cascade, costs=table, num_thresholds=10)
    return LatencyController(model, records, target, **told)


def make_handler(controller, tokenizer):
    """What answers HTTP requests, each in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = self.headers["Content-Length"]
            if length is None:
                return self.reply({"error": "The length of the text is missing. Send it as Content-Length."}, 400)
            if not length.isdecimal() or int(length) == 0:
                return self.reply({"error": f"A text of {length} bytes was sent. Send one that is not empty."}, 400)
            if int(length) > MOST_BYTES:
                self.close_connection = True  # what was sent is not read
                return self.reply({"error": f"{length} bytes were sent. Send at most {MOST_BYTES}."}, 413)
            try:
                text = self.rfile.read(int(length)).decode()
            except UnicodeDecodeError as error:
                return self.reply({"error": f"The text is not UTF-8: {error}. Send UTF-8."}, 400)
            if not text.strip():
                return self.reply({"error": "The text is empty. Send one with words."}, 400)
            arrived = controller.clock()
            inputs = tokenizer(text, truncation=True, return_tensors="pt")
            with controller.request(arrived=arrived) as model, torch.inference_mode():
                [answer] = answers_of(model(**inputs).logits.float().numpy(), model.config)
            latency = 1e3 * (controller.clock() - arrived)
            return self.reply({**answer, "size": size_name(model.active), "latency_ms": latency})

        def do_GET(self):
            self.reply(describe(controller.report()))

        def reply(self, answer, status=200):
            body = json.dumps(answer).encode() + b"\n"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    return Handler


def describe(report):
    """A report as JSON holds it."""
    return {
        "active": report.active.name,
        "p95_ms": report.p95_ms,
        "slowness": report.slowness,
        "mean_metric": report.mean_metric,
        "served": {one.name: number for one, number in report.served.items()},
    }


def ask(url, text):
    with urllib.request.urlopen(url, data=text.encode(), timeout=60) as response:
        return json.load(response)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an elastic model with a sequence classification head")
    parser.add_argument("--p95-ms", type=float, default=30.0, help="most that 95 %% of requests may take (default 30)")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1; 0.0.0.0: other machines, too")
    parser.add_argument("--port", type=int, default=8000, help="default 8000; 0: any free one")
    parser.add_argument("--length", type=int, default=32, help="tokens of a usual request (default 32)")
    parser.add_argument("--metric", help="stored metric to serve by (default: the first that is no loss)")
    sizes = ("SMALL", "LARGE")
    parser.add_argument("--cascade", nargs=2, metavar=sizes, help="serve by both, too: LARGE where SMALL is not sure")
    parser.add_argument("--file", help="labelled text that tells how sure SMALL has to be, as csv, json or parquet")
    parser.add_argument("--smoke", action="store_true", help="answer forty requests from four clients, and stop")
    arguments = parser.parse_args(arguments)
    if bool(arguments.cascade) != bool(arguments.file):
        parser.error("--cascade and --file go together: give two sizes, and labelled text to measure them on")
    reword = partial(with_options, options=options_of(arguments, sequence_length="length"))
    with in_one_line("serving.py", reword), bars_of_files_in_terminals():
        run(arguments)


def run(arguments):
    """Measure the sizes of a model, and answer requests."""
    torch.set_num_threads(1)  # requests run beside each other instead
    model = load_with_head(AutoModelForSequenceClassification, arguments.model, "model that classifies texts")
    check_elastic(model)
    metric = arguments.metric or leading_metric(model.config)
    try:
        server = Server((arguments.host, arguments.port), BaseHTTPRequestHandler)
    except (OSError, OverflowError) as error:
        raise OSError(
            f"Port {arguments.port} of {arguments.host} cannot be used: {str(error).rstrip('.')}. Give another --port."
        ) from error
    with server:  # taken before sizes are measured, which takes a while
        tokenizer = needed_tokenizer(arguments.model)
        tokenizer.model_max_length = most_tokens(model, tokenizer)
        target = ServingTarget(p95_ms=arguments.p95_ms)
        cascade = ()
        if arguments.cascade:
            cascade = (*arguments.cascade, LabelledText.from_file(arguments.file, model, tokenizer))
        controller = make_controller(model, target, metric=metric, length=arguments.length, cascade=cascade)
        server.RequestHandlerClass = make_handler(controller, tokenizer)
        serve(server, controller, is_smoke=arguments.smoke)


def serve(server, controller, *, is_smoke):
    """Answer requests until ctrl-c, or forty of them."""
    host, port = server.server_address[:2]
    url = f"http://{host}:{port}"
    names = [one.name if isinstance(one, CascadeRecord) else size_name(one) for one in controller.models]
    print(f"Serving at {url}; the sizes are {', '.join(names)}", flush=True)
    if not is_smoke:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(json.dumps(describe(controller.report())))
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda number: ask(url, f"Film number {number} is good."), range(40)))
    print(json.dumps({"answers": len(answers), "last": answers[-1], **describe(controller.report())}))
    server.shutdown()


if __name__ == "__main__":
    main()
