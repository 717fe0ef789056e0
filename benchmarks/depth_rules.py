"""Which layers a smaller depth should keep where layers differ: a small ModernBERT, trained from scratch on real text.

Its layers attend to all tokens or, two of three, to a few around. `plain` keeps layers by the rule for BERT; `kinds`
applies that rule to the layers of each kind on their own, so that their ratio stays, as elastic ModernBERTs do.
Accuracy is that of each depth of one fine-tuned model of ten layers, as it is and after all depths are distilled from
it. A run goes on where it stopped.

    python benchmarks/depth_rules.py --dataset clinc150 --num-train 6000 --seed 0
    python benchmarks/depth_rules.py --table        # the means of all seeds that were run
"""

import argparse
import json
import statistics
from dataclasses import dataclass
from math import floor
from pathlib import Path

import torch
from datasets import DatasetDict, load_dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    DataCollatorWithPadding,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    Trainer,
    TrainingArguments,
    set_seed,
)

from dynabert_hf import DynaModernBertForSequenceClassification, train_dynabert

DEPTHS = (0.5, 0.7, 1.0)
NUM_LAYERS, GLOBAL_EVERY = 10, 3
SHAPE = {
    "hidden_size": 96,
    "num_attention_heads": 4,
    "intermediate_size": 144,
    "num_hidden_layers": NUM_LAYERS,
    "global_attn_every_n_layers": GLOBAL_EVERY,
    "local_attention": 4,
    "max_position_embeddings": 64,
    "mlp_dropout": 0.0,
    "classifier_pooling": "cls",
}
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
QUIET = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "train_sampling_strategy": "group_by_length"}


def plain(depth):
    """The rule for BERT, which does not know kinds."""
    return [floor(place / depth) for place in range(round(depth * NUM_LAYERS))]


def kinds(depth):
    """That rule among the layers that attend to all tokens, and among the others for the rest."""
    everywhere = list(range(0, NUM_LAYERS, GLOBAL_EVERY))
    nearby = [layer for layer in range(NUM_LAYERS) if layer not in everywhere]
    count = round(depth * len(everywhere))
    rest = round(depth * NUM_LAYERS) - count
    kept = [everywhere[floor(place * len(everywhere) / count)] for place in range(count)]
    return sorted(kept + [nearby[floor(place * len(nearby) / rest)] for place in range(rest)])


RULES = {"plain": plain, "kinds": kinds}


@dataclass(frozen=True)
class Task:
    """Encoded rows, what encoded them, and how many classes they have."""

    tokenizer: BertTokenizer
    rows: DatasetDict
    num_labels: int

    @classmethod
    def load(cls, dataset, folder, num_train):
        """Of texts with the names of their classes. The tokenizer is made once: its training may end otherwise."""
        data = load_dataset(dataset)
        num_train = min(num_train, len(data["train"]))
        data["train"] = data["train"].shuffle(seed=0).select(range(num_train))
        if not (folder / "tokenizer.json").exists():
            make_tokenizer(data["train"]["text"]).save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        names = sorted(set(data["train"]["label"]))
        data = data.filter(lambda row: row["label"] in names)

        def encode(rows):
            encoded = tokenizer(rows["text"], truncation=True, max_length=32, return_token_type_ids=False)
            return {**encoded, "labels": [names.index(label) for label in rows["label"]]}

        return cls(tokenizer, data.map(encode, batched=True, remove_columns=data["train"].column_names), len(names))

    def trainer(self, model, folder, **kwargs):
        """For the model that teaches, and for accuracies."""
        args = TrainingArguments(folder, per_device_eval_batch_size=64, save_strategy="no", **QUIET, **kwargs)
        collator = DataCollatorWithPadding(self.tokenizer)
        return Trainer(model, args, train_dataset=self.rows["train"], data_collator=collator)

    def accuracy(self, model, folder):
        """On the test rows."""
        found = self.trainer(model, folder).predict(self.rows["test"])
        return float((found.predictions.argmax(-1) == found.label_ids).mean())


def make_tokenizer(texts):
    """A WordPiece tokenizer of 3,000 tokens."""
    backend = Tokenizer(models.WordPiece(unk_token=SPECIAL["unk_token"]))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = list(SPECIAL.values())
    backend.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=3000, special_tokens=special, show_progress=False)
    )
    return BertTokenizer(vocab=json.loads(backend.to_str())["model"]["vocab"], **SPECIAL)


def fine_tuned(task, folder, *, epochs, seed):
    """The model whose depths are compared, or what an earlier run left of it."""
    if not (folder / "config.json").exists():
        tokenizer = task.tokenizer
        ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "cls_token_id", "sep_token_id")}
        ids |= {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
        config = ModernBertConfig(vocab_size=len(tokenizer), num_labels=task.num_labels, **SHAPE, **ids)
        model = ModernBertForSequenceClassification(config)
        rates = {"learning_rate": 1e-3, "num_train_epochs": epochs, "warmup_steps": 0.1, "seed": seed}
        task.trainer(model, folder.with_name("training"), per_device_train_batch_size=64, **rates).train()
        model.save_pretrained(folder)
    return ModernBertForSequenceClassification.from_pretrained(folder)


def measure(rule, teacher, task, folder, *, epochs, seed):
    """For each depth under a rule the accuracy of the fine-tuned model cut to it, and after distillation."""
    sizes = {
        "widths": (1.0,),
        "depths": DEPTHS,
        "kept_layers": {str(depth): RULES[rule](depth) for depth in DEPTHS[:-1]},
    }
    untrained = DynaModernBertForSequenceClassification.from_backbone(teacher, **sizes)
    before = {str(each): task.accuracy(untrained.set_active(each), folder) for each in untrained.config.subnetworks}
    result = train_dynabert(
        teacher,
        train_dataset=task.rows["train"],
        eval_dataset=task.rows["test"],
        processing_class=task.tokenizer,
        output_dir=folder,
        num_train_epochs=epochs,
        learning_rate=5e-4,
        strategy="grid",
        per_device_train_batch_size=64,
        seed=seed,
        **sizes,
        **QUIET,
    )
    return {
        row.name: {
            "layers": [layer.index for layer in result.model.config.resolve(row.size)],
            "untrained": before[row.name],
            "distilled": row.metrics["accuracy"],
        }
        for row in result.rows
    }


def print_table(output):
    """Means of the accuracies over seeds, with the lowest and the highest."""
    found = {rule: [json.loads(path.read_text()) for path in sorted(output.glob(f"*/{rule}.json"))] for rule in RULES}
    print("| depth | rule | layers | untrained | distilled |\n| --- | --- | --- | ---: | ---: |")
    for size in sorted({size for runs in found.values() for run in runs for size in run}):
        for rule, runs in found.items():
            cells = []
            for when in ("untrained", "distilled"):
                values = [run[size][when] for run in runs]
                cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
            layers = " ".join(map(str, runs[0][size]["layers"]))
            print(f"| {size.partition('-d')[2]} | {rule} | {layers} | {' | '.join(cells)} |")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="folder or Hub id with the columns text and label, the name of a class")
    parser.add_argument("--output", type=Path, default=Path("outputs/depth-rules"))
    parser.add_argument("--num-train", type=int, default=15000, help="rows to train on")
    parser.add_argument("--teacher-epochs", type=float, default=5)
    parser.add_argument("--epochs", type=float, default=2, help="of distillation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only print the means of the seeds that were run")
    given = parser.parse_args(argv)
    if given.table == (given.dataset is not None):
        parser.error("Give --dataset to measure, or --table for what was measured.")
    if given.dataset:
        torch.set_num_threads(1)
        set_seed(given.seed)
        task = Task.load(given.dataset, given.output / "tokenizer", given.num_train)
        folder = given.output / str(given.seed)
        teacher = fine_tuned(task, folder / "teacher", epochs=given.teacher_epochs, seed=given.seed)
        for rule in RULES:
            path = folder / f"{rule}.json"
            if not path.exists():
                numbers = measure(rule, teacher, task, folder / rule, epochs=given.epochs, seed=given.seed)
                path.write_text(json.dumps(numbers, indent=2) + "\n")
    print_table(given.output)


if __name__ == "__main__":
    main()
