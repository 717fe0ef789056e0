"""Settings and fixtures of all tests."""

import gc
import os
from functools import cache

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # sums round by the number of threads, and other processes must round alike
if os.environ.get("DYNABERT_TEST_DEVICE") == "cuda":  # of tests/gpu, which `make test-gpu` runs
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one card: Trainer splits batches over several
else:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import huggingface_hub
import pytest
from helpers import FAMILIES, HEADS
from helpers.hub_server import TOKEN, LoopbackHub

LIKE_BERTS = {"Model", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"}
"""RoBERTa's heads that are BERT's on the same layers. By default test_backbones.py alone has them, against stock."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Products of families and heads are slow tests where no pair can differ."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        is_repeated = params.get("family") == "Roberta" and params.get("head") in LIKE_BERTS
        if is_repeated and item.path.name != "test_backbones.py":
            item.add_marker("slow")


def pytest_collection_finish(session):
    """Keep what is imported out of the collections of garbage, with one of which every training begins."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """The same with what a file leaves, such as what it was the first to import."""
    yield
    gc.collect()
    gc.freeze()


SHARED = {"traced_once": "exports", "run_forked": "forks", "two_processes": "forks"}
"""What a file names that is made once for all of these files, and a name for them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each file has one process; files that share what takes seconds, such as the exporter's import, have the same."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    @cache
    def group(file):
        text = (config.rootpath / file).read_text()
        return next((name for word, name in SHARED.items() if word in text), file)

    class FilesAndGroups(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return group(super()._split_scope(nodeid))

    return FilesAndGroups(config, log)


@pytest.fixture(params=FAMILIES)
def family(request):
    """Both architectures, by the prefix of their classes."""
    return request.param


@pytest.fixture(params=HEADS)
def head(request):
    """Every head, by the suffix of its class."""
    return request.param


@pytest.fixture(scope="session")
def traced_once():
    """Asked for by every test that exports models: those that are equal are traced once."""
    from helpers.traces import trace_equal_models_once

    with pytest.MonkeyPatch.context() as patch:
        trace_equal_models_once(patch)
        yield


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running loopback Hub that this process talks to, with the caches in a folder of the test."""
    with LoopbackHub().running() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name, value in {
            "ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        }.items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
        huggingface_hub.close_session()  # made when offline, it refuses every request
        yield hub
        huggingface_hub.close_session()
