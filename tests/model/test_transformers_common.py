"""transformers' own tests of models, configurations and pipelines: ours fail nothing that stock BERT does not.

They come from the source archive of the installed version and run in a process of their own, see transformers_common.
The default run takes a part of them; docs/common-tests.md lists what the whole shows.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "helpers"
OURS = {
    "DynaBertCommon": "BertCommon",
    "DynaBertSmallCommon": "BertCommon",
    "DynaRobertaCommon": "RobertaCommon",
    "DynaRobertaSmallCommon": "RobertaCommon",
}
"""For each of our suites the stock one that it is compared with."""

SKIP_REASONS = (
    "accelerator",  # a GPU
    "Flash Attention",
    "MPS",
    "deepspeed",
    "kernels library",
    "Timm",
    "PyTesseract",
    "test requires av",
    "is not in `self.pipeline_model_mapping`",  # a pipeline for images, sound or generation
    "`run_pipeline_test` is currently not implemented",
    "composite",  # models made of several
    "No subconfigs",
    "No conversion found",  # checkpoints that need renaming
    "No decoder-only",
    "No sequence-to-sequence",
    "grouped_mm",  # mixtures of experts
    "sparse experts",
    "output_router_logits",
    "RoPE",
    "sliding window",
    "TP plan",
    "_keep_in_fp32_modules",
    "does not have position embeddings",  # that can be resized
    "does not support SDPA",  # only in the test of composite models
    "test is slow",
    "Not a prioritized model",
)
"""Why a test may be skipped; stock BERT skips it for the same reason."""


LONGEST = (
    "eager_matches",
    "bc_torch_dtype",
    "can_init_all",
    "sdpa_can_dispatch",
    "gradient_checkpointing",
    "no_checkpoint",
    "can_use_safetensors",
    "correct_missing_keys",
    "load_save_without_tied",
    "no_missing_tied",
    "contiguous_weights",
)
"""Parts of the names of the tests that take most of the time."""


def run_suites(folder, *selection, **settings):
    """For each suite, for each test its outcome and what was said about it."""
    pytest.importorskip("parameterized", reason="the mixins of transformers need the package parameterized")
    sys.path.insert(0, str(HERE / "transformers_common"))
    from source import fetch_tests

    try:
        fetch_tests()
    except ConnectionError as error:
        pytest.skip(str(error))
    paths = [str(HERE.parent), str(HERE / "transformers_common")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **settings}
    command = [sys.executable, "-m", "pytest", *selection, "-c", os.devnull, "--rootdir=.", "-q", "--disable-warnings"]
    command += ["-p", "no:cacheprovider", f"--junitxml={folder / 'report.xml'}", "--tb=line"]
    done = subprocess.run(
        command, cwd=HERE / "transformers_common", env=environment, capture_output=True, text=True, timeout=1800
    )
    assert (folder / "report.xml").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    found = defaultdict(dict)
    for case in ET.parse(folder / "report.xml").iter("testcase"):
        results = [
            (part.tag, part.get("message") or "") for part in case if part.tag in ("failure", "error", "skipped")
        ]
        worst = max(results, key=lambda result: result[0] != "skipped", default=("passed", ""))
        suite, name = case.get("classname").rpartition(".")[2], case.get("name")
        if found[suite].get(name, ("passed",))[0] in ("passed", "skipped"):  # sub-tests report under the same name
            found[suite][name] = worst
    for suite, tests in found.items():
        print(suite, dict(Counter(outcome for outcome, _ in tests.values())))
    return found


def names(tests, *outcomes):
    return {name for name, (outcome, _) in tests.items() if outcome in outcomes}


def test_most_common_tests_pass_at_half_size(tmp_path):
    suite = "DynaBertSmallCommon"
    others = " and ".join(f"not {name}" for name in LONGEST)
    found = run_suites(tmp_path, f"suite.py::{suite}", "-k", others, ONE_FAMILY="1")[suite]
    failed = names(found, "failure", "error")
    assert not failed, {name: found[name][1][:500] for name in failed}
    assert len(names(found, "passed")) > 60


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of all tests of all suites."""
    return run_suites(tmp_path_factory.mktemp("common"), "suite.py")


@pytest.mark.slow
@pytest.mark.parametrize("suite", OURS)
def test_no_failure_that_stock_does_not_have(outcomes, suite):
    ours, stock = outcomes[suite], outcomes[OURS[suite]]
    assert set(ours) == set(stock)
    failed = names(ours, "failure", "error") - names(stock, "failure", "error")
    assert not failed, {name: ours[name][1][:500] for name in failed}
    assert len(names(ours, "passed")) > 100


@pytest.mark.slow
@pytest.mark.parametrize("suite", OURS)
def test_skips_are_those_of_stock_and_for_known_reasons(outcomes, suite):
    ours, stock = outcomes[suite], outcomes[OURS[suite]]
    assert names(ours, "skipped") == names(stock, "skipped")
    unknown = {
        name: reason
        for name, (outcome, reason) in ours.items()
        if outcome == "skipped" and not any(known in reason for known in SKIP_REASONS)
    }
    assert not unknown


@pytest.mark.slow
@pytest.mark.parametrize("suite", sorted(set(OURS.values())))
def test_stock_passes_here(outcomes, suite):
    """A stock model that failed would hide failures of ours."""
    assert names(outcomes[suite], "failure", "error") == set()
