"""Adapters inside a model, where the installed transformers and peft go together."""

import pytest


def add_adapter(model, **settings):
    """Add a LoRA adapter to the model, in place, or skip the test."""
    peft = pytest.importorskip("peft")
    try:
        model.add_adapter(peft.LoraConfig(r=2, **settings))
    except ValueError as error:
        if "version of PEFT" not in str(error):
            raise
        pytest.skip(f"transformers asks for a newer peft than is installed, {peft.__version__}")
