"""The fixed parts of the embedded data, tokenised.

The test part is that of `examples/embedded.py`. The validation part, on which every choice is made, is drawn once from
its training part; small training parts are drawn by seed from what is left. Who trains on all of the data trains on the
validation part, too: by then all choices are made.
"""

from functools import cache

import embedded
from datasets import DatasetDict
from transformers import AutoTokenizer

from .jobs import ALL

MAX_LENGTH = 128
COLUMNS = ["input_ids", "attention_mask", "label", "index"]


@cache
def tokenizer():
    return AutoTokenizer.from_pretrained(embedded.model_folder())


@cache
def load(num_train, seed, num_validation):
    """A `DatasetDict` of tokenised splits train, validation and test; `index` numbers the sentences of a split.

    Args:
        num_train: Number of training sentences, or `"all"`.
        seed: Which of them.
        num_validation: Number of validation sentences.
    """
    data = embedded.movie_snippets()
    parts = data["train"].train_test_split(test_size=num_validation, seed=0, stratify_by_column="label")
    train, validation = parts["train"], parts["test"]
    if num_train == ALL:
        train = data["train"]
    else:
        train = train.train_test_split(train_size=int(num_train), seed=seed, stratify_by_column="label")["train"]
    splits = DatasetDict(train=train, validation=validation, test=data["test"])
    splits = splits.map(
        lambda rows, index: {**tokenizer()(rows["text"], truncation=True, max_length=MAX_LENGTH), "index": index},
        batched=True,
        with_indices=True,
    )
    return splits.select_columns(COLUMNS)
