"""transformers' own model, configuration and pipeline tests, on the classes of one family and on ours.

Collected by `test_transformers_common.py` in a process of its own for each family, named by the variable COMMON_FAMILY,
since the mixins ask for entries in internal tables of transformers. `*Common` is stock, `Dyna*Common` ours at full
size, `Dyna*SmallCommon` ours switched to half the width and half the depth.
"""

import inspect
import json
import os
import tempfile
import unittest
from pathlib import Path

import torch
import transformers
from source import fetch_tests, import_mixins
from transformers import pipeline, set_seed
from transformers.models.auto import modeling_auto

import dynabert_hf

HEADS = {
    "Model": ("MODEL_MAPPING_NAMES", "feature-extraction"),
    "ForMaskedLM": ("MODEL_FOR_MASKED_LM_MAPPING_NAMES", "fill-mask"),
    "ForMultipleChoice": ("MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES", None),
    "ForPreTraining": ("MODEL_FOR_PRETRAINING_MAPPING_NAMES", None),
    "ForQuestionAnswering": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "question-answering"),
    "ForSequenceClassification": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "text-classification"),
    "ForTokenClassification": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES", "token-classification"),
}
PADDING = 1
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
TOKENS = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
FIELDS = {
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4},
    "ModernBert": {**TOKENS, "global_attn_every_n_layers": 2, "local_attention": 4, "initializer_range": 0.2},
    "NomicBert": {"num_key_value_heads": 4},
    "EuroBert": {**TOKENS, "num_key_value_heads": 2},
}
"""What the tiny configurations of some families have beside `SIZES`."""
NAMES = {
    "DistilBert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
}
"""What some families call them."""
VOCABULARY = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou")]
EXAMPLES = {
    "feature-extraction": ["a b", "c d e f"],
    "fill-mask": ["a [MASK] c", "b [MASK]"],
    "question-answering": [{"question": "a b", "context": "c d e f"}],
    "text-classification": ["a b", "c d e f"],
    "token-classification": ["a b", "c d e f"],
    "zero-shot": ["a b", "c d e f"],
}


class Pipeline:
    """Stands in for transformers' test of one task, which its archive leaves out."""

    def get_test_pipeline(self, model, tokenizer, dtype="float32", **processors):
        if self.task == "zero-shot":
            labels = {"candidate_labels": ["c", "d"]}
            made = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer, dtype=dtype, **labels)
        else:
            made = pipeline(self.task, model=model, tokenizer=tokenizer, dtype=dtype)
        return made, EXAMPLES[self.task]

    def run_pipeline_test(self, made, examples):
        for example in examples:
            json.dumps(made(example), default=float)


STAND_INS = {}
for _task in EXAMPLES:
    _module = f"tests.pipelines.test_pipelines_{_task.replace('-', '_')}"
    _classes = {
        "zero-shot": "ZeroShotClassificationPipelineTests",
        "question-answering": "QAPipelineTests",
    }
    _name = _classes.get(_task, "".join(word.capitalize() for word in _task.split("-")) + "PipelineTests")
    STAND_INS[_module] = {_name: type(_name, (Pipeline,), {"task": _task})}


def class_of(prefix, head):
    return getattr(dynabert_hf if prefix.startswith("Dyna") else transformers, prefix + head)


def heads_of(prefix):
    """The heads that a family has, the base model first."""
    return [head for head in HEADS if hasattr(dynabert_hf, f"Dyna{prefix.removeprefix('Dyna')}{head}")]


def register(prefix):
    """Enter the classes where the mixins look up what labels a head takes; the Auto classes go by these names too."""
    for head in heads_of(prefix):
        model_class = class_of(prefix, head)
        getattr(modeling_auto, HEADS[head][0])[model_class.config_class.model_type] = model_class.__name__


def takes_types(prefix):
    """Whether the models of a family take types of tokens."""
    return "token_type_ids" in inspect.signature(class_of(prefix, "Model").forward).parameters


def save_tiny_models(folder, prefixes):
    """Tiny checkpoints with a tokenizer for the pipelines, laid out as transformers' script lays them out."""
    summary = {}
    for prefix in prefixes:
        names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_types(prefix) else [])]
        for head in heads_of(prefix):
            model_class = class_of(prefix, head)
            place = folder / model_class.config_class.model_type / model_class.__name__
            config = Inputs(None, prefix).get_config(vocab_size=len(VOCABULARY), max_position_embeddings=512)
            model_class(config).save_pretrained(place)
            vocab = {token: index for index, token in enumerate(VOCABULARY)}
            tokenizer = transformers.BertTokenizer(vocab=vocab, model_max_length=512, model_input_names=names)
            tokenizer.save_pretrained(place)
            summary[model_class.__name__] = {"tokenizer_classes": ["BertTokenizer"], "processor_classes": []}
    (folder / "reports").mkdir()
    (folder / "reports" / "tiny_model_summary.json").write_text(json.dumps(summary))


class Inputs:
    """Tiny inputs and configurations, as the mixins ask for them."""

    batch_size, seq_length, is_training, num_choices = 13, 7, True, 4
    hidden_size, pad_token_id = SIZES["hidden_size"], PADDING

    def __init__(self, parent, prefix, active=None):
        self.parent, self.prefix, self.active = parent, prefix, active
        num_layers, num_heads = SIZES["num_hidden_layers"], SIZES["num_attention_heads"]
        self.num_hidden_layers, self.num_attention_heads = (
            round((active or 1) * each) for each in (num_layers, num_heads)
        )
        if active is not None:
            self.expected_num_hidden_layers = 1 + self.num_hidden_layers
            self.full_num_attention_heads = num_heads

    def get_config(self, **kwargs):
        family = self.prefix.removeprefix("Dyna")
        names = NAMES.get(family, {})
        sizes = {names.get(name, name): value for name, value in SIZES.items()}
        types = {"type_vocab_size": 16} if takes_types(self.prefix) else {}
        active = {} if self.active is None else {"active_width": self.active, "active_depth": self.active}
        config_class = class_of(self.prefix, "Config")
        return config_class(**{**sizes, **types, "pad_token_id": PADDING, **FIELDS.get(family, {}), **active, **kwargs})

    def prepare_config_and_inputs_for_common(self):
        input_ids = torch.randint(PADDING + 3, 99, (self.batch_size, self.seq_length))
        attention_mask = torch.ones_like(input_ids)
        attention_mask[:, -1] = 0
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if takes_types(self.prefix):
            inputs["token_type_ids"] = torch.zeros_like(input_ids)
        return self.get_config(), inputs


FAMILY = os.environ["COMMON_FAMILY"]
OURS = f"Dyna{FAMILY}"
set_seed(0)
os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = _folder = tempfile.mkdtemp()
PREFIXES = (FAMILY, OURS)
for _prefix in PREFIXES:
    register(_prefix)
save_tiny_models(Path(_folder), PREFIXES)
_modeling, _configuration, _pipelines = import_mixins(fetch_tests(), STAND_INS)


def make_suite(prefix, active=None):
    """A test case with all mixins for the classes whose names begin with `prefix`."""
    width = NAMES.get(FAMILY, {}).get("hidden_size", "hidden_size")

    class Common(_modeling.ModelTesterMixin, _pipelines.PipelineTesterMixin, unittest.TestCase):
        all_model_classes = tuple(class_of(prefix, head) for head in heads_of(prefix))
        pipeline_model_mapping = {
            HEADS[head][1]: class_of(prefix, head) for head in heads_of(prefix) if HEADS[head][1]
        } | {"zero-shot": class_of(prefix, "ForSequenceClassification")}

        test_can_init_all_missing_weights_before_2023 = True
        test_all_params_have_gradient = active is None  # layers that are switched off have none

        def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
            inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
            if return_labels and model_class.__name__.endswith("ForPreTraining"):  # ELECTRA's, whose labels are tokens'
                inputs["labels"] = torch.zeros_like(inputs["input_ids"])
            return inputs

        def setUp(self):
            self.model_tester = Inputs(self, prefix, active)
            self.config_tester = _configuration.ConfigTester(self, class_of(prefix, "Config"), **{width: 36})

        def test_config(self):
            self.config_tester.run_common_tests()

    Common.__name__ = Common.__qualname__ = f"{prefix}{'' if active is None else 'Small'}Common"
    return Common


globals().update({each.__name__: each for each in (make_suite(FAMILY), make_suite(OURS), make_suite(OURS, active=0.5))})
