"""The card of a model: what a person on the Hub sees, made of measured facts.

Training, measuring and drawing happen elsewhere; nothing here makes up a number.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from yaml import YAMLError

from ..families import family_name
from ..model.subnetwork import AnySize, SubNetwork
from ..sizes.baseline import BASELINE
from ..sizes.measured_rows import common_rows, in_words
from ..sizes.metrics import is_loss, is_lower_better
from ..sizes.records import SizeRecord
from ..sizes.tables import megabytes, metric_text, quantity
from .card_example import as_arguments, example
from .facts import RECIPE_FIELDS, ModelCardFacts

TEMPLATE = Path(__file__).with_name("card_template.md")

SIZES = "\n## Sizes\n"
"""What heads the sizes on a card."""

STAGES = {
    "width": "Stage `width` distilled the fine-tuned model into all widths at full depth.",
    "depth": "Stage `depth` distilled a teacher of full depth into all widths and depths.",
    "finetune": "Stage `finetune` trained all sizes on the labels.",
    "alone": "Stage `alone` distilled this size further. A teacher was the full size of the model that it is from.",
}
"""For each stage of training what it did, in words."""


def write_model_card(folder: str | Path, facts: ModelCardFacts) -> Path:
    """Write `README.md`, the card of a model, into the folder of that model, and return its path.

    Raises:
        ValueError: If the card would contain an access token.
    """
    if not facts.has_tokenizer:
        facts = replace(facts, has_tokenizer=(Path(folder) / "tokenizer_config.json").exists())
    card = render_model_card(facts)
    path = Path(folder) / "README.md"
    card.save(path)
    return path


def foreign_page(folder: str | Path) -> Path | None:
    """The `README.md` in a folder, if there is one that is no card of an elastic model."""
    path = Path(folder) / "README.md"
    if not path.is_file():
        return None
    metadata = path.read_text(encoding="utf-8", errors="replace").partition("\n---\n")[0]
    return None if metadata.startswith("---\n") and "\n- dynabert\n" in metadata else path


def refresh_sizes(folder: str | Path, facts: ModelCardFacts) -> bool:
    """Put the sizes of some facts in place of those on the card in a folder, and tell how many there are.

    The rest of the card stays as it is, and so do results in its metadata that are not of a size.

    Returns:
        Whether there is a card with sizes. Nothing is written if not.
    """
    path = Path(folder) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, found, after = text.partition(SIZES)
    if not found or not text.startswith("---\n"):
        return False
    known = r"^One (?:size, .+ of an elastic .+|.+ that holds (\d+) usable sizes) \(DynaBERT\).*$"
    if summary := re.search(known, before, flags=re.MULTILINE):
        before = before.replace(summary[0], _summary(facts))
        before = before.replace(f" in {summary[1]} sizes", f" in {len(facts.sizes)} sizes")
    _, next_heading, rest = after.partition("\n## ")
    pictures = "".join(f"\n![{name}]({file})\n" for name, file in facts.pictures.items())
    section = f"\n{_size_table(facts)}\n\n{_how_measured(facts)}\n{pictures}"
    rest = re.sub(r"^- (The sizes differ|All measured sizes have): .*\n", "", rest, flags=re.MULTILINE)
    difference = _difference(facts)
    if difference:
        rest = re.sub(r"^(?=- Biases and errors)", lambda _: f"- {difference}\n", rest, flags=re.MULTILINE)
    card = ModelCard(before + SIZES + section + next_heading + rest)
    data: Any = card.data
    told: Any = _metadata(facts)
    data.model_name = data.model_name or facts.heading
    shown, results = data.eval_results or (), told.eval_results or ()
    others = [one for one in shown if not re.search(r" of \S+$", one.metric_name or "")]  # as somebody added by hand
    data.metrics = told.metrics
    data.eval_results = [*(_of_data_as_before(one, shown) for one in results), *others] or None
    card.save(path)
    return True


def check_refreshable(folder: str | Path) -> None:
    """Check that `refresh_sizes` can read the card in a folder, if there is one with sizes.

    Raises:
        ValueError: If its metadata cannot be read.
    """
    path = Path(folder) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    try:
        if SIZES in text and text.startswith("---\n"):
            ModelCard(text)
    except (TypeError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"The card {str(path)!r} has metadata that cannot be read: {reason}. Mend what stands between its two "
            "lines of ---, or move the card away."
        ) from error


def _of_data_as_before(result: EvalResult, before: Iterable[EvalResult]) -> EvalResult:
    """A result with what an earlier card tells of its data, if it is of the same; a configuration notes rows alone."""
    for one in before:
        if f" of {result.dataset_name}".endswith((f" of {one.dataset_name}", "evaluation data")):
            return replace(result, **{name: value for name, value in vars(one).items() if name.startswith("dataset_")})
    return result


def with_shown_latencies(facts: ModelCardFacts, folder: str | Path) -> ModelCardFacts:
    """Facts with the latencies that the card in a folder shows, and how they were measured, which it alone knows."""
    path = Path(folder) / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    shown = dict(re.findall(r"^\| `(\S+)` \|.* ([\d.]+) ms \|$", text, flags=re.MULTILINE))
    setting = re.search(r" Latency: (.+?)\.(?: The| Training|$)", text, flags=re.MULTILINE)
    sizes = tuple(
        replace(one, costs={**one.costs, "latency_ms": float(shown[one.name])}) if one.name in shown else one
        for one in facts.sizes
    )
    return replace(facts, sizes=sizes, latency_setting=setting[1] if setting else None)


def render_model_card(facts: ModelCardFacts) -> ModelCard:
    """The card of a model, with the metadata that the Hub reads.

    Raises:
        ValueError: If the card would contain an access token.
    """
    card = ModelCard.from_template(
        _metadata(facts),
        template_path=str(TEMPLATE),
        facts=facts,
        example=example(facts),
        small=as_arguments(facts.smallest, prefix="active_"),
        summary=_summary(facts),
        table=_size_table(facts),
        measured=_how_measured(facts),
        made=_how_made(facts),
        recipe=_stage_table(facts),
        versions=_versions(),
        lowest=_lowest_version(),
        limits=_limits(facts),
    )
    if re.search(r"\bhf_[A-Za-z0-9]{20,}", str(card)):
        raise ValueError(
            "The card would contain an access token of the Hub. Look where it stands in the facts of the card, remove "
            "it there, and revoke it if it was ever published."
        )
    return card


OF_VECTORS = ("vector_loss", "similarity_weight")
"""The settings that say something of sentence encoders alone."""


def _metadata(facts: ModelCardFacts) -> ModelCardData:
    """What the Hub reads; of the metrics those of the largest and, of the same rows, the smallest size."""
    task, dataset, metric = facts.task.pipeline, facts.dataset_id or "unknown", facts.metric or ""
    ends = [
        record
        for record in dict.fromkeys([*facts.sizes[-1:], *facts.sizes[:1]])
        if math.isfinite(record.metrics.get(metric, math.nan))
    ]
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=_data_of(record, facts),
            metric_type=metric,
            metric_name=f"{metric} of {record.name}",
            metric_value=float(metric_text(record.metrics[metric])),
        )
        for record in ends
        if _data_of(record, facts) == _data_of(ends[0], facts)  # which are written once for all results
    ]
    metrics = sorted(name for name in facts.metrics if not is_loss(name))
    return ModelCardData(
        language=facts.language,
        license=facts.license,
        library_name="sentence-transformers" if facts.is_sentence_encoder else "transformers",
        pipeline_tag=task,
        base_model=facts.parent or facts.base_model,
        datasets=[facts.dataset_id] if facts.dataset_id else None,
        metrics=metrics or None,
        tags=list(dict.fromkeys(["dynabert", "elastic", "distillation", *_tags_of_task(facts), *facts.tags])),
        model_name=facts.heading if results else None,
        eval_results=results or None,
    )


def _data_of(record: SizeRecord, facts: ModelCardFacts) -> str:
    """What the data are called that the leading metric of a size is of."""
    own = facts.metric_rows.get(record.name, {}).get(facts.metric or "")
    return own or facts.data.removeprefix("the ")


def _tags_of_task(facts: ModelCardFacts) -> list[str]:
    """What sentence-transformers tags its models with, so that the Hub shows its widgets and snippets."""
    return ["sentence-transformers", "sentence-similarity", "feature-extraction"] if facts.is_sentence_encoder else []


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    escaped = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def _size_table(facts: ModelCardFacts) -> str:
    """All sizes from large to small, then their mean where it is of the same rows, and what they compare with."""
    metrics = facts.metrics
    has_latency = any(record.latency_ms is not None for record in facts.sizes)
    header = ["size", "width", "depth", *metrics, "parameters", "FLOPs", *(["latency"] if has_latency else [])]
    rows = []
    for record in reversed(facts.sizes):
        cells = [f"`{record.name}`", *_width_and_depth(record.size), *_values(record.metrics, metrics)]
        cells.append("" if record.parameters is None else f"{record.parameters / 1e6:.2f} M")
        cells.append("" if record.flops is None else f"{record.flops / 1e9:.3f} G")
        if has_latency:
            cells.append("" if record.latency_ms is None else f"{record.latency_ms:.1f} ms")
        rows.append(cells)
    sizes, mean = [record.name for record in facts.sizes], {}
    if len(sizes) > 1:
        comparable = [name for name in metrics if common_rows(name, facts.by_name, facts.rows, sizes)]
        mean = {name: math.fsum(one.metrics[name] for one in facts.sizes) / len(sizes) for name in comparable}
    for name, own in {"mean of the sizes": mean, **facts.references}.items():
        if not own:
            continue
        cells = [name, "", "", *_values(own, metrics)]
        rows.append(cells + [""] * (len(header) - len(cells)))
    return _table(header, rows)


def _values(metrics: Mapping[str, float], names: Iterable[str]) -> list[str]:
    return [metric_text(metrics[name]) if name in metrics else "" for name in names]


def _width_and_depth(size: AnySize) -> list[str]:
    """The multipliers, or of layer shapes how many heads and layers there are."""
    if isinstance(size, SubNetwork):
        return [f"{size.width:g}", f"{size.depth:g}"]
    heads = sorted({layer.heads for layer in size})
    return [f"{heads[0]}-{heads[-1]} heads" if len(heads) > 1 else f"{heads[0]} heads", f"{len(size)} layers"]


def _summary(facts: ModelCardFacts) -> str:
    family = family_name(facts.model_class)
    if not facts.sizes:
        return f"One {family} that holds many usable sizes (DynaBERT), chosen at run time."
    if facts.stands_alone:
        return f"One size, `{facts.sizes[0].name}`, of an elastic {family} (DynaBERT), extracted to stand alone."
    regular = [record.size for record in facts.sizes if isinstance(record.size, SubNetwork)]
    text = f"One {family} that holds {len(facts.sizes)} usable sizes (DynaBERT)"
    if len(regular) < len(facts.sizes):
        text += ", some or all of which keep heads and neurons layer by layer."
    else:
        widths, depths = ({getattr(size, of) for size in regular} for of in ("width", "depth"))
        text += (
            f": every layer can run with {_list(sorted(widths))} of its attention heads and feed-forward neurons, and "
            f"the network with {_list(sorted(depths))} of its layers."
        )
    return text + " A size is chosen at run time, without loading anything again."


def _list(multipliers: list[float]) -> str:
    names = [f"{number:g}" for number in multipliers]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _how_measured(facts: ModelCardFacts) -> str:
    sentences = []
    if facts.metric:
        sentences.append(in_words(facts.by_name, facts.rows))
        lower = [name for name in facts.metrics if is_lower_better(name, facts.directions)]
        if lower:
            sentences.append(f"Lower is better for {' and '.join(lower)}.")
    shapes = {(one.setting.get("batch_size", 1), one.setting.get("sequence_length")) for one in facts.sizes}
    batch, length = shapes.pop() if len(shapes) == 1 else (None, None)
    on = {None: "sequences", 1: "one sequence"}.get(batch, f"{batch} sequences")
    of = "the length that was measured" if length is None else f"{length} tokens"
    sentences.append(f"FLOPs are of one forward pass on {on} of {of}; parameters are those of the size.")
    if facts.latency_setting:
        sentences.append(f"Latency: {facts.latency_setting}.")
    if "fine-tuned" in facts.references:
        sentences.append("Training began with the fine-tuned model. The sizes learned from another teacher.")
    elif "teacher" in facts.references:
        sentences.append("The teacher is the fine-tuned model that all sizes learned from.")
    if "baseline" in facts.references:
        sentences.append(f"The baseline is {BASELINE}.")
    return " ".join(sentences)


def _how_made(facts: ModelCardFacts) -> str:
    """What is known of the making; empty if that is nothing."""
    sentences = []
    if facts.base_model:
        sentences.append(f"Training began with [{facts.base_model}](https://huggingface.co/{facts.base_model}).")
    if facts.rewired:
        sentences.append(
            "The attention heads and feed-forward neurons of the fine-tuned model were ordered by importance, so that "
            "the important ones are shared by more sizes."
        )
    if facts.train_rows is not None and facts.stages:
        sentences.append(f"Training used {facts.train_rows} rows.")
    sentences += [STAGES[stage] for stage in facts.stages if stage in STAGES]
    if facts.vocabulary:
        before, after = facts.vocabulary["before"], facts.vocabulary["after"]
        sentences.append(
            f"The vocabulary was cut from {before['tokens']:,} tokens to the {after['tokens']:,} that a corpus needs: "
            f"{quantity(before['parameters'])} parameters became {quantity(after['parameters'])}, and "
            f"{megabytes(before['weights_mb'])} of weights {megabytes(after['weights_mb'])}. Letters that are not in "
            "that corpus are unknown to the model."
        )
    return " ".join(sentences)


def _stage_table(facts: ModelCardFacts) -> str:
    shown = [_shown_settings(settings) for settings in facts.stages.values()]
    if not facts.is_sentence_encoder:
        shown = [{name: value for name, value in own.items() if name not in OF_VECTORS} for own in shown]
    names = [name for name in RECIPE_FIELDS if any(name in settings for settings in shown)]
    if not names:
        return ""
    rows = [[f"`{name}`", *(f"{settings.get(name, '')}" for settings in shown)] for name in names]
    return _table(["setting", *(f"stage `{stage}`" for stage in facts.stages)], rows)


def _shown_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage that had an effect, as a person writes them."""
    shown = {name: getattr(value, "value", value) for name, value in settings.items() if value is not None}
    idle = "num_train_epochs" if shown.get("max_steps", -1) > 0 else "max_steps"
    shown.pop(idle, None)
    if shown.get("strategy") == "grid":
        shown.pop("num_random_subnetworks", None)
    for name, usual in (("world_size", 1), ("auto_find_batch_size", False)):
        if shown.get(name) == usual:
            shown.pop(name)
    return shown


def _versions() -> str:
    modules = {"transformers": transformers, "torch": torch, "huggingface_hub": huggingface_hub}
    named = [f"{name} {module.__version__}" for name, module in modules.items()]
    return ", ".join([f"Python {platform.python_version()}", *named])


def _lowest_version() -> str:
    """From which release of transformers on the model loads, as the package was published with; empty if unknown."""
    try:
        needs = metadata.requires("dynabert_hf") or []
    except metadata.PackageNotFoundError:
        return ""
    found = [re.match(r"transformers\b.*?>=\s*([\d.]+)", each) for each in needs]
    return next((f"It needs transformers {match[1]} or newer." for match in found if match), "")


def _difference(facts: ModelCardFacts) -> str | None:
    """By how much sizes differ in the leading metric; None where fewer than two were measured, or on other rows."""
    metric = facts.metric
    sizes = [size.name for size in facts.sizes if metric in size.metrics]
    if metric is None or len(sizes) < 2 or not common_rows(metric, facts.by_name, facts.rows, sizes):
        return None
    values = [facts.by_name[name][metric] for name in sizes]
    least, most = metric_text(min(values)), metric_text(max(values))
    if least == most:
        return f"All measured sizes have: `{metric}` {most}."
    return f"The sizes differ: `{metric}` lies between {least} and {most}."


def _limits(facts: ModelCardFacts) -> list[str]:
    limits = []
    if list(facts.stages) == ["width"]:
        limits.append("Only full depth was trained yet. Smaller depths run, and need stage `depth` to be of use.")
    elif facts.stages and len(facts.sizes) > 1:
        limits.append("Sizes that are not in the table run, too, but were neither trained nor measured.")
    difference = _difference(facts)
    if difference:
        limits.append(difference)
    limits.append("Biases and errors of the model and data that training began with are likely still there.")
    limits.append("FLOPs and latency do not scale alike on all hardware; measure on yours.")
    return limits
