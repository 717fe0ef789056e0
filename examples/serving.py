"""A small HTTP server that answers every request with the most accurate size that keeps a latency target.

    python examples/serving.py outputs/demo/dynabert/model --p95-ms 30
    curl -d "What a film." localhost:8000      # {"label": "positive", "score": 0.98, "size": "w1-d1", ...}
    curl localhost:8000                        # what the controller did so far

Takes a model whose checkpoint stores the accuracies of its sizes, as those of the quickstart do. Load the machine with
something else, and see the sizes shrink and grow again.
"""

import argparse
import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dynabert_hf import LatencyController, ServingTarget, profile, read_stored_metrics
from dynabert_hf.families import longest_input

LENGTH = 32  # tokens at which the table is measured; give the usual length of your requests


def make_controller(model, target):
    """A controller with the accuracies that the checkpoint stores and latencies measured now."""
    accuracies = read_stored_metrics(model.config)
    table = profile(model, list(accuracies), sequence_lengths=(LENGTH,))
    return LatencyController(model, table.with_metrics(accuracies), target)


def make_handler(controller, tokenizer):
    """What answers HTTP requests, each in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = self.headers["Content-Length"] or ""
            if not length.isdecimal():
                self.reply({"error": "The length of the text is missing. Send it as Content-Length."}, 411)
                return
            try:
                text = self.rfile.read(int(length)).decode()
            except UnicodeDecodeError as error:
                self.reply({"error": f"The text is not UTF-8: {error}. Send UTF-8."}, 400)
                return
            arrived = controller.clock()
            inputs = tokenizer(text, truncation=True, return_tensors="pt")
            with controller.request(arrived=arrived) as model, torch.inference_mode():
                scores = model(**inputs).logits.softmax(-1)[0]
            best = int(scores.argmax())
            answer = {"label": model.config.id2label[best], "score": float(scores[best]), "size": str(model.active)}
            self.reply({**answer, "latency_ms": 1e3 * (controller.clock() - arrived)})

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
        "active": str(report.active),
        "p95_ms": report.p95_ms,
        "slowness": report.slowness,
        "mean_accuracy": report.mean_metric,
        "served": {str(size): number for size, number in report.served.items()},
    }


def ask(url, text):
    with urllib.request.urlopen(url, data=text.encode(), timeout=60) as response:
        return json.load(response)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or Hub id of an elastic model with a sequence classification head")
    parser.add_argument("--p95-ms", type=float, default=30.0, help="latency that 95 %% of the requests must not exceed")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one")
    parser.add_argument("--smoke", action="store_true", help="answer forty requests from four clients, and stop")
    arguments = parser.parse_args(arguments)
    torch.set_num_threads(1)  # requests run beside each other instead
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model)
    controller = make_controller(model, ServingTarget(p95_ms=arguments.p95_ms))
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest_input(model.config))
    with ThreadingHTTPServer(("127.0.0.1", arguments.port), make_handler(controller, tokenizer)) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        print(f"Serving at {url}; the sizes are {', '.join(map(str, controller.models))}", flush=True)
        if not arguments.smoke:
            server.serve_forever()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(lambda number: ask(url, f"Film number {number} is good."), range(40)))
        print(json.dumps({"answers": len(answers), "last": answers[-1], **describe(controller.report())}))
        server.shutdown()


if __name__ == "__main__":
    main()
