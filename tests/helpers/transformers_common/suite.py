"""transformers' own model, configuration and pipeline tests, on its BERT and RoBERTa and on ours.

Collected by `test_transformers_common.py` in a process of its own, since the mixins ask for entries in internal
tables of transformers. `*Common` classes are stock, `Dyna*Common` ours at full size, `Dyna*SmallCommon` ours switched
to half the width and half the depth.
"""

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
    "ForQuestionAnswering": ("MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES", "question-answering"),
    "ForSequenceClassification": ("MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES", "text-classification"),
    "ForTokenClassification": ("MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES", "token-classification"),
}
if "ONE_FAMILY" in os.environ:  # for the default suite: heads with and without tied weights, and none
    HEADS = {head: HEADS[head] for head in ("Model", "ForMaskedLM", "ForSequenceClassification")}
PADDING = 1
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


def register(prefix):
    """Enter the classes where the mixins look up what labels a head takes; the Auto classes go by these names too."""
    for head, (table, _) in HEADS.items():
        model_class = class_of(prefix, head)
        getattr(modeling_auto, table)[model_class.config_class.model_type] = model_class.__name__


def class_of(prefix, head):
    return getattr(dynabert_hf if prefix.startswith("Dyna") else transformers, prefix + head)


def save_tiny_models(folder, prefixes):
    """Tiny checkpoints with a tokenizer for the pipelines, laid out as transformers' script lays them out."""
    summary = {}
    for prefix in prefixes:
        for head in HEADS:
            model_class = class_of(prefix, head)
            place = folder / model_class.config_class.model_type / model_class.__name__
            config = Inputs(None, prefix).get_config()
            config.vocab_size, config.max_position_embeddings = len(VOCABULARY), 512
            model_class(config).save_pretrained(place)
            vocab = {token: index for index, token in enumerate(VOCABULARY)}
            transformers.BertTokenizer(vocab=vocab, model_max_length=512).save_pretrained(place)
            summary[model_class.__name__] = {"tokenizer_classes": ["BertTokenizer"], "processor_classes": []}
    (folder / "reports").mkdir()
    (folder / "reports" / "tiny_model_summary.json").write_text(json.dumps(summary))


class Inputs:
    """Tiny inputs and configurations, as the mixins ask for them."""

    batch_size, seq_length, is_training, num_choices = 13, 7, True, 4
    hidden_size, num_hidden_layers, num_attention_heads = 32, 2, 4

    def __init__(self, parent, prefix, active=None):
        self.parent, self.prefix, self.active = parent, prefix, active
        if active is not None:
            self.expected_num_hidden_layers = 1 + round(active * self.num_hidden_layers)
            self.full_num_attention_heads = self.num_attention_heads
            self.num_attention_heads = round(active * self.num_attention_heads)
            self.num_hidden_layers = round(active * self.num_hidden_layers)

    def get_config(self):
        config_class = class_of(self.prefix, "Config")
        sizes = {} if self.active is None else {"active_width": self.active, "active_depth": self.active}
        return config_class(
            vocab_size=99,
            hidden_size=Inputs.hidden_size,
            num_hidden_layers=Inputs.num_hidden_layers,
            num_attention_heads=Inputs.num_attention_heads,
            intermediate_size=40,
            max_position_embeddings=64,
            type_vocab_size=16,
            pad_token_id=PADDING,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            initializer_range=0.02,
            **sizes,
        )

    def prepare_config_and_inputs_for_common(self):
        input_ids = torch.randint(PADDING + 1, 99, (self.batch_size, self.seq_length))
        attention_mask = torch.ones_like(input_ids)
        attention_mask[:, -1] = 0
        types = torch.zeros_like(input_ids)
        return self.get_config(), {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": types}


STOCK, OURS = ("Bert", "Roberta"), ("DynaBert", "DynaRoberta")
if "ONE_FAMILY" in os.environ:
    STOCK, OURS = (), ("DynaBert",)
set_seed(0)
os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = _folder = tempfile.mkdtemp()
for _prefix in STOCK + OURS:
    register(_prefix)
save_tiny_models(Path(_folder), STOCK + OURS)
_modeling, _configuration, _pipelines = import_mixins(fetch_tests(), STAND_INS)


def make_suite(prefix, active=None):
    """A test case with all mixins for the classes whose names begin with `prefix`."""

    class Common(_modeling.ModelTesterMixin, _pipelines.PipelineTesterMixin, unittest.TestCase):
        all_model_classes = tuple(class_of(prefix, head) for head in HEADS)
        pipeline_model_mapping = {task: class_of(prefix, head) for head, (_, task) in HEADS.items() if task} | {
            "zero-shot": class_of(prefix, "ForSequenceClassification")
        }

        test_can_init_all_missing_weights_before_2023 = True
        test_all_params_have_gradient = active is None  # layers that are switched off have none

        def setUp(self):
            self.model_tester = Inputs(self, prefix, active)
            self.config_tester = _configuration.ConfigTester(self, class_of(prefix, "Config"), hidden_size=37)

        def test_config(self):
            self.config_tester.run_common_tests()

    Common.__name__ = Common.__qualname__ = f"{prefix}{'' if active is None else 'Small'}Common"
    return Common


for _prefix in STOCK + OURS:
    globals()[f"{_prefix}Common"] = make_suite(_prefix)
for _prefix in OURS:
    globals()[f"{_prefix}SmallCommon"] = make_suite(_prefix, active=0.5)
