"""Make twelve sizes of a pre-trained BERT, and measure them.

It fine-tunes, rewires, distils, compares, saves, reloads and classifies.

    python examples/quickstart.py           # a third of the embedded data
    python examples/quickstart.py --full    # all of the data
    python examples/quickstart.py --smoke   # two minutes: does everything work?
    python examples/quickstart.py --model bert-base-uncased --dataset imdb
    python examples/quickstart.py --train-file train.csv --test-file test.csv \\
        --text-column review

The test part is scored once, at the end. It is not used for training, for
importance or for a choice.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import embedded
import torch
from datasets import DatasetDict
from glue_data import label_names, named_alike, with_labels
from recipe_data import InputError, load_named
from recipe_training import a_new_head, check_same_settings
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from script_errors import in_one_line
from transformers import (
    AutoModelForSequenceClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from dynabert_hf import measure_latency, train_dynabert
from dynabert_hf.cli.inputs import config_of, needed_tokenizer
from dynabert_hf.cli.options import options_of, with_options
from dynabert_hf.data.columns import draw, drawn_rows
from dynabert_hf.data.fingerprints import fingerprint_of_rows, fingerprint_of_weights
from dynabert_hf.data.text_files import read_rows
from dynabert_hf.families import anatomy_of, longest_input
from dynabert_hf.files import check_writable_folder, write_whole
from dynabert_hf.training.callbacks import bars_of_files_in_terminals, show_progress

SENTENCES = ["A warm, funny film that never lets go.", "Dull, predictable and far too long."]
NUM_SHOWN, SHOWN_CHARACTERS = 3, 1000
"""Sentences of data that were named that are classified at the end, and what is shown of a long one."""

MAX_LENGTH = 128
LATENCY_LENGTH = 32
"""Tokens of a text at most, and of the one that is timed, where the model reads so many."""

TRAINING = {"learning_rate": 4e-4, "num_train_epochs": 3}
FULL_TRAINING = {**TRAINING, "num_train_epochs": 2}
BATCH_SIZE = 32
STEPS = 282
"""Steps of the demo on the embedded data, for which its epochs and rates were chosen."""

STEPS_PER_CLASS = 15
"""Steps of fine-tuning for each class, where there are many."""

MOST_EPOCHS, PATIENCE = 30, 3
"""Epochs at most, and those after which fine-tuning ends if the sentences held out are predicted no better."""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sentences",
        nargs="*",
        help=f"sentences to classify at the end (default: {NUM_SHOWN} of the test data that you name)",
    )
    names = ", ".join(embedded.MODELS)
    parser.add_argument(
        "--model", default="minilm", help=f"folder or Hub id of an encoder, or one embedded: {names} (default: minilm)"
    )
    parser.add_argument("--dataset", help="folder or Hub id of a data set with the splits train and test or validation")
    parser.add_argument("--train-file", help="csv, json or parquet file to train on, instead of --dataset")
    parser.add_argument("--test-file", help="file of the same form to measure on")
    parser.add_argument("--text-column", help="of data that you name (default: text)")
    parser.add_argument("--label-column", help="of data that you name (default: label)")
    parser.add_argument(
        "--num-train", type=int, help="training sentences to use (default: 3000 embedded ones, else all)"
    )
    parser.add_argument("--output-dir", type=Path, help="default: outputs/demo, outputs/smoke or outputs/full")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--smoke", action="store_true", help="a few steps on a few sentences")
    size.add_argument("--full", action="store_true", help="all of the data")
    arguments = parser.parse_args()
    check_together(parser, arguments)
    arguments.text_column = arguments.text_column or "text"
    arguments.label_column = arguments.label_column or "label"
    return arguments


def check_together(parser, arguments):
    """Refuse what cannot be, or would not be heeded."""
    train, test, num_train = arguments.train_file, arguments.test_file, arguments.num_train
    columns = arguments.text_column or arguments.label_column
    for message, applies in {
        "--dataset was given beside files. Give the one or the other.": arguments.dataset and (train or test),
        "--train-file and --test-file go together. Give both.": bool(train) != bool(test),
        "The embedded data have one text and one label column. Name data, too.": columns and not names_data(arguments),
        "--num-train has no effect with --smoke. Leave one of them out.": arguments.smoke and num_train is not None,
        f"--num-train {num_train} is not possible. Give at least 2.": num_train is not None and num_train < 2,
        "Several processes were launched, and this script is made for one. Start it by python, or train by run_glue.py "
        "in several.": os.environ.get("WORLD_SIZE", "1") != "1",
        f"--seed {arguments.seed} is not possible. Give 0 to {2**32 - 1}.": not 0 <= arguments.seed < 2**32,
    }.items():
        if applies:
            parser.error(message)


def names_data(arguments):
    """Whether the data are the caller's, not the embedded ones."""
    return bool(arguments.dataset or arguments.train_file)


def settings_of(arguments):
    """What differs between a smoke run, the default and a full run."""
    name = "smoke" if arguments.smoke else "full" if arguments.full else "demo"
    folder = arguments.output_dir or Path("outputs") / name
    if arguments.smoke:
        steps = {"max_steps": 3}
        sizes = {"num_train": 96, "num_test": 64, "rounds": 3}
        return {"folder": folder, "teacher": steps, "training": steps, **sizes}
    is_part = arguments.num_train is None and not names_data(arguments) and not arguments.full
    sizes = {"num_train": 3000 if is_part else arguments.num_train, "num_test": None, "rounds": 30}
    return {"folder": folder, "teacher": {}, "training": FULL_TRAINING if arguments.full else TRAINING, **sizes}


def scaled(settings, data):
    """Settings for data that were named: enough steps however few sentences there are, more where classes are many.

    A tenth of the training sentences is held out of fine-tuning, which ends when these are predicted no better.
    """
    num_train = len(data["train"])
    steps_per_epoch = math.ceil(num_train / BATCH_SIZE)
    wanted = max(STEPS, STEPS_PER_CLASS * data["train"].features["label"].num_classes)
    given = settings["training"]["num_train_epochs"]

    def epochs(steps, least):
        return min(MOST_EPOCHS, max(least, math.ceil(steps / steps_per_epoch)))

    teacher, sizes = epochs(wanted, 3), epochs(STEPS, given)
    return {
        **settings,
        "teacher": {"num_train_epochs": teacher},
        "training": {**settings["training"], "num_train_epochs": sizes},
        "num_held_out": num_train // 10,
    }


def load_data(arguments, settings):
    """The splits train and test with the columns text and label, of the embedded data or those that were named."""
    num_train = settings["num_train"]
    if not names_data(arguments):
        data = embedded.movie_snippets(num_train=num_train, seed=arguments.seed)
        data = DatasetDict(train=data["train"], test=data["test"])
    else:
        data = load_given(arguments)
        if num_train is not None:
            data["train"] = draw(data["train"], num_train, arguments.seed)
    if settings["num_test"] is not None:
        data["test"] = draw(data["test"], settings["num_test"], arguments.seed)
    return data


def load_given(arguments):
    """A data set by Hub id or by files, its columns renamed to text and label, its classes those of training."""
    if arguments.dataset:
        data = load_named(arguments.dataset, None, option="--dataset")
        test = next((split for split in ("test", "validation") if split in data), None)
        if test is None or "train" not in data:
            raise InputError(
                f"{arguments.dataset} has the splits {sorted(data)}; needed are train and test or validation."
            )
        data = DatasetDict(train=data["train"], test=data[test])
    else:
        data = DatasetDict(train=read_rows(arguments.train_file), test=read_rows(arguments.test_file))
    for split, part in data.items():
        for column in (arguments.text_column, arguments.label_column):
            if column not in part.column_names:
                raise InputError(
                    f"The {split} data has no column {column!r}, only {part.column_names}. "
                    "Name it with --text-column or --label-column."
                )
    labels = label_names(data["train"], arguments.label_column)
    data = named_alike(data, (arguments.text_column,), arguments.label_column, tests=())
    data = with_labels(data, labels, column=arguments.label_column)
    if "label" not in data["test"].column_names:
        raise InputError(
            f"Column {arguments.label_column!r} of the test data holds no labels, only -1 or nothing, so that no size "
            "could be measured. Give test data with labels, for example by --train-file and --test-file."
        )
    return data


def fine_tune(base, data, tokenizer, settings, seed):
    """The teacher: the pre-trained model, fine-tuned on the training part; loaded if an earlier run made this very one.

    Raises:
        InputError: If the folder holds a teacher that was made of another model or data, or nobody knows of what.
    """
    folder, path = settings["folder"] / "teacher", settings["folder"] / "settings.json"
    labels = data["train"].features["label"].names
    training = {"num_train_epochs": 3, "learning_rate": 5e-5, **settings["teacher"]}
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: label for label, name in enumerate(labels)}}
    with a_new_head():
        teacher = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(labels), **named)
    made_of = {"model": str(base), "weights": fingerprint_of_weights(teacher.base_model), "labels": labels}
    rows = fingerprint_of_rows(data["train"].select_columns(["input_ids", "label"]))
    made_of |= {"sentences": len(data["train"]), "rows": rows, "seed": seed, "training": training}
    if path.exists():
        check_same_settings(path, made_of)
    elif folder.exists():
        raise InputError(
            f"{str(settings['folder'])!r} holds a teacher, but no {path.name} that says what it was made of. Give "
            "another folder by --output-dir, or remove teacher and dynabert from this one to begin anew."
        )
    if folder.exists():
        return AutoModelForSequenceClassification.from_pretrained(folder)
    train, watching, watched = data["train"], {"save_strategy": "no"}, {}
    if settings.get("num_held_out"):
        rows, count = drawn_rows(train, len(train), seed), settings["num_held_out"]
        watched = {"eval_dataset": train.select(rows[:count]), "callbacks": [EarlyStoppingCallback(PATIENCE)]}
        watching = {"load_best_model_at_end": True, "save_total_limit": 1, "eval_strategy": "epoch"}
        watching["save_strategy"] = "epoch"
        train = train.select(rows[count:])
    args = TrainingArguments(
        settings["folder"] / "teacher-training",
        **training,
        **watching,
        per_device_train_batch_size=BATCH_SIZE,
        warmup_steps=0.1,
        train_sampling_strategy="group_by_length",
        report_to="none",
        logging_steps=50,
        dataloader_pin_memory=torch.accelerator.is_available(),
        seed=seed,
    )
    trainer = Trainer(
        teacher,
        args,
        train_dataset=train,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
        **watched,
    )
    show_progress(trainer)
    trainer.train()
    shutil.rmtree(settings["folder"] / "teacher-training", ignore_errors=True)
    path.write_text(json.dumps(made_of, indent=2))
    write_whole(folder, teacher.save_pretrained)
    return teacher


def main():
    arguments = parse_arguments()
    reword = partial(with_options, options=options_of(arguments))
    with in_one_line("quickstart.py", reword), bars_of_files_in_terminals():
        run(arguments)


def run(arguments):
    """All steps, from the data to the classified sentences."""
    console = Console()
    set_seed(arguments.seed)
    settings = settings_of(arguments)
    folder = settings["folder"]
    check_writable_folder(folder)
    data = load_data(arguments, settings)
    if names_data(arguments) and not arguments.smoke:
        settings = scaled(settings, data)
    sizes = {split: len(part) for split, part in data.items()}
    console.print(f"[bold]Data[/bold] {sizes}")

    started = time.time()
    base = embedded.model_folder(arguments.model)
    config = config_of(base)
    anatomy_of(config)  # refuses what cannot be made elastic
    tokenizer, length = needed_tokenizer(base), min(MAX_LENGTH, longest_input(config))
    data = data.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=length), batched=True)
    console.print(f"[bold]1/4[/bold] Fine-tuning the teacher, {escape(base)}", soft_wrap=True)
    teacher = fine_tune(base, data, tokenizer, settings, arguments.seed)
    console.print("[bold]2/4[/bold] Rewiring, then distilling the teacher into all sizes")
    result = train_dynabert(
        teacher,
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
        output_dir=folder / "dynabert",
        seed=arguments.seed,
        **settings["training"],
    )
    console.print("[bold]3/4[/bold] Measuring the latency of every size")
    rows = measured_rows(result, rounds=settings["rounds"])
    report = {
        "teacher": result.teacher_metrics,
        "sub_networks": rows,
        "splits": sizes,
        "seed": arguments.seed,
        "model": base,
        "minutes": round((time.time() - started) / 60, 1),
    }
    (folder / "results.json").write_text(json.dumps(report, indent=2))
    write_card(result, rows, folder / "dynabert" / "model", arguments)
    show(console, report)
    left = {"Table": "results.json", "Picture": "dynabert/model/pareto.png", "Model": "dynabert/model"}
    for what, path in left.items():
        if (folder / path).exists():  # without matplotlib there is no picture
            console.print(f"{what}: {escape(str(folder / path))}", soft_wrap=True)
    console.print("[bold]4/4[/bold] Loading the model in a new process, at three sizes")
    sentences, labels = shown(arguments, data["test"])
    command = [sys.executable, str(Path(__file__).with_name("classify.py")), *(f"--label={label}" for label in labels)]
    subprocess.run([*command, "--", str(folder / "dynabert" / "model"), *sentences], check=True)


def shown(arguments, test):
    """Sentences to classify at the end, and their labels if these are known: a few of the test data that were named."""
    if arguments.sentences or not names_data(arguments):
        return arguments.sentences or SENTENCES, []
    rows = draw(test, NUM_SHOWN, arguments.seed)
    return [text[:SHOWN_CHARACTERS] for text in rows["text"]], rows.features["label"].int2str(rows["label"][:])


def timed_length(model):
    """Tokens of the text that sizes are timed on."""
    return min(LATENCY_LENGTH, longest_input(model.config))


def measured_rows(result, *, rounds):
    """One record a size, from small to large: what it achieves, counts and takes."""
    model, sizes = result.model, [row.size for row in result.rows]
    latencies = measure_latency(model, sizes, batch_size=1, sequence_length=timed_length(model), rounds=rounds)
    full = latencies[-1].latency_ms
    return [
        {
            "width": row.size.width,
            "depth": row.size.depth,
            "accuracy": row.metrics["accuracy"],
            "parameters": row.parameters,
            "flops": row.flops,
            "latency_ms": profile.latency_ms,
            "speed_up": full / profile.latency_ms,
        }
        for row, profile in zip(result.rows, latencies, strict=True)
    ]


def write_card(result, report_rows, folder, arguments):
    """The card for the Hub: what the recipe knows, and what only this script does."""
    rows = [
        replace(row, costs={**row.costs, "latency_ms": measured["latency_ms"]})
        for row, measured in zip(result.rows, report_rows, strict=True)
    ]
    about, length = about_data(arguments), timed_length(result.model)
    result.record(about["dataset_name"])
    result.model.config.save_pretrained(folder)
    result.model.save_code(folder)
    result.write_card(
        folder,
        rows=rows,
        base_model=embedded.hub_id(arguments.model),
        license="apache-2.0" if arguments.model in embedded.MODELS else None,
        language=None if names_data(arguments) else "en",
        rewired=True,
        **about,
        latency_setting=f"median of one sentence of {length} tokens on {torch.get_num_threads()} CPU thread(s)",
    )


def about_data(arguments):
    """What a card says of the data that sizes are measured on; a path on this machine is no id."""
    path = arguments.test_file or arguments.dataset
    if path is None:
        name = "held-out movie-review snippets, rated by people and published with VADER"
        return {"dataset_id": None, "dataset_name": name}
    is_here = Path(path).exists()
    return {"dataset_id": None if is_here else path, "dataset_name": Path(path).resolve().name if is_here else path}


def show(console, report):
    """The table in the terminal."""
    title = f"Teacher accuracy {report['teacher']['accuracy']:.3f} on {report['splits']['test']} test sentences"
    table = Table(title=title)
    for heading in ("width", "depth", "accuracy", "parameters", "GFLOPs", "latency ms", "speed-up"):
        table.add_column(heading, justify="right")
    for row in reversed(report["sub_networks"]):
        table.add_row(
            f"{row['width']:g}",
            f"{row['depth']:g}",
            f"{row['accuracy']:.3f}",
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['flops'] / 1e9:.2f}",
            f"{row['latency_ms']:.2f}",
            f"{row['speed_up']:.1f}x",
        )
    console.print(table)
    accuracies = [row["accuracy"] for row in report["sub_networks"]]
    console.print(f"Mean accuracy of the {len(accuracies)} sizes: {sum(accuracies) / len(accuracies):.3f}")


if __name__ == "__main__":
    main()
