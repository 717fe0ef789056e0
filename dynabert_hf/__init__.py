"""DynaBERT for Hugging Face Transformers: one BERT or RoBERTa that holds many sizes, adjustable in width and depth.

Importing the package makes the elastic classes known to transformers' Auto classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from .configuration_dynabert import DynaBertConfig, DynaRobertaConfig
from .elastic_model import ElasticModelMixin
from .modeling_dynabert import (
    DynaBertForMaskedLM,
    DynaBertForMultipleChoice,
    DynaBertForQuestionAnswering,
    DynaBertForSequenceClassification,
    DynaBertForTokenClassification,
    DynaBertModel,
)
from .modeling_dynaroberta import (
    DynaRobertaForMaskedLM,
    DynaRobertaForMultipleChoice,
    DynaRobertaForQuestionAnswering,
    DynaRobertaForSequenceClassification,
    DynaRobertaForTokenClassification,
    DynaRobertaModel,
)
from .subnetwork import LayerShape, SubNetwork, SubNetworkError, grid

if TYPE_CHECKING:
    from .counting import ParameterCount, count_flops, count_parameters
    from .distillation import DistillationPair, hidden_state_loss, logit_loss, plan_stage
    from .evaluation import LabelledText
    from .hub import push_folder, push_subnetworks
    from .model_card import ModelCardFacts, SizeFacts, write_model_card
    from .onnx_export import OnnxExport, export_onnx
    from .onnx_model import OnnxModel, load_onnx
    from .onnx_quantization import QuantizedSize, quantize_onnx
    from .profile_table import Profile, ProfileTable
    from .profiling import measure_latency, profile
    from .recipe import train_dynabert
    from .results import RecipeResult
    from .rewiring import Importance, measure_importance, rewire
    from .search import (
        Candidate,
        Recommendation,
        make_candidates,
        pareto_front,
        read_metrics,
        read_stored_metrics,
        recommend,
    )
    from .serving import LatencyController, ServingReport, ServingTarget
    from .trainer import DynaBertTrainer
    from .training_args import DynaBertTrainingArguments

__version__ = "0.1.0"

_ON_FIRST_USE = {
    "counting": ("ParameterCount", "count_flops", "count_parameters"),
    "distillation": ("DistillationPair", "hidden_state_loss", "logit_loss", "plan_stage"),
    "evaluation": ("LabelledText",),
    "hub": ("push_folder", "push_subnetworks"),
    "model_card": ("ModelCardFacts", "SizeFacts", "write_model_card"),
    "onnx_export": ("OnnxExport", "export_onnx"),
    "onnx_model": ("OnnxModel", "load_onnx"),
    "onnx_quantization": ("QuantizedSize", "quantize_onnx"),
    "profile_table": ("Profile", "ProfileTable"),
    "profiling": ("measure_latency", "profile"),
    "recipe": ("train_dynabert",),
    "results": ("RecipeResult",),
    "rewiring": ("Importance", "measure_importance", "rewire"),
    "search": (
        "Candidate",
        "Recommendation",
        "make_candidates",
        "pareto_front",
        "read_metrics",
        "read_stored_metrics",
        "recommend",
    ),
    "serving": ("LatencyController", "ServingReport", "ServingTarget"),
    "trainer": ("DynaBertTrainer",),
    "training_args": ("DynaBertTrainingArguments",),
}
"""What trains, measures and publishes, by module. It is imported when first used: loading a model needs none of it."""

AUTO_CLASSES = {
    AutoModel: (DynaBertModel, DynaRobertaModel),
    AutoModelForMaskedLM: (DynaBertForMaskedLM, DynaRobertaForMaskedLM),
    AutoModelForMultipleChoice: (DynaBertForMultipleChoice, DynaRobertaForMultipleChoice),
    AutoModelForQuestionAnswering: (DynaBertForQuestionAnswering, DynaRobertaForQuestionAnswering),
    AutoModelForSequenceClassification: (DynaBertForSequenceClassification, DynaRobertaForSequenceClassification),
    AutoModelForTokenClassification: (DynaBertForTokenClassification, DynaRobertaForTokenClassification),
}
"""For each Auto class the elastic classes that it loads."""

for _config_class in (DynaBertConfig, DynaRobertaConfig):
    AutoConfig.register(_config_class.model_type, _config_class, exist_ok=True)
for _auto_class, _model_classes in AUTO_CLASSES.items():
    for _model_class in _model_classes:
        _auto_class.register(_model_class.config_class, _model_class, exist_ok=True)


def __getattr__(name: str) -> Any:
    for module, names in _ON_FIRST_USE.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Candidate",
    "DistillationPair",
    "DynaBertConfig",
    "DynaBertForMaskedLM",
    "DynaBertForMultipleChoice",
    "DynaBertForQuestionAnswering",
    "DynaBertForSequenceClassification",
    "DynaBertForTokenClassification",
    "DynaBertModel",
    "DynaBertTrainer",
    "DynaBertTrainingArguments",
    "DynaRobertaConfig",
    "DynaRobertaForMaskedLM",
    "DynaRobertaForMultipleChoice",
    "DynaRobertaForQuestionAnswering",
    "DynaRobertaForSequenceClassification",
    "DynaRobertaForTokenClassification",
    "DynaRobertaModel",
    "ElasticModelMixin",
    "Importance",
    "LabelledText",
    "LatencyController",
    "LayerShape",
    "ModelCardFacts",
    "OnnxExport",
    "OnnxModel",
    "ParameterCount",
    "Profile",
    "ProfileTable",
    "QuantizedSize",
    "RecipeResult",
    "Recommendation",
    "ServingReport",
    "ServingTarget",
    "SizeFacts",
    "SubNetwork",
    "SubNetworkError",
    "count_flops",
    "count_parameters",
    "export_onnx",
    "grid",
    "hidden_state_loss",
    "load_onnx",
    "logit_loss",
    "make_candidates",
    "measure_importance",
    "measure_latency",
    "pareto_front",
    "plan_stage",
    "profile",
    "push_folder",
    "push_subnetworks",
    "quantize_onnx",
    "read_metrics",
    "read_stored_metrics",
    "recommend",
    "rewire",
    "train_dynabert",
    "write_model_card",
]
