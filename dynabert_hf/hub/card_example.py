"""The Python on the card of a model: how to load it, switch its size and use it."""

from __future__ import annotations

from ..model.subnetwork import AnySize, SubNetwork, size_name
from .facts import ModelCardFacts


def place_in_code(model_id: str | None = None, revision: str | None = None) -> str:
    """How the example on a card says where the model is: by its id on the Hub, or words for a folder, and a branch."""
    return f'"{model_id or "path/to/this/folder"}"' + (f', revision="{revision}"' if revision else "")


def example(facts: ModelCardFacts) -> str:
    """Python that loads the model, switches it to its smallest size, if it has several, and, where short, uses it."""
    if facts.is_sentence_encoder:
        return _example_of_vectors(facts)
    auto_class = "AutoModel" + facts.head.removeprefix("Model")
    use = _USES.get(facts.task.pipeline) if facts.has_tokenizer else None
    names = [auto_class, *(["AutoTokenizer"] if use else []), *(["pipeline"] if use and "pipeline(" in use else [])]
    place = place_in_code(facts.model_id, facts.revision)
    where = [f"    {place}, trust_remote_code=True", ")"]  # of both, since both read the configuration
    lines = [f"from transformers import {', '.join(names)}", "", f"model = {auto_class}.from_pretrained(", *where]
    lines += _switch("model", facts)
    if use:
        lines += ["tokenizer = AutoTokenizer.from_pretrained(", *where, use]
    return "\n".join(lines)


def _example_of_vectors(facts: ModelCardFacts) -> str:
    """Python that loads the model as a sentence encoder, switches it likewise, and compares texts."""
    return "\n".join(
        [
            "from sentence_transformers import SentenceTransformer",
            "",
            f"encoder = SentenceTransformer({place_in_code(facts.model_id, facts.revision)}, trust_remote_code=True)",
            *_switch("encoder[0].auto_model", facts),
            'vectors = encoder.encode(["A bird sings.", "I hear a bird.", "The train is late."])',
            "print(encoder.similarity(vectors, vectors))",
        ]
    )


def _switch(model: str, facts: ModelCardFacts) -> list[str]:
    """The line that switches a model to its smallest size; none where it has no other."""
    line = f"{model}.set_active({as_arguments(facts.smallest)})  # any size of the table, at any time"
    return [] if facts.stands_alone else [line]


_USES = {
    "text-classification": 'print(pipeline("text-classification", model, tokenizer=tokenizer)("An example."))',
    "token-classification": 'print(pipeline("token-classification", model, tokenizer=tokenizer)("An example."))',
    "fill-mask": """print(pipeline("fill-mask", model, tokenizer=tokenizer)(f"An {tokenizer.mask_token}."))""",
    "question-answering": 'print(model(**tokenizer("Who came?", "Ann came.", return_tensors="pt")))',
    "feature-extraction": 'print(model(**tokenizer("An example.", return_tensors="pt")).last_hidden_state)',
}
"""For a task a line that uses `model` and `tokenizer`."""


def as_arguments(size: AnySize, *, prefix: str = "") -> str:
    """What names a size in a call."""
    if isinstance(size, SubNetwork):
        return f"{prefix}width={size.width}, {prefix}depth={size.depth}"
    if prefix:
        return f"{prefix}layers={[dict(vars(layer)) for layer in size]}"
    return f'"{size_name(size)}"'
