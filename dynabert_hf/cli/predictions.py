"""The command `predict`: what one size says of texts, as labels, values, entities, words, choices or answers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console

from ..data.columns import short
from ..data.encoding import encoded, most_tokens, rows_of_texts, tokenised
from ..data.labelled_text import joined, read_texts, read_words, usual_texts
from ..data.questions import COLUMNS as QUESTION_COLUMNS
from ..data.questions import WINDOW, Questions, read_questions
from ..data.text_columns import CHOICES, TextColumns, named_texts
from ..data.text_files import read_rows
from ..files import check_writable_file, json_text, write_whole
from ..model.subnetwork import size_name
from ..sizes.tables import table_of
from ..tasks import TASKS, answers_of, is_sentence_encoder, task_of
from .inputs import load_model, needed_tokenizer
from .passes import outputs_of
from .tables import print_json, then
from .tags import as_text, tag_texts


def predict(arguments: Namespace, console: Console) -> None:
    """What one size predicts for texts."""
    if arguments.output:
        if Path(arguments.output).suffix != ".jsonl":
            raise ValueError(f"{arguments.output!r} is no name for predictions. Give one that ends in .jsonl.")
        if Path(arguments.output).resolve() == Path(arguments.file).resolve():
            raise ValueError(f"--output {arguments.output!r} is the file of the texts itself. Give another path.")
        check_writable_file(arguments.output)
    model = load_model(arguments.model)
    if arguments.size:
        model.set_active(arguments.size)
    if arguments.no_answer and task_of(model).predicts != "span":
        raise ValueError(
            f"--no-answer was given for a {type(model).__name__}. Only questions may have none; leave it out."
        )
    check_predicts(model)  # refused before its file is read
    rows, columns = _read(arguments, model)
    told = {"batch_size": arguments.eval_batch_size, "may_be_none": arguments.no_answer}
    found = predict_texts(model, needed_tokenizer(arguments.model), rows, **told)
    if task_of(model).head == "ForTokenClassification":  # the places of words are those in their text
        rows = [(as_text(words),) for (words,) in rows]
    records = [_record(dict(zip(columns, row, strict=True)), one) for row, one in zip(rows, found, strict=True)]
    with then(partial(_write, Path(arguments.output), records) if arguments.output else None):
        if arguments.json:
            print_json(records)
        elif not arguments.output:
            console.print(table_of(_shown(records, console.width), width=console.width))
            console.print(f"{len(records)} rows of {arguments.file}, size {size_name(model.active)}", soft_wrap=True)


def _record(texts: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a row and what was found; `predicted_label` where a column of text is called `label`."""
    return {**texts, **{f"predicted_{name}" if name in texts else name: value for name, value in found.items()}}


def _write(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    lines = "".join(json_text(record, ensure_ascii=False) + "\n" for record in records)
    write_whole(path, lambda partial: partial.write_text(lines, encoding="utf-8"))


def _read(arguments: Namespace, model: Any) -> tuple[list[tuple[Any, ...]], list[str]]:
    """The texts of the file, a row each, and the columns that they are from."""
    named = list(named_texts(arguments.text_column, model) or ())
    if task_of(model).predicts == "choice":
        columns = named or list(CHOICES)
        choices = read_rows(Path(arguments.file), needed=columns, as_text=True)
        return list(zip(*(choices[each] for each in columns), strict=True)), columns
    if task_of(model).head == "ForTokenClassification":
        columns = named or list(usual_texts(arguments.file, model))
        return [(words,) for words in read_words(Path(arguments.file), columns[0])], columns
    if task_of(model).predicts != "span":
        columns = named or list(usual_texts(arguments.file, model))
        return read_texts(Path(arguments.file), columns), columns
    columns = named or list(QUESTION_COLUMNS)
    return rows_of_texts(read_questions(arguments.file, columns=columns), columns), columns


def _shown(records: Sequence[Mapping[str, Any]], width: int) -> list[dict[str, Any]]:
    """Predictions for a table of so many columns of the terminal: numbers as they are, texts cut to what is left."""
    rows: list[dict[str, Any]] = [
        {name: value if isinstance(value, int | float) else _in_words(value) for name, value in record.items()}
        for record in records
    ]
    longest = {name: max(len(str(row[name])) for row in rows) for name in rows[0]}
    texts = [name for name, value in rows[0].items() if isinstance(value, str)]
    room = width - 2 * (len(longest) - 1) - 10 * (len(longest) - len(texts))
    for number, name in enumerate(sorted(texts, key=longest.__getitem__)):  # what short ones leave is for long ones
        most = max(room // (len(texts) - number), 12)
        room -= min(longest[name], most)
        for row in rows:
            row[name] = row[name] if len(row[name]) <= most else f"{row[name][: most - 1]}…"
    return rows


def _in_words(value: Any) -> str:
    """A prediction as a person writes it: labels with commas, and behind each word or label what is told of it."""
    if isinstance(value, Mapping):
        if "word" not in value:
            return ", ".join(f"{name} {score:.2f}" for name, score in value.items())
        told = [*(value[name] for name in ("entity_group", "entity") if name in value), f"{value['score']:.2f}"]
        return f"{value['word']} ({' '.join(told)})"
    return ", ".join(map(_in_words, value)) if isinstance(value, list) else str(value)


def check_predicts(model: Any) -> None:
    """Check that the head of a model predicts something of texts.

    Raises:
        ValueError: If it does not.
    """
    if task_of(model).predicts in ("state", "vector"):
        instead = "of another head take its outputs in Python"
        if is_sentence_encoder(model):
            instead = "SentenceTransformer(MODEL).encode(texts) gives the vectors of a sentence encoder"
        possible = ", ".join(task.pipeline for task in TASKS.values() if task.label_names)
        raise ValueError(
            f"A {type(model).__name__} predicts nothing of texts. Possible are the tasks {possible}; {instead}."
        )


def predict_texts(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[Any]], *, batch_size: int, may_be_none: bool = False
) -> list[dict]:
    """The predictions of the active size for texts, or for pairs of texts.

    Args:
        model: An elastic model whose head predicts something of texts, in evaluation mode.
        tokenizer: Its tokenizer.
        rows: A text a row, or two of a pair; for questions first the question, then the text with the answer; for
            choices first the text, then the list of what it may go on with.
        batch_size: Rows a batch; more only saves time.
        may_be_none: Whether a question may have no answer, so that an empty one is given where that is likelier.

    Raises:
        ValueError: If words are to be filled into pairs, or where none is asked for.
    """
    task = task_of(model).pipeline
    if task == "fill-mask" and len(rows[0]) > 1:
        raise ValueError(
            "Pairs of texts were given, but words are filled into one text. Name its column alone with --text-column."
        )
    tokenizer.model_max_length = most_tokens(model, tokenizer)
    if task == "question-answering":
        return answer_questions(model, tokenizer, rows, batch_size=batch_size, may_be_none=may_be_none)
    if task == "text-classification":
        return _classify(model, tokenizer, rows, batch_size)
    if task == "multiple-choice":
        return _choose(model, tokenizer, rows, batch_size)
    texts = [row[0] for row in rows]
    if task == "fill-mask":
        return _fill(model, tokenizer, texts, batch_size)
    return [{"entities": each} for each in tag_texts(model, tokenizer, texts, batch_size=batch_size)]


def _classify(model: Any, tokenizer: Any, rows: Sequence[Sequence[str]], batch_size: int) -> list[dict]:
    inputs = tokenised(list(zip(*rows, strict=True)), tokenizer, most_tokens(model, tokenizer))
    examples = [{name: inputs[name][row] for name in inputs} for row in range(len(rows))]
    passes = outputs_of(model, tokenizer, examples, batch_size=batch_size)
    return [one for outputs in passes for one in answers_of(outputs.logits.float().cpu().numpy(), model.config)]


def _choose(model: Any, tokenizer: Any, rows: Sequence[Sequence[Any]], batch_size: int) -> list[dict]:
    """For each text the likeliest of its choices, by its number and its words."""
    examples = encoded(
        [dict(zip(CHOICES, row, strict=True)) for row in rows], TextColumns(CHOICES, None), model, tokenizer
    )
    passes = outputs_of(model, tokenizer, examples, batch_size=batch_size)
    shares = [own for outputs in passes for own in outputs.logits.float().softmax(-1).tolist()]
    best = [own.index(max(own)) for own in shares]
    return [
        {"label": label, "choice": row[1][label], "score": own[label]}
        for row, label, own in zip(rows, best, shares, strict=True)
    ]


def _fill(model: Any, tokenizer: Any, texts: Sequence[str], batch_size: int) -> list[dict]:
    """For each text the likeliest word in place of every mask."""
    mask = tokenizer.mask_token
    whole, read = (tokenizer(texts, truncation=cut, verbose=False)["input_ids"] for cut in (False, True))
    for row, (text, *both) in enumerate(zip(texts, whole, read, strict=True)):
        asked, found = (tokens.count(tokenizer.mask_token_id) for tokens in both)
        if found and found < asked:
            raise ValueError(
                f"Row {row} is {short(text)}, with {asked} times {mask}, but only {found} in the "
                f"{tokenizer.model_max_length} tokens that are read. Shorten or split the text."
            )
        if not found:
            raise ValueError(
                f"Row {row} is {short(text)}, without a {mask} in the {tokenizer.model_max_length} tokens that are "
                f"read, so no word is asked for. Write {mask} in place of the words to find."
            )
    pipeline: Any = transformers.pipeline  # typed for the classes of transformers alone
    fill = pipeline("fill-mask", model, tokenizer=tokenizer, top_k=1, tokenizer_kwargs={"truncation": True})
    found = fill(texts, batch_size=batch_size)
    # Of one text, and of one mask in a text, transformers makes no list.
    masks = [[each] if isinstance(each[0], dict) else each for each in (found if len(texts) > 1 else [found])]
    return [{"words": [{"word": best["token_str"].strip(), "score": best["score"]} for [best] in own]} for own in masks]


def answer_questions(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[str]], *, batch_size: int, may_be_none: bool
) -> list[dict[str, Any]]:
    """For each question the best span of its text, over all windows of it."""
    examples = [dict(zip(QUESTION_COLUMNS, row, strict=True)) for row in rows]
    window = min(WINDOW, tokenizer.model_max_length)
    questions = Questions.from_rows(examples, tokenizer, answer_column=None, max_length=window)
    starts, ends = [], []
    for outputs in outputs_of(model, tokenizer, questions.windows, batch_size=batch_size):
        starts.append(outputs.start_logits.float().cpu().numpy())
        ends.append(outputs.end_logits.float().cpu().numpy())
    answers = questions.answered(joined(starts), joined(ends), may_be_none=may_be_none)
    return [{"answer": each.text, "score": each.score, "start": each.start, "end": each.end} for each in answers]
