"""The commands that make something of a model: `extract`, `specialise`, `trim`, `export` and `push`."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from pathlib import Path

from rich.console import Console

from ..data.labelled_text import tokenised_texts, usual_texts
from ..data.reading import load_tokenizer
from ..data.text_files import read_corpus
from ..data.vocabulary import trim_vocabulary
from ..files import new_folder
from ..hub.card import write_model_card
from ..hub.facts import ModelCardFacts, card_data, is_hub_id, public_name
from ..hub.push import push_folder, push_subnetworks, write_card_of_size
from ..model.elastic_model import ElasticModelMixin
from ..model.shipping import save_sentence_encoder
from ..model.subnetwork import parse_size
from ..onnx.export import export_onnx
from ..onnx.quantization import quantize_onnx
from ..onnx.session import OnnxModel
from ..sizes.tables import megabytes, quantity, table_of
from ..training.specialise import specialise
from ..training.teaching import check_tokens_beside
from .inputs import (
    labelled_text,
    load_model,
    load_with_head,
    named_sizes,
    needed_tokenizer,
    read_at_once,
)
from .tables import print_json


def extract(arguments: Namespace, console: Console) -> None:
    """One size as a model of its own."""
    with new_folder(Path(arguments.output)) as folder:
        model = load_model(arguments.model)
        small = model.extract(arguments.size)
        if arguments.stock:
            stock = small.to_backbone()
            stock.save_pretrained(folder)
            save_sentence_encoder(stock, folder)
        else:
            small.save_pretrained(folder, with_code=True)
        tokenizer = load_tokenizer(arguments.model)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if not arguments.stock:
            write_card_of_size(folder, model, parse_size(arguments.size), _facts(arguments.model, model))
        size_mb = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    about = {
        "folder": arguments.output,
        "size": arguments.size,
        "parameters": small.num_parameters(),
        "weights_mb": round(size_mb, 2),
        "tokenizer": tokenizer is not None,
    }
    if arguments.json:
        print_json(about)
        return
    console.print(
        f"{arguments.output}: {arguments.size}, {quantity(small.num_parameters())} parameters, {megabytes(size_mb)} of "
        f"weights{'' if tokenizer else ', no tokenizer, since the model has none'}",
        soft_wrap=True,
    )


def specialise_size(arguments: Namespace, console: Console) -> None:
    """One size, distilled on alone, as a model of its own."""
    with new_folder(Path(arguments.output)) as folder:
        model, tokenizer = load_model(arguments.model), needed_tokenizer(arguments.model)
        model.config.resolve(arguments.size)
        rows = tokenised_texts(arguments.file, model, tokenizer, text_columns=arguments.text_column)
        named = arguments.teacher
        teacher = None
        if named is not None:
            teacher = load_with_head(type(model), named, "fine-tuned model of this task")
            check_tokens_beside(named, tokenizer)
        settings = {
            "num_train_epochs": arguments.epochs,
            "learning_rate": arguments.learning_rate,
            "per_device_train_batch_size": arguments.train_batch_size,
        }
        data = {"train_dataset": rows, "processing_class": tokenizer}
        with redirect_stdout(sys.stderr):  # where the trainer's bar and logs belong
            small = specialise(model, arguments.size, teacher=teacher, **data, **settings)
        small.save_pretrained(folder, with_code=True)
        tokenizer.save_pretrained(folder)
        unit = read_at_once(small)
        given = len(rows) if unit == "texts" else None  # else nobody counted the rows of the file
        told = {"stages": {"alone": settings}, "train_rows": given}
        write_card_of_size(folder, small, parse_size(arguments.size), _facts(arguments.model, small), **told)
    about = {"folder": arguments.output, "size": arguments.size, "parameters": small.num_parameters()}
    if arguments.json:
        print_json({**about, unit: len(rows), "epochs": arguments.epochs})
        return
    learned = f"distilled on {len(rows)} {unit} for {arguments.epochs:g} epochs"
    console.print(
        f"{arguments.output}: {arguments.size}, {quantity(small.num_parameters())} parameters, {learned}",
        soft_wrap=True,
    )


def trim(arguments: Namespace, console: Console) -> None:
    """A model and its tokenizer with the tokens only that texts need."""
    with new_folder(Path(arguments.output)) as folder:
        model, tokenizer = load_model(arguments.model), needed_tokenizer(arguments.model)
        named = arguments.text_column
        texts = [text for file in arguments.file for text in read_corpus(file, named or usual_texts(file, model))]
        result = trim_vocabulary(model, tokenizer, texts)
        result.model.save_pretrained(folder, with_code=True)
        result.tokenizer.save_pretrained(folder)
        write_model_card(folder, _facts(arguments.model, result.model))
    rows = {"before": result.before, "after": result.after}
    if arguments.json:
        print_json({"folder": arguments.output, "texts": len(texts), **rows})
        return
    console.print(table_of([{"vocabulary": name, **row} for name, row in rows.items()]))
    told = f"the tokens of {len(texts)} texts stay, and so does what the model says of these texts"
    console.print(f"{arguments.output}: {told}", soft_wrap=True)


def export(arguments: Namespace, console: Console) -> None:
    """Sizes as ONNX, and in int8 with its accuracy if asked."""
    with new_folder(Path(arguments.output)) as folder:
        folder.rmdir()  # export_onnx makes it
        model = load_model(arguments.model)
        text = labelled_text(arguments, model) if arguments.int8 else None
        sizes = named_sizes(arguments, model) if arguments.all else arguments.sizes
        result = export_onnx(model, folder, sizes=sizes, tokenizer=load_tokenizer(arguments.model))
        rows = {
            size: {"file": path.name, "max_difference": result.max_differences[size]}
            for size, path in result.files.items()
        }
        if text is not None:
            scores: dict[str, float] = {}

            def measured(runner: OnnxModel) -> float:
                scores.update(text.evaluate_onnx(runner))
                return next(iter(scores.values()))

            quantised = quantize_onnx(folder, measured)
            metric = next(iter(scores))
            for size, one in quantised.items():
                told = {metric: one.float32_accuracy, f"int8_{metric}": one.accuracy, "int8_mb": round(one.size_mb, 2)}
                rows[size] = {**told, "int8_file": one.path.name, **rows[size]}
    if arguments.json:
        print_json({"folder": arguments.output, "sizes": rows})
        return
    order = list(rows) if arguments.sizes else list(reversed(rows))  # as they were named, else from large to small
    shown = ({name: value for name, value in rows[size].items() if not name.endswith("file")} for size in order)
    console.print(table_of([{"size": size, **row} for size, row in zip(order, shown, strict=True)]))
    agree = "every size agrees with torch; max_difference is the largest difference"
    console.print(f"{arguments.output}: {agree}", soft_wrap=True)


def push(arguments: Namespace, console: Console) -> None:
    """A model, or chosen sizes of it, to the Hub."""
    private = arguments.private or None
    if arguments.sizes:
        if arguments.revision:
            raise ValueError("--revision goes with the whole model; a size has a branch of its own name. Leave it out.")
        if arguments.space:
            raise ValueError("--space shows the whole model, which --size leaves out. Leave one of the two out.")
        model = load_model(arguments.model)
        done = push_subnetworks(
            model,
            arguments.repository,
            arguments.sizes,
            processing_class=load_tokenizer(arguments.model),
            facts=_facts(arguments.model, model),
            private=private,
        )
    else:
        told = {"private": private, "revision": arguments.revision, "space": arguments.space}
        done = {"all": push_folder(arguments.model, arguments.repository, **told)}
    if arguments.json:
        print_json(done)
        return
    for size, address in done.items():
        console.print(f"{size}: {address}", soft_wrap=True)


def _facts(name: str, made: ElasticModelMixin) -> ModelCardFacts:
    """What a card says of a model that was made of the one of this name, whose card may tell more."""
    told = card_data(name)
    origin = {"parent": name} if is_hub_id(name) else {"base_model": public_name(name)}
    return ModelCardFacts.from_stored(made, license=told.license, language=told.language, **origin)
