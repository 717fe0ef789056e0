"""What the command `dynabert` does: call the package, and print. The command line itself is read by `dynabert_cli`."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from huggingface_hub.errors import HfHubHTTPError
from rich.console import Console
from tqdm.auto import tqdm
from transformers import AutoTokenizer
from transformers.utils import logging

from ..data.labelled_text import LabelledText, read_texts, tokenised_texts
from ..families import elastic_classes, longest_input, read_config
from ..files import check_writable_file, new_folder
from ..hub.card import refresh_sizes
from ..hub.facts import ModelCardFacts
from ..hub.push import push_folder, push_subnetworks
from ..model.configuration import ElasticConfigMixin
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import parse_size, size_name
from ..onnx.export import export_onnx
from ..onnx.quantization import quantize_onnx
from ..sizes.choosing import best_of, check_budgets, read_stored_metrics, recommend
from ..sizes.counting import count_flops, count_parameters
from ..sizes.evaluation import store_metrics
from ..sizes.metrics import LOWER, in_telling_order
from ..sizes.plots import plot_pareto
from ..sizes.profile_table import ProfileTable, check_suffix
from ..sizes.profiling import profile
from ..sizes.records import COSTS, SETTING, SizeRecord
from ..sizes.tables import quantity, table_of
from ..training.result import draw_pictures
from ..training.specialise import specialise
from .predictions import predict_texts
from .tables import (
    answer_as_json,
    precision_note,
    print_answer,
    print_setting,
    print_sizes,
    print_table,
)

NOTHING_FITS = 3
"""The exit code of `recommend` where no size is within the budgets."""

_EXPECTED = (ValueError, ImportError, OSError, RuntimeError, HfHubHTTPError)
"""What a person can do something about; anything else is a mistake of ours and shows where."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # to `run`, as where no console prints


def run(arguments: Namespace) -> int:
    """Run one command; an error that was to be expected becomes one line, and the exit code 1."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    verbosity_of_data = datasets.logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # why a file cannot be read is said by the error
    datasets.disable_progress_bars()
    try:
        code = _COMMANDS[arguments.command](arguments, _Console(highlight=False, markup=False)) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read the output has gone, as `head` does; Python flushes it once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except _EXPECTED as error:
        print(f"dynabert {arguments.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    finally:
        logging.set_verbosity(verbosity)
        datasets.logging.set_verbosity(verbosity_of_data)
        if bars:
            logging.enable_progress_bar()
            datasets.enable_progress_bars()


def show(arguments: Namespace, console: Console) -> None:
    """The sizes of a model with counts and stored metrics."""
    model = _shell(arguments.model)
    config = model.config
    stored = config.metrics or {}
    sizes = list(dict.fromkeys([*config.subnetworks, config.active]))
    rows = [
        {
            "size": size_name(size),
            "active": size == config.active,
            "layers": [asdict(layer) for layer in config.resolve(size)],
            "parameters": count_parameters(model, size).total,
            "flops": count_flops(model, size),
            "metrics": stored.get(size_name(size), {}),
        }
        for size in sizes
    ]
    about = {
        "model_class": type(model).__name__,
        "hidden_size": config.hidden_size,
        "active": size_name(config.active),
        "extracted_from": config.extracted_from,
        "teacher": stored.get("teacher", {}),
        "sizes": rows,
    }
    if arguments.json:
        _print_json(about)
        return
    full = config.stored_layers
    heads, neurons = (max(getattr(layer, of) for layer in full) for of in ("heads", "neurons"))
    console.print(f"{about['model_class']}: {len(full)} layers of {heads} heads and {neurons} neurons")
    if config.extracted_from:
        console.print("extracted from {parent}, size {size}".format(**config.extracted_from), soft_wrap=True)
    print_sizes(console, rows, about["teacher"])


def evaluate(arguments: Namespace, console: Console) -> None:
    """Metrics of sizes on a file of labelled text."""
    config_file = Path(arguments.model, "config.json")
    if arguments.store:
        if not config_file.is_file():
            raise ValueError(f"--store needs the folder of a model; {arguments.model!r} is none. Download it first.")
        check_writable_file(config_file)
    model = _load(arguments.model)
    text = _labelled_text(arguments, model)
    metrics = {}
    for size in tqdm(_sizes(arguments, model), desc="Evaluating"):
        with model.subnetwork(size):
            metrics[size_name(size)] = text.evaluate(model)
    if arguments.store:
        kept = store_metrics(config_file, metrics)
        _refresh_card(arguments, model, metrics, num_rows=len(text.labels))
        if kept:
            note = f"Other metrics of {', '.join(kept)} stay as they were stored; they may come from other data."
            print(note, file=sys.stderr)
    if arguments.json:
        _print_json(metrics)
        return
    console.print(table_of([{"size": size, **own} for size, own in reversed(metrics.items())]))
    stored = "; stored" if arguments.store else ""
    console.print(f"{len(text.labels)} texts of {arguments.file}{stored}", soft_wrap=True)


def _refresh_card(arguments: Namespace, model: Any, metrics: dict[str, dict[str, float]], *, num_rows: int) -> None:
    """Show on the card beside a model what was measured just now, and on which rows."""
    names = list(dict.fromkeys([*map(size_name, model.config.subnetworks), *metrics]))
    records = [SizeRecord.counted(model, name, metrics.get(name, {})) for name in names]
    told = {"dataset_name": Path(arguments.file).name, "eval_rows": num_rows}
    facts = ModelCardFacts.from_records(model, records, **told)
    folder = Path(arguments.model)
    if refresh_sizes(folder, facts):
        refresh_sizes(folder, replace(facts, pictures=draw_pictures(facts, folder)))


def predict(arguments: Namespace, console: Console) -> None:
    """What one size predicts for texts."""
    if arguments.output:
        if Path(arguments.output).suffix != ".jsonl":
            raise ValueError(f"{arguments.output!r} is no name for predictions. Give one that ends in .jsonl.")
        check_writable_file(arguments.output)
    model = _load(arguments.model)
    if arguments.size:
        model.set_active(arguments.size)
    columns = arguments.text_column or ["text"]
    rows = read_texts(Path(arguments.file), columns)
    found = predict_texts(model, _needed_tokenizer(arguments), rows, batch_size=arguments.eval_batch_size)
    records = [{**dict(zip(columns, row, strict=True)), **one} for row, one in zip(rows, found, strict=True)]
    if arguments.json:
        _print_json(records)
    elif not arguments.output:
        console.print(table_of([{name: _short(value) for name, value in record.items()} for record in records]))
        console.print(f"{len(records)} rows of {arguments.file}, size {size_name(model.active)}", soft_wrap=True)
    if arguments.output:
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        Path(arguments.output).write_text(lines, encoding="utf-8")


def _short(value: Any) -> Any:
    """A value for a cell: numbers as they are, the rest as text of 40 signs at most."""
    if isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:39] + "…"


def profile_sizes(arguments: Namespace, console: Console) -> None:
    """Measured latency and memory of sizes."""
    if arguments.output:
        check_suffix(arguments.output)
        check_writable_file(arguments.output)
    model = _load(arguments.model)
    table = _measure(arguments, model, _sizes(arguments, model))
    if arguments.json:
        print(table.to_json(), end="")
    else:
        print_table(console, table)
    if arguments.output:
        table.save(arguments.output)


def recommend_size(arguments: Namespace, console: Console) -> int:
    """The best size within the budgets."""
    given = {cost: getattr(arguments, cost) for cost in COSTS}
    budgets = {cost: budget for cost, budget in given.items() if budget is not None}
    drop = arguments.max_drop
    check_budgets(budgets, drop)
    if arguments.plot:
        _check_picture(arguments.plot)
    model = _shell(arguments.model)
    metric = arguments.metric or _default_metric(model.config)
    greater_is_better = _told_direction(arguments, model.config, metric)
    stored = read_stored_metrics(model.config, metric=metric)
    costs = _costs(arguments, model, list(stored))
    records = costs.with_metrics(stored, metric=metric)
    best = None
    if drop is not None:  # also where the best size was not profiled
        best = best_of(metric, stored.values(), greater_is_better=greater_is_better)
    told: dict[str, Any] = {"metric": metric, "greater_is_better": greater_is_better}
    answer = recommend(records, **budgets, max_drop=drop, reference=best, **told)
    one = costs.records[0]
    note = precision_note(metric, one.setting.get("dtype", "float32"))
    if arguments.json:
        _print_json(
            {
                **answer_as_json(answer, metric=metric),
                "setting": {name: one.setting.get(name) for name in SETTING},
                "note": note,
            }
        )
    else:
        print_answer(console, answer, records, **told)
        print_setting(console, one)
        if note:
            console.print(note, soft_wrap=True)
    if arguments.plot:
        cost = next(iter(budgets), "flops" if one.latency_ms is None else "latency_ms")
        title = f"{metric.replace('_', ' ').capitalize()} of the sizes of {Path(arguments.model).name}"
        teacher = (model.config.metrics or {}).get("teacher", {}).get(metric)
        plot_pareto(
            [record for record in records if cost in record.costs],
            arguments.plot,
            cost=cost,
            budget=budgets.get(cost),
            choice=answer.choice,
            teacher=teacher,
            title=title,
            **told,
        )
    return 0 if answer.choice else NOTHING_FITS


def extract(arguments: Namespace, console: Console) -> None:
    """One size as a model of its own."""
    with new_folder(Path(arguments.output)) as folder:
        model = _load(arguments.model)
        small = model.extract(arguments.size)
        if arguments.stock:
            small.to_backbone().save_pretrained(folder)
        else:
            small.save_pretrained(folder, with_code=True)
        tokenizer = _tokenizer(arguments.model)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        size_mb = _weights_mb(folder)
    about = {
        "folder": arguments.output,
        "size": arguments.size,
        "parameters": small.num_parameters(),
        "weights_mb": round(size_mb, 2),
        "tokenizer": tokenizer is not None,
    }
    if arguments.json:
        _print_json(about)
        return
    console.print(
        f"{arguments.output}: {arguments.size}, {quantity(small.num_parameters())} parameters, {size_mb:.1f} MB of "
        f"weights{'' if tokenizer else ', no tokenizer, since the model has none'}",
        soft_wrap=True,
    )


def specialise_size(arguments: Namespace, console: Console) -> None:
    """One size, distilled on alone, as a model of its own."""
    with new_folder(Path(arguments.output)) as folder:
        model, tokenizer = _load(arguments.model), _needed_tokenizer(arguments)
        model.config.resolve(arguments.size)
        rows = tokenised_texts(arguments.file, model, tokenizer, text_columns=arguments.text_column or ["text"])
        teacher = None if arguments.teacher is None else type(model).from_pretrained(arguments.teacher)
        with redirect_stdout(sys.stderr):  # where the trainer's bar and logs belong
            small = specialise(
                model,
                arguments.size,
                teacher=teacher,
                train_dataset=rows,
                processing_class=tokenizer,
                num_train_epochs=arguments.epochs,
                learning_rate=arguments.learning_rate,
                per_device_train_batch_size=arguments.train_batch_size,
            )
        small.save_pretrained(folder, with_code=True)
        tokenizer.save_pretrained(folder)
    about = {"folder": arguments.output, "size": arguments.size, "parameters": small.num_parameters()}
    if arguments.json:
        _print_json({**about, "texts": len(rows), "epochs": arguments.epochs})
        return
    learned = f"distilled on {len(rows)} texts for {arguments.epochs:g} epochs"
    console.print(
        f"{arguments.output}: {arguments.size}, {quantity(small.num_parameters())} parameters, {learned}",
        soft_wrap=True,
    )


def export(arguments: Namespace, console: Console) -> None:
    """Sizes as ONNX, and in int8 with its accuracy if asked."""
    model = _load(arguments.model)
    text = _labelled_text(arguments, model) if arguments.int8 else None
    sizes = _sizes(arguments, model) if arguments.all else arguments.sizes
    result = export_onnx(
        model,
        arguments.output,
        sizes=sizes,
        tokenizer=_tokenizer(arguments.model),
    )
    rows = {
        size: {"file": path.name, "max_difference": result.max_differences[size]} for size, path in result.files.items()
    }
    if text is not None:
        metric = next(iter(text.evaluate(model)))
        quantised = quantize_onnx(result.folder, lambda runner: text.evaluate_onnx(runner)[metric])
        for size, one in quantised.items():
            rows[size] |= {
                "int8_file": one.path.name,
                "int8_mb": round(one.size_mb, 2),
                metric: one.float32_accuracy,
                f"int8_{metric}": one.accuracy,
            }
    if arguments.json:
        _print_json({"folder": arguments.output, "sizes": rows})
        return
    console.print(table_of([{"size": size, **row} for size, row in rows.items()]))
    agree = "every size agrees with torch; max_difference is the largest difference"
    console.print(f"{arguments.output}: {agree}", soft_wrap=True)


def push(arguments: Namespace, console: Console) -> None:
    """A model, or chosen sizes of it, to the Hub."""
    private = arguments.private or None
    if arguments.sizes:
        if arguments.revision:
            raise ValueError("--revision goes with the whole model; a size has a branch of its own name. Leave it out.")
        model = _load(arguments.model)
        done = push_subnetworks(
            model,
            arguments.repository,
            arguments.sizes,
            processing_class=_tokenizer(arguments.model),
            facts=None,
            private=private,
        )
    else:
        done = {"all": push_folder(arguments.model, arguments.repository, private=private, revision=arguments.revision)}
    if arguments.json:
        _print_json(done)
        return
    for size, address in done.items():
        console.print(f"{size}: {address}", soft_wrap=True)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2))


def _config(name: str) -> Any:
    """The elastic configuration of a folder or Hub id."""
    try:
        config = read_config(name)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise OSError(
            f"{name!r} holds no model: {first} Give a folder that save_pretrained or train_dynabert wrote, or a Hub id."
        ) from error
    if not isinstance(config, ElasticConfigMixin):
        raise ValueError(
            f"{name!r} holds a model of type {config.model_type!r}, which has one size only. Give an elastic model; "
            "train_dynabert makes one of a fine-tuned BERT or RoBERTa."
        )
    return config


def _class(config: Any) -> Any:
    """The class that a checkpoint was saved from."""
    known = {each.__name__: each for each in elastic_classes()}
    name = (config.architectures or ["none"])[0]
    if name not in known:
        raise ValueError(f"The configuration names the class {name!r}. Possible is one of this package; save again.")
    return known[name]


def _shell(name: str) -> ElasticModelMixin:
    """The model without its weights: enough to count."""
    config = _config(name)
    with torch.device("meta"):
        return _class(config)(config)


def _load(name: str) -> Any:
    return _class(_config(name)).from_pretrained(name).eval()


def _tokenizer(name: str) -> Any:
    """The tokenizer beside a model; None if a folder has none."""
    files = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json")
    if Path(name).is_dir() and not any(Path(name, file).exists() for file in files):
        return None
    return AutoTokenizer.from_pretrained(name)


def _needed_tokenizer(arguments: Namespace) -> Any:
    tokenizer = _tokenizer(arguments.model)
    if tokenizer is None:
        raise ValueError(f"{arguments.model!r} has no tokenizer. Save the one that it was trained with beside it.")
    return tokenizer


def _labelled_text(arguments: Namespace, model: ElasticModelMixin) -> LabelledText:
    return LabelledText.from_file(
        arguments.file,
        model,
        _needed_tokenizer(arguments),
        text_columns=arguments.text_column,
        label_column=arguments.label_column,
        label_order=arguments.label_order,
        batch_size=arguments.eval_batch_size,
    )


def _sizes(arguments: Namespace, model: ElasticModelMixin) -> list[Any]:
    """The sizes that were named, checked before anything is run; else all."""
    if not arguments.sizes:
        return list(model.config.subnetworks or (model.active,))
    for size in arguments.sizes:
        model.config.resolve(size)
    return [parse_size(size) for size in arguments.sizes]


def _check_picture(path: str) -> None:
    """Whether a picture can be written there, to be known before anything is measured for it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            '--plot needs matplotlib, which is not installed. Install it with `pip install "dynabert_hf[plots]"`.'
        ) from error
    possible = [f".{suffix}" for suffix in Figure().canvas.get_supported_filetypes()]
    if Path(path).suffix.lower() not in possible:
        raise ValueError(f"{path!r} is no name for a picture. Possible suffixes are {possible}; give one.")
    check_writable_file(path)


def _measure(arguments: Namespace, model: ElasticModelMixin, sizes: Sequence[Any]) -> ProfileTable:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return profile(
        model,
        sizes,
        batch_sizes=arguments.batch_size or (1,),
        sequence_lengths=arguments.sequence_length or (_usual_length(model),),
        runtimes=arguments.runtime or ("torch",),
        dtypes=arguments.dtype or ("float32",),
        rounds=arguments.rounds,
    )


def _usual_length(model: ElasticModelMixin) -> int:
    return min(128, longest_input(model.config))


def _costs(arguments: Namespace, model: ElasticModelMixin, sizes: Sequence[Any]) -> ProfileTable:
    """Costs of sizes under one setting: saved ones, else measured ones if a budget needs them, else counted ones."""
    given = {name: getattr(arguments, name) for name in SETTING if getattr(arguments, name)}
    several = {name: values for name, values in given.items() if len(values) > 1}
    if several:
        raise ValueError(f"A size is chosen under one setting, but {several} were given. Give one value of each.")
    if arguments.profile:
        saved = ProfileTable.from_json(Path(arguments.profile).read_text(encoding="utf-8"))
        return saved.select(**{name: value for name, (value,) in given.items()})
    if arguments.latency_ms is not None or arguments.memory_mb is not None:
        return _measure(arguments, _load(arguments.model), sizes)
    shape = [
        given.get(name, [default])[0]
        for name, default in (("batch_size", 1), ("sequence_length", _usual_length(model)))
    ]
    batch_size, sequence_length = shape
    return ProfileTable(
        tuple(SizeRecord.counted(model, size, batch_size=batch_size, sequence_length=sequence_length) for size in sizes)
    )


def _told_direction(arguments: Namespace, config: Any, metric: str) -> bool | None:
    """Whether more of a metric is better, as the command line or the model tells; None if neither does."""
    if arguments.lower_is_better or arguments.higher_is_better:
        return bool(arguments.higher_is_better)
    direction = (config.metric_directions or {}).get(metric)
    return None if direction is None else direction != LOWER


def _default_metric(config: Any) -> str:
    """The most telling stored metric."""
    stored = [own for name, own in (config.metrics or {}).items() if name != "teacher"]
    names = [name for own in stored for name in own]
    if not names:
        raise ValueError(
            "The model stores no metrics to choose by. Measure them with `dynabert evaluate MODEL --file FILE --store`."
        )
    return in_telling_order(names)[0]


def _weights_mb(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20


_COMMANDS: dict[str, Callable[[Namespace, Console], int | None]] = {
    "show": show,
    "evaluate": evaluate,
    "predict": predict,
    "profile": profile_sizes,
    "recommend": recommend_size,
    "extract": extract,
    "specialise": specialise_size,
    "export": export,
    "push": push,
}
