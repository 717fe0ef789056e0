"""The command `dynabert`: reads the command line, and only then loads the package.

It stands beside the package, not in it: importing the package brings in torch, and help should not wait for that.
"""

from __future__ import annotations

import argparse
import io
import re
import signal
import sys
import textwrap
from _thread import interrupt_main
from collections.abc import Sequence
from threading import Timer
from typing import Any

_SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}
"""An option that takes one value or more; given again, it adds to them, so that none is lost without a word."""

_EXIT_CODES = "exit codes: 0 done, 1 an error, 2 a wrong command line, 3 no size is within the budgets"


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="dynabert",
        description="Measure, choose, use, extract, export and publish the sizes of an elastic encoder.",
        epilog=f"`dynabert COMMAND --help` has examples. {_EXIT_CODES}.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        _add_show,
        _add_evaluate,
        _add_predict,
        _add_profile,
        _add_recommend,
        _add_search,
        _add_augment,
        _add_cascade,
        _add_extract,
        _add_specialise,
        _add_store_outputs,
        _add_trim,
        _add_export,
        _add_push,
        _add_demo,
    ):
        add(commands)
    return parser


def _command(commands: Any, name: str, summary: str, examples: str, takes: str = "MODEL") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(f"{summary[0].upper()}{summary[1:]}.", 78),
        epilog="\n".join(["examples:", *map(_example, examples.strip().splitlines())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = {
        "MODEL": "folder or Hub id of an elastic model",
        "TEACHER": "folder or Hub id of a fine-tuned model",
        "FILE": "text: csv, tsv, json, jsonl or parquet",
    }
    parser.add_argument(takes.lower(), metavar=takes, help=about[takes])
    if name != "demo":
        parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _example(command: str) -> str:
    """A command as a shell takes it, on as many lines as it needs in a terminal of 80 columns, an option on one."""
    options = re.sub(" (?!--)", "\N{NO-BREAK SPACE}", command.strip())
    lines = textwrap.wrap(options, 76, initial_indent="  ", subsequent_indent=" " * 6, break_on_hyphens=False)
    return " \\\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _add_show(commands: Any) -> None:
    _command(
        commands,
        "show",
        "list the sizes of a model with their parameters, FLOPs and stored metrics",
        """
        dynabert show outputs/demo/dynabert/model
        dynabert show you/dynabert-reviews --json
        """,
    )


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands,
        "evaluate",
        "measure the metrics of sizes on labelled text",
        """
        dynabert evaluate MODEL --file test.csv
        dynabert evaluate MODEL --file test.csv --size w0.5-d0.5 w1-d1 --metric macro_f1
        dynabert evaluate MODEL --file questions.json
        dynabert evaluate MODEL --file pairs.jsonl --text-column premise hypothesis --label-column gold --store
        """,
    )
    _add_data(parser, required=True)
    _add_sizes(parser)
    parser.add_argument(
        "--store",
        action="store_true",
        help="store the metrics in the config.json of the model, for show and recommend",
    )


def _add_predict(commands: Any) -> None:
    parser = _command(
        commands,
        "predict",
        "predict labels, values, tags, answers, choices or words for texts",
        """
        dynabert predict MODEL --file texts.csv
        dynabert predict MODEL --file pairs.jsonl --text-column premise hypothesis --size w0.5-d0.5
        dynabert predict MODEL --file questions.json --output answers.jsonl
        dynabert predict MODEL --file choices.jsonl
        """,
    )
    _add_text(parser, required=True)
    parser.add_argument("--size", help="such as w0.5-d0.75 (default: the active one)")
    parser.add_argument(
        "--no-answer", action="store_true", help="allow an empty answer to a question, if that is more likely"
    )
    parser.add_argument("--output", metavar="FILE", help="write the predictions as .jsonl, one line per row")


def _add_profile(commands: Any) -> None:
    parser = _command(
        commands,
        "profile",
        "measure latency and memory of sizes on this machine",
        """
        dynabert profile MODEL
        dynabert profile MODEL --batch-size 1 8 --sequence-length 32 128 --output profile.json
        dynabert profile MODEL --runtime torch onnxruntime --dtype float32 int8 --output profile.md
        """,
    )
    _add_sizes(parser)
    _add_setting(parser)
    parser.add_argument("--output", metavar="FILE", help="also save the table, as .json, .csv or .md")


def _add_recommend(commands: Any) -> None:
    parser = _command(
        commands,
        "recommend",
        "choose the best size within budgets",
        """
        dynabert recommend MODEL --latency-ms 5
        dynabert recommend MODEL --latency-ms 5 --profile profile.json --runtime onnxruntime --dtype int8
        dynabert recommend MODEL --parameters 16e6 --flops 1e9
        dynabert recommend MODEL --max-drop 0.01 --plot sizes.png
        """,
    )
    budgets = parser.add_argument_group("budgets")
    budgets.add_argument("--latency-ms", type=float, metavar="MS", help="largest time of a forward pass")
    budgets.add_argument("--parameters", type=float, metavar="N", help="largest number of parameters")
    budgets.add_argument("--flops", type=float, metavar="N", help="largest number of floating-point operations")
    budgets.add_argument("--memory-mb", type=float, metavar="MB", help="largest peak memory")
    budgets.add_argument(
        "--max-drop",
        "--max-accuracy-drop",
        type=float,
        metavar="X",
        help="how much worse the metric may be than that of the best size",
    )
    _add_setting(parser)
    parser.add_argument("--metric", help="stored metric to choose by (default: the first that is no loss)")
    direction = parser.add_mutually_exclusive_group()
    told = "for a metric whose name does not tell its direction"
    direction.add_argument("--lower-is-better", action="store_true", help=told)
    direction.add_argument("--higher-is-better", action="store_true", help=told)
    parser.add_argument("--profile", metavar="FILE", help="costs that `dynabert profile --output FILE.json` saved")
    parser.add_argument("--plot", metavar="FILE", help="plot the metric over cost, as .png, .svg or .pdf")


def _add_search(commands: Any) -> None:
    parser = _command(
        commands,
        "search",
        "find the best heads and neurons of every layer within budgets, compared with the sizes of the grid",
        """
        dynabert search MODEL --flops 5e8 1e9 --file dev.csv
        dynabert search MODEL --latency-ms 5 --sequence-length 32 --file dev.csv --store
        dynabert search MODEL --parameters 14e6 --file dev.csv --minutes 5
        """,
    )
    budgets = parser.add_argument_group("budgets, one or more of one kind")
    budgets.add_argument("--latency-ms", type=float, **_SEVERAL, metavar="MS", help="largest time of a forward pass")
    budgets.add_argument("--flops", type=float, **_SEVERAL, metavar="N", help="most floating-point operations")
    budgets.add_argument("--parameters", type=float, **_SEVERAL, metavar="N", help="most parameters")
    parser.add_argument("--evaluations", type=count, default=200, metavar="N", help="shapes per budget (default 200)")
    parser.add_argument("--minutes", type=minutes, default=15, metavar="M", help="time limit for them (default 15)")
    parser.add_argument("--max-rows", type=count, default=512, metavar="N", help="rows to compare on (default 512)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    _add_data(parser, required=True)
    _add_setting(parser)
    parser.add_argument(
        "--store", action="store_true", help="store the found sizes and their metrics in the model's folder"
    )


def _add_cascade(commands: Any) -> None:
    parser = _command(
        commands,
        "cascade",
        "choose the confidence below which a larger size is asked after a small one",
        """
        dynabert cascade MODEL w0.25-d0.5 w0.75-d1 --file dev.csv --max-drop 0.005
        dynabert cascade MODEL w0.25-d0.5 w0.75-d1 --file dev.csv --latency-ms 6 --store
        dynabert cascade MODEL w0.25-d0.5 w0.75-d1 --file dev.csv --flops 1e9
        """,
    )
    parser.add_argument("small", metavar="SMALL", help="the size that is asked first, such as w0.25-d0.5")
    parser.add_argument("large", metavar="LARGE", help="the size that is asked if the small one is not confident")
    budgets = parser.add_argument_group("budgets")
    budgets.add_argument("--latency-ms", type=float, metavar="MS", help="largest mean time of one text")
    budgets.add_argument("--flops", type=float, metavar="N", help="largest mean number of floating-point operations")
    budgets.add_argument("--max-drop", type=float, metavar="X", help="largest drop of the metric from LARGE")
    _add_data(parser, required=True)
    _add_setting(parser)
    parser.add_argument(
        "--store", action="store_true", help="store the temperatures of both sizes in the config.json of the model"
    )


def _add_augment(commands: Any) -> None:
    parser = _command(
        commands,
        "augment",
        "write a file with changed copies of texts for distillation, words replaced as in TinyBERT",
        """
        dynabert augment train.csv --model bert-base-uncased --output augmented.csv
        dynabert augment pairs.jsonl --model bert-base-uncased --text-column premise hypothesis --output more.jsonl
        dynabert augment train.csv --model bert-base-uncased --word-vectors glove.6B.300d.txt --output augmented.csv
        """,
        takes="FILE",
    )
    parser.add_argument("--model", required=True, metavar="MLM", help="folder or Hub id of a masked language model")
    parser.add_argument("--output", required=True, metavar="FILE", help="csv, tsv, json, jsonl or parquet")
    _add_text_columns(parser, "one column, or two for pairs")
    parser.add_argument("--copies", type=count, default=20, metavar="N", help="copies to draw per row (default 20)")
    parser.add_argument(
        "--probability", type=float, default=0.4, metavar="P", help="probability that a word is replaced (default 0.4)"
    )
    parser.add_argument("--candidates", type=count, default=15, metavar="N", help="candidates per word (default 15)")
    parser.add_argument(
        "--word-vectors",
        metavar="FILE",
        help="vectors for words of several tokens, in GloVe's format (default: the embeddings of the model)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    parser.add_argument("--bf16", action="store_true", help="run the model in bfloat16")


def _add_extract(commands: Any) -> None:
    parser = _command(
        commands,
        "extract",
        "write one size as a model of its own",
        """
        dynabert extract MODEL small --size w0.25-d0.5
        dynabert extract MODEL shallow --size w1-d0.5 --stock
        """,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to create")
    parser.add_argument("--size", required=True, help="such as w0.5-d0.75")
    parser.add_argument(
        "--stock",
        action="store_true",
        help="as a model of transformers' own class, without a card; possible where no heads are cut",
    )


def _add_specialise(commands: Any) -> None:
    parser = _command(
        commands,
        "specialise",
        "extract one size and distil it further, from the full size and, if given, the fine-tuned model",
        """
        dynabert specialise MODEL small --size w0.25-d0.5 --file train.csv
        dynabert specialise MODEL small --size w0.5-d0.5 --file train.csv --teacher finetuned --epochs 1
        dynabert specialise MODEL small --size w0.5-d0.5 --file pairs.jsonl --text-column premise hypothesis
        """,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to create")
    parser.add_argument("--size", required=True, help="such as w0.5-d0.75")
    parser.add_argument("--teacher", metavar="MODEL", help="folder or Hub id of the fine-tuned model")
    parser.add_argument("--epochs", type=float, default=0.5, metavar="N", help="default 0.5")
    parser.add_argument("--learning-rate", type=float, default=1e-4, metavar="X", help="default 1e-4")
    parser.add_argument("--train-batch-size", type=count, default=32, metavar="N", help="texts per batch (default 32)")
    parser.add_argument(
        "--file", required=True, help="text to learn from, without labels: csv, tsv, json, jsonl, parquet or txt"
    )
    _add_text_columns(parser)


def _add_store_outputs(commands: Any) -> None:
    parser = _command(
        commands,
        "store-outputs",
        "store the outputs of a fine-tuned model for texts, so that training does not need the model itself",
        """
        dynabert store-outputs TEACHER outputs --file train.csv
        dynabert store-outputs TEACHER outputs --file pairs.jsonl --text-column premise hypothesis --hidden-states
        """,
        takes="TEACHER",
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to create or to continue")
    parser.add_argument("--file", required=True, help="text, without labels: csv, tsv, json, jsonl, parquet or txt")
    _add_text_columns(parser)
    parser.add_argument("--hidden-states", action="store_true", help="also store hidden states")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help="float32 (default), float16 or bfloat16")
    parser.add_argument("--eval-batch-size", type=count, default=32, metavar="N", help="texts per batch (default 32)")


def _add_trim(commands: Any) -> None:
    parser = _command(
        commands,
        "trim",
        "keep only the tokens that texts need, in the model and its tokenizer",
        """
        dynabert trim MODEL small --file train.csv
        dynabert trim MODEL small --file train.jsonl test.jsonl --text-column premise hypothesis
        """,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to create")
    parser.add_argument(
        "--file",
        **_SEVERAL,
        required=True,
        help="all texts that the model is for: csv, tsv, json, jsonl, parquet or txt",
    )
    _add_text_columns(parser, "columns of texts or of lists of words")


def _add_export(commands: Any) -> None:
    parser = _command(
        commands,
        "export",
        "write sizes as ONNX, checked against torch",
        """
        dynabert export MODEL onnx --size w0.5-d0.5
        dynabert export MODEL onnx --all
        dynabert export MODEL onnx --all --int8 --file test.csv
        """,
    )
    parser.add_argument("output", metavar="OUTPUT", help="folder to create")
    which = parser.add_mutually_exclusive_group()
    _add_sizes(which, what="one or more, such as w0.5-d0.75 w1-d1 (default: the active one)")
    which.add_argument("--all", action="store_true", help="all trained sizes, with their weights stored once")
    parser.add_argument("--int8", action="store_true", help="also write an int8 version, which is measured on --file")
    _add_data(parser, required=False)


def _add_push(commands: Any) -> None:
    parser = _command(
        commands,
        "push",
        "publish a model, or some of its sizes, on the Hub; log in first with `hf auth login`",
        """
        dynabert push outputs/demo/dynabert/model you/dynabert-reviews
        dynabert push MODEL you/dynabert-reviews --size w0.5-d0.75 w0.25-d0.5
        dynabert push MODEL "you/reviews-{size}" --size w0.5-d0.75 --private
        """,
    )
    parser.add_argument(
        "repository", metavar="REPOSITORY", help="id on the Hub; with {size} in it, one repository per size"
    )
    _add_sizes(parser, what="push these sizes as extracted models, each to a branch or repository of its own")
    parser.add_argument("--private", action="store_true", help="make new repositories private")
    parser.add_argument("--revision", help="branch to push the whole model to")
    parser.add_argument("--space", action="store_true", help="also publish the page of `dynabert demo` as a Space")


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands,
        "demo",
        "open a page to try the sizes on texts; needs the extra demo",
        """
        dynabert demo outputs/demo/dynabert/model
        dynabert demo you/dynabert-reviews --port 7861 --no-browser
        """,
    )
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860")
    parser.add_argument("--no-browser", action="store_true", help="print the address only")


def _add_text_columns(parser: Any, what: str = "one column, or two for pairs or a text and its choices") -> None:
    what = f"{what} (default: the usual names, as in evaluate)"
    parser.add_argument("--text-column", **_SEVERAL, metavar="COLUMN", help=what)


def _add_sizes(parser: Any, what: str = "one or more, such as w0.5-d0.75 w1-d1 (default: all)") -> None:
    parser.add_argument("--size", dest="sizes", **_SEVERAL, metavar="SIZE", help=what)


def _add_data(parser: Any, *, required: bool) -> None:
    group = _add_text(parser, required=required)
    group.add_argument(
        "--label-column",
        metavar="COLUMN",
        help="names or numbers (default: label; for words: tags or ner_tags; for questions: answers)",
    )
    group.add_argument(
        "--metric",
        dest="metrics",
        **_SEVERAL,
        metavar="NAME",
        help="metrics instead of the default ones; for labels and values also macro_f1, spearman and others",
    )
    group.add_argument(
        "--label-order", **_SEVERAL, metavar="NAME", help="classes in the order of the model, if it does not name them"
    )


def _add_text(parser: Any, *, required: bool) -> Any:
    group = parser.add_argument_group("text")
    group.add_argument("--file", required=required, help="csv, tsv, json, jsonl, parquet or txt")
    group.add_argument(
        "--text-column",
        **_SEVERAL,
        metavar="COLUMN",
        help="one column, or two for pairs (default: text, or as GLUE names them: sentence, sentence1 sentence2, ...; "
        "for words: tokens; for questions: question context; for multiple choice: text choices)",
    )
    group.add_argument("--eval-batch-size", type=count, default=32, metavar="N", help="texts per batch (default 32)")
    return group


def _add_setting(parser: Any) -> None:
    """What is run and how; not given, it is None, which a saved profile takes as: any."""
    group = parser.add_argument_group("setting to measure")
    group.add_argument("--batch-size", **_SEVERAL, type=count, metavar="N", help="default 1")
    group.add_argument("--sequence-length", **_SEVERAL, type=count, metavar="N", help="tokens (default 128)")
    group.add_argument("--runtime", **_SEVERAL, metavar="NAME", help="torch (default), torch.compile, onnxruntime")
    group.add_argument("--dtype", **_SEVERAL, metavar="NAME", help="float32 (default), bfloat16, float16, int8")
    group.add_argument("--rounds", type=count, metavar="N", help="timed passes of each size (default 30)")
    group.add_argument("--device", metavar="NAME", help="where torch runs: cpu (default) or cuda")
    group.add_argument("--threads", type=count, metavar="N", help="threads within one operation")


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not possible; give at least 1")
    return number


def minutes(text: str) -> float:
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text} is not possible; give at least 0")
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an output in ASCII has no sign for "é"
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if getattr(arguments, "int8", False) and not arguments.file:
        parser.error("--int8 measures what it does to the metric: give labelled text with --file")
    if arguments.command == "export" and arguments.file and not arguments.int8:
        parser.error("--file has no effect without --int8, whose metric it measures: give both, or leave it out")
    before = signal.signal(signal.SIGTERM, _terminate)
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        from dynabert_hf.cli.commands import run

        return run(arguments)
    except KeyboardInterrupt:  # also while the package loads
        return 130
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> None:
    """End as ctrl-c does, so that what is half written is removed."""
    sys.exit(128 + number)


def _interrupt_again(lost: Any) -> None:
    """Send a signal anew that came in a callback, of which torch's exporter has many: Python drops what they raise."""
    if issubclass(lost.exc_type, KeyboardInterrupt | SystemExit):
        number = signal.SIGINT if lost.exc_type is KeyboardInterrupt else signal.SIGTERM
        Timer(0.1, interrupt_main, [number]).start()
    else:
        sys.__unraisablehook__(lost)


if __name__ == "__main__":
    sys.exit(main())
