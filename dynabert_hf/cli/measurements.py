"""The commands that tell or measure what sizes are worth and cost: `show`, `evaluate` and `profile`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tqdm.auto import tqdm

from ..families import longest_input, with_others
from ..files import check_writable_file, finite
from ..model.configuration import REFERENCES
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import size_name
from ..sizes.baseline import BASELINE, baseline_on
from ..sizes.counting import count_flops, count_parameters
from ..sizes.evaluation import store_metrics, stored_metrics
from ..sizes.measured_rows import in_words, rows_in_words
from ..sizes.metrics import in_telling_order
from ..sizes.profile_table import ProfileTable, check_suffix
from ..sizes.profiling import check_setting, profile
from ..sizes.records import SETTING
from ..sizes.tables import table_of
from ..tasks import task_of
from ..training.result import refresh_card
from .inputs import labelled_text, load_model, load_shell, named_sizes, stored_config
from .tables import print_json, print_sizes, print_table, then


def show(arguments: Namespace, console: Console) -> None:
    """The sizes of a model with counts and stored metrics."""
    model = load_shell(arguments.model)
    config = model.config
    stored = stored_metrics(config)
    measured = (name for name in stored if name not in REFERENCES)
    sizes = with_others(config.subnetworks, (config.active, *measured), config)
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
    references = {name: stored[name] for name in REFERENCES if name in stored}
    about = {
        "model_class": type(model).__name__,
        "hidden_size": config.hidden_size,
        "active": size_name(config.active),
        "extracted_from": config.extracted_from,
        "trimmed_vocabulary": config.trimmed_vocabulary,
        "teacher": {},
        **references,
        "metric_rows": config.metric_rows or {},
        "sizes": rows,
    }
    if arguments.json:
        print_json(about)
        return
    full = config.stored_layers
    heads, neurons = (max(getattr(layer, of) for layer in full) for of in ("heads", "neurons"))
    console.print(f"{about['model_class']}: {len(full)} layers of {heads} heads and {neurons} neurons")
    if config.extracted_from:
        console.print("extracted from {parent}, size {size}".format(**config.extracted_from), soft_wrap=True)
    if config.trimmed_vocabulary:
        tokens = [config.trimmed_vocabulary[when]["tokens"] for when in ("after", "before")]
        console.print("vocabulary trimmed to {:,} of {:,} tokens".format(*tokens), soft_wrap=True)
    print_sizes(console, rows, references)
    shown = dict(reversed(stored.items()))
    if shown:
        console.print(in_words(shown, config.metric_rows or {}), soft_wrap=True)


def evaluate(arguments: Namespace, console: Console) -> None:
    """Metrics of sizes on a file of labelled text."""
    config_file = stored_config(arguments) if arguments.store else None
    model = load_model(arguments.model)
    text = labelled_text(arguments, model)
    baseline = baseline_on(model, text.labels, text.metrics)
    metrics = {}
    for size in tqdm(named_sizes(arguments, model), desc="Evaluating", disable=None):
        with model.subnetwork(size):
            metrics[size_name(size)] = text.evaluate(model)
    if config_file is not None:
        found = {**metrics, **({"baseline": baseline} if baseline else {})}
        keeps_others = store_metrics(config_file, found, rows_in_words(len(text), Path(arguments.file).name))
        refresh_stored(Path(arguments.model), model)
        left_out = [f"{name} of {size}" for size, own in found.items() for name in own if finite(own[name]) is None]
        if left_out:
            print(f"Not finite, and so not stored: {', '.join(left_out)}.", file=sys.stderr)
        if keeps_others:
            print("All other stored metrics stay; `dynabert show` says of which rows they are.", file=sys.stderr)
    if arguments.json:
        print_json(metrics)
        return
    shown = list(metrics.items()) if arguments.sizes else reversed(metrics.items())
    rows = [{"size": size, **{name: own[name] for name in in_telling_order(own)}} for size, own in shown]
    console.print(table_of(rows, last=[{"size": "baseline", **baseline}] if baseline else []))
    if baseline:
        console.print(f"baseline: {BASELINE}", soft_wrap=True)
    stored = "; stored" if arguments.store else ""
    console.print(f"{len(text)} {unit_of(model)} of {arguments.file}{stored}", soft_wrap=True)


def unit_of(model: ElasticModelMixin) -> str:
    """What the rows of a file hold that the model reads."""
    return "questions" if task_of(model).predicts == "span" else "texts"


def refresh_stored(folder: Path, model: Any) -> None:
    """Show on the card in a folder what the configuration there holds now, and on which rows each was measured.

    Args:
        folder: The folder of the model.
        model: The model of that folder, as it was loaded; its configuration is brought up to date, in place.
    """
    stored = type(model.config).from_pretrained(folder)
    for name in ("metrics", "metric_rows", "metric_order"):
        setattr(model.config, name, getattr(stored, name))
    refresh_card(folder, model)


def profile_sizes(arguments: Namespace, console: Console) -> None:
    """Measured latency and memory of sizes."""
    if arguments.output:
        check_suffix(arguments.output)
        check_writable_file(arguments.output)
    model = load_model(arguments.model)
    table = measure(arguments, model, named_sizes(arguments, model))
    with then(partial(table.save, arguments.output) if arguments.output else None):
        if arguments.json:
            print(table.to_json(), end="")
        else:
            print_table(console, table)


def measure(arguments: Namespace, model: ElasticModelMixin, sizes: Sequence[Any]) -> ProfileTable:
    if arguments.threads:
        use_threads(arguments.threads)
    return profile(
        model,
        sizes,
        batch_sizes=arguments.batch_size or (1,),
        sequence_lengths=arguments.sequence_length or (usual_length(model),),
        runtimes=arguments.runtime or ("torch",),
        dtypes=arguments.dtype or ("float32",),
        device=arguments.device,
        rounds=arguments.rounds or 30,
    )


def use_threads(threads: int) -> None:
    """Let torch use so many threads within one operation.

    Raises:
        ValueError: If there are fewer processors: more measure nothing of use, and far too many end the process.
    """
    processors = os.cpu_count() or threads
    if threads > processors:
        raise ValueError(
            f"threads={threads} is not possible. This machine has {processors} processors. Give at most as many, or "
            "leave it out."
        )
    torch.set_num_threads(threads)


def one_setting(arguments: Namespace, doing: str) -> dict[str, Any]:
    """What was given of the setting and of how it is measured, one value of each.

    Raises:
        ValueError: If there are several of one; `doing` says for what.
    """
    given = {name: getattr(arguments, name) for name in (*SETTING, "rounds") if getattr(arguments, name)}
    for name, values in given.items():
        if isinstance(values, list) and len(values) > 1:
            raise ValueError(f"{doing} under one setting, but {name}={values} was given. Give one value of it.")
    return {name: values[0] if isinstance(values, list) else values for name, values in given.items()}


def shape_of(setting: Mapping[str, Any], model: ElasticModelMixin) -> dict[str, Any]:
    """The batch size and the tokens to count operations for.

    Raises:
        ValueError: If the model does not take so many tokens, or something was given that counts do not depend on.
    """
    usual = {"batch_size": 1, "sequence_length": usual_length(model)}
    if unused := [f"--{name}" for name in setting if name not in usual]:
        raise ValueError(
            f"These have no effect where costs are counted from shapes: {', '.join(unused)}. Possible are --batch-size "
            "and --sequence-length. Leave the others out, or give a budget that is measured: --latency-ms."
        )
    shape = {name: setting.get(name, value) for name, value in usual.items()}
    check_setting(model, **shape)
    return shape


def usual_length(model: ElasticModelMixin) -> int:
    return min(128, longest_input(model.config))
