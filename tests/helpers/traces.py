"""Exports without tracing the same model twice, which takes seconds."""

import hashlib
import json
from dataclasses import fields

from dynabert_hf.model.configuration import ElasticConfigMixin
from dynabert_hf.onnx import export


def trace_equal_models_once(patch):
    """Let exports of models with the same class, stock configuration and weights share the graph of the first.

    What is elastic in a configuration shows in the shapes of the weights, or not at all.
    """
    silent = {"_name_or_path", "architectures", *(field.name for field in fields(ElasticConfigMixin))}
    trace, known = export._trace, {}

    def traced(model):
        digest = hashlib.sha256()
        for name, weight in model.state_dict().items():
            digest.update(name.encode() + weight.numpy().tobytes())
        config = {name: value for name, value in model.config.to_dict().items() if name not in silent}
        key = type(model), json.dumps(config, default=str), digest.hexdigest()
        if key not in known:
            known[key] = trace(model)
        return known[key]

    patch.setattr(export, "_trace", traced)
