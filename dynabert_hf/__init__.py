"""DynaBERT for Hugging Face Transformers: one encoder that holds many sizes, adjustable in width and depth.

Importing the package makes the elastic classes known to transformers' Auto classes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig

from .families import AUTO_CLASSES, elastic_classes
from .model.configuration import ElasticConfigMixin
from .model.elastic_model import ElasticModelMixin
from .model.modeling_dynabert import (
    DynaBertConfig,
    DynaBertForMaskedLM,
    DynaBertForMultipleChoice,
    DynaBertForQuestionAnswering,
    DynaBertForSequenceClassification,
    DynaBertForTokenClassification,
    DynaBertModel,
)
from .model.modeling_dynacamembert import (
    DynaCamembertConfig,
    DynaCamembertForMaskedLM,
    DynaCamembertForMultipleChoice,
    DynaCamembertForQuestionAnswering,
    DynaCamembertForSequenceClassification,
    DynaCamembertForTokenClassification,
    DynaCamembertModel,
)
from .model.modeling_dynadebertav2 import (
    DynaDebertaV2Config,
    DynaDebertaV2ForMaskedLM,
    DynaDebertaV2ForMultipleChoice,
    DynaDebertaV2ForQuestionAnswering,
    DynaDebertaV2ForSequenceClassification,
    DynaDebertaV2ForTokenClassification,
    DynaDebertaV2Model,
)
from .model.modeling_dynadistilbert import (
    DynaDistilBertConfig,
    DynaDistilBertForMaskedLM,
    DynaDistilBertForMultipleChoice,
    DynaDistilBertForQuestionAnswering,
    DynaDistilBertForSequenceClassification,
    DynaDistilBertForTokenClassification,
    DynaDistilBertModel,
)
from .model.modeling_dynaelectra import (
    DynaElectraConfig,
    DynaElectraForMaskedLM,
    DynaElectraForMultipleChoice,
    DynaElectraForPreTraining,
    DynaElectraForQuestionAnswering,
    DynaElectraForSequenceClassification,
    DynaElectraForTokenClassification,
    DynaElectraModel,
)
from .model.modeling_dynaeurobert import (
    DynaEuroBertConfig,
    DynaEuroBertForMaskedLM,
    DynaEuroBertForSequenceClassification,
    DynaEuroBertForTokenClassification,
    DynaEuroBertModel,
)
from .model.modeling_dynamodernbert import (
    DynaModernBertConfig,
    DynaModernBertForMaskedLM,
    DynaModernBertForMultipleChoice,
    DynaModernBertForQuestionAnswering,
    DynaModernBertForSequenceClassification,
    DynaModernBertForTokenClassification,
    DynaModernBertModel,
)
from .model.modeling_dynampnet import (
    DynaMPNetConfig,
    DynaMPNetForMaskedLM,
    DynaMPNetForMultipleChoice,
    DynaMPNetForQuestionAnswering,
    DynaMPNetForSequenceClassification,
    DynaMPNetForTokenClassification,
    DynaMPNetModel,
)
from .model.modeling_dynanomicbert import (
    DynaNomicBertConfig,
    DynaNomicBertForMaskedLM,
    DynaNomicBertForSequenceClassification,
    DynaNomicBertForTokenClassification,
    DynaNomicBertModel,
)
from .model.modeling_dynaroberta import (
    DynaRobertaConfig,
    DynaRobertaForMaskedLM,
    DynaRobertaForMultipleChoice,
    DynaRobertaForQuestionAnswering,
    DynaRobertaForSequenceClassification,
    DynaRobertaForTokenClassification,
    DynaRobertaModel,
)
from .model.modeling_dynaxlmroberta import (
    DynaXLMRobertaConfig,
    DynaXLMRobertaForMaskedLM,
    DynaXLMRobertaForMultipleChoice,
    DynaXLMRobertaForQuestionAnswering,
    DynaXLMRobertaForSequenceClassification,
    DynaXLMRobertaForTokenClassification,
    DynaXLMRobertaModel,
)
from .model.subnetwork import LayerShape, SubNetwork, SubNetworkError, grid

if TYPE_CHECKING:
    from .data.augmentation import WordReplacement
    from .data.augmented_files import augment_file, augment_rows
    from .data.labelled_text import LabelledText
    from .data.vocabulary import TrimmedVocabulary, trim_vocabulary
    from .data.word_vectors import WordVectors
    from .hub.card import write_model_card
    from .hub.facts import ModelCardFacts
    from .hub.page import make_page
    from .hub.push import push_folder, push_subnetworks
    from .onnx.export import OnnxExport, export_onnx
    from .onnx.quantization import QuantizedSize, quantize_onnx
    from .onnx.session import OnnxModel, load_onnx
    from .sizes.calibration import calibrate
    from .sizes.cascade import Cascade, CascadeAnswer, CascadeRecord, measure_cascade
    from .sizes.choosing import Recommendation, pareto_front, read_metrics, read_stored_metrics, recommend
    from .sizes.counting import ParameterCount, count_flops, count_parameters
    from .sizes.former_names import Candidate, Profile, SizeFacts, make_candidates
    from .sizes.layer_costs import LayerCosts, count_costs, measure_costs
    from .sizes.layer_search import SearchResult, search_layers
    from .sizes.plots import plot_grid, plot_pareto
    from .sizes.profile_table import ProfileTable
    from .sizes.profiling import measure_latency, profile
    from .sizes.records import SizeRecord, make_records
    from .sizes.serving import LatencyController, ServingReport, ServingTarget
    from .training.arguments import DynaBertTrainingArguments
    from .training.distillation import DistillationPair, hidden_state_loss, logit_loss, plan_stage
    from .training.recipe import train_dynabert
    from .training.repair import repair
    from .training.result import RecipeResult
    from .training.rewiring import Importance, measure_importance, rewire
    from .training.specialise import specialise
    from .training.stored_outputs import StoredOutputs, store_teacher_outputs
    from .training.trainer import DynaBertTrainer

__version__ = "0.1.0"

_ON_FIRST_USE = {
    "sizes.counting": ("ParameterCount", "count_flops", "count_parameters"),
    "training.distillation": ("DistillationPair", "hidden_state_loss", "logit_loss", "plan_stage"),
    "data.labelled_text": ("LabelledText",),
    "data.augmentation": ("WordReplacement",),
    "data.augmented_files": ("augment_file", "augment_rows"),
    "data.word_vectors": ("WordVectors",),
    "data.vocabulary": ("TrimmedVocabulary", "trim_vocabulary"),
    "hub.page": ("make_page",),
    "hub.push": ("push_folder", "push_subnetworks"),
    "hub.card": ("write_model_card",),
    "hub.facts": ("ModelCardFacts",),
    "onnx.export": ("OnnxExport", "export_onnx"),
    "onnx.session": ("OnnxModel", "load_onnx"),
    "onnx.quantization": ("QuantizedSize", "quantize_onnx"),
    "sizes.layer_costs": ("LayerCosts", "count_costs", "measure_costs"),
    "sizes.layer_search": ("SearchResult", "search_layers"),
    "sizes.plots": ("plot_grid", "plot_pareto"),
    "sizes.profile_table": ("ProfileTable",),
    "sizes.profiling": ("measure_latency", "profile"),
    "training.recipe": ("train_dynabert",),
    "training.repair": ("repair",),
    "training.result": ("RecipeResult",),
    "training.rewiring": ("Importance", "measure_importance", "rewire"),
    "training.specialise": ("specialise",),
    "sizes.calibration": ("calibrate",),
    "sizes.cascade": ("Cascade", "CascadeAnswer", "CascadeRecord", "measure_cascade"),
    "sizes.choosing": ("Recommendation", "pareto_front", "read_metrics", "read_stored_metrics", "recommend"),
    "sizes.records": ("SizeRecord", "make_records"),
    "sizes.former_names": ("Candidate", "Profile", "SizeFacts", "make_candidates"),
    "sizes.serving": ("LatencyController", "ServingReport", "ServingTarget"),
    "training.stored_outputs": ("StoredOutputs", "store_teacher_outputs"),
    "training.trainer": ("DynaBertTrainer",),
    "training.arguments": ("DynaBertTrainingArguments",),
}
"""What trains, measures and publishes, by module. It is imported when first used: loading a model needs none of it."""

for _class in elastic_classes():
    AutoConfig.register(_class.config_class.model_type, _class.config_class, exist_ok=True)
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


_HERE = {name for name, value in globals().items() if str(getattr(value, "__module__", "")).startswith(f"{__name__}.")}
__all__ = sorted({name for name in _HERE if not name.startswith("_")}.union(*_ON_FIRST_USE.values()))
