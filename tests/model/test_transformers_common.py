"""transformers' own tests of models, configurations and pipelines: ours fail nothing that the stock classes do not.

They come from the source archive of the installed version and run in a process of their own for each family, see
transformers_common; docs/common-tests.md lists what they show.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from helpers.backbones import CONFIGS

HERE = Path(__file__).parents[1] / "helpers"
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
    "does not support SDPA",  # MPNet and DeBERTa-v2; else only in the test of composite models
    "test is slow",
    "Not a prioritized model",
    "partial rope",
    "doesn't use `inputs_embeds`",  # one head of ModernBERT
    "setting its attention dynamically",  # they have eager attention only
    "Cannot capture hidden states",  # and collect states in their loops
    "capture_outputs",
    "No model with a differentiable loss",  # MPNet has no gradient checkpointing
)
"""Why a test may be skipped; the stock classes skip it for the same reason."""

DELIBERATE = {"NomicBert": {"test_reverse_loading_mapping"}}
"""What fails for ours on purpose: weights are saved under the names they have, so that a part of them can be read.

Stock NomicBERT converts them back to the names on the Hub, as ours does if told to, by `save_original_format=True`.
"""


def run_suites(folder, family):
    """For each suite of a family, for each test its outcome and what was said about it."""
    pytest.importorskip("parameterized", reason="the mixins of transformers need the package parameterized")
    sys.path.insert(0, str(HERE / "transformers_common"))
    from source import fetch_tests

    try:
        fetch_tests()
    except ConnectionError as error:
        pytest.skip(str(error))
    paths = [str(HERE.parent), str(HERE / "transformers_common")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    environment |= {"COMMON_FAMILY": family}
    command = [sys.executable, "-m", "pytest", "suite.py", "-c", os.devnull, "--rootdir=.", "-q", "--disable-warnings"]
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


@pytest.fixture(scope="module", params=CONFIGS)
def outcomes(request, tmp_path_factory):
    """The family, and what came of all its tests: of the stock classes, of ours, and of ours at half size."""
    family = request.param
    found = run_suites(tmp_path_factory.mktemp("common"), family)
    return family, [found[f"{family}Common"], found[f"Dyna{family}Common"], found[f"Dyna{family}SmallCommon"]]


@pytest.mark.slow
def test_no_test_fails(outcomes):
    """Nor does one of the stock classes: it would hide a failure of ours."""
    family, suites = outcomes
    for tests, expected in zip(suites, [set(), *[DELIBERATE.get(family, set())] * 2], strict=True):
        assert set(tests) == set(suites[0])
        failed = names(tests, "failure", "error")
        assert failed == expected, {name: tests[name][1][:500] for name in failed}
        assert len(names(tests, "passed")) > 80


@pytest.mark.slow
def test_skips_are_those_of_stock_and_for_known_reasons(outcomes):
    _, suites = outcomes
    for tests in suites:
        assert names(tests, "skipped") == names(suites[0], "skipped")
        unknown = {
            name: reason
            for name, (outcome, reason) in tests.items()
            if outcome == "skipped" and not any(known in reason for known in SKIP_REASONS)
        }
        assert not unknown
