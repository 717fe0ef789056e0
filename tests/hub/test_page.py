"""The page to try sizes on: what it shows by value, in a real browser where there is one, and as a Space."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from unittest.mock import MagicMock

import pytest
import torch
from helpers.cards import make_facts
from helpers.hub_server import TOKEN
from helpers.tiny import make_model, make_tokenizer

from dynabert_cli import main
from dynabert_hf import SubNetwork, make_page, write_model_card
from dynabert_hf.hub.page import BY_SIZE, _Page, step_through
from dynabert_hf.hub.playground import Playground
from dynabert_hf.hub.push import push_folder
from dynabert_hf.hub.space import push_space

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"
)  # huggingface_hub to its HTTP library
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a", "very"]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = "a very good film"


def labelled_model():
    model = make_model(
        widths=[0.25, 0.5, 1.0],
        depths=[0.5, 1.0],
        stock={"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}},
    )
    sizes = model.config.subnetworks
    model.config.metrics = {str(size): {"accuracy": 0.6 + 0.05 * number} for number, size in enumerate(sizes)}
    return model


@pytest.fixture(scope="module")
def playground():
    return Playground(labelled_model(), make_tokenizer(WORDS), rounds=2)


@pytest.fixture
def folder(tmp_path):
    labelled_model().save_pretrained(tmp_path / "model")
    make_tokenizer(WORDS).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def scores_by_hand(size, *text):
    model, inputs = labelled_model(), make_tokenizer(WORDS)(*text, return_tensors="pt")
    with torch.no_grad(), model.subnetwork(size):
        return model(**inputs).logits[0].softmax(-1).tolist()


@pytest.mark.parametrize("size", ["w0.25-d0.5", "w1-d1"])
@pytest.mark.parametrize("text", [(TEXT, ""), ("bad", "a film")])
def test_an_answer_is_that_of_the_size_with_its_confidence(playground, size, text):
    wanted = SubNetwork.parse(size)
    answer = playground.ask(*text, playground.nearest(wanted.width, wanted.depth))
    bad, good = scores_by_hand(size, *filter(None, text))
    assert answer.scores == pytest.approx({"bad": bad, "good": good}, rel=1e-5)
    assert list(answer.scores.values()) == sorted(answer.scores.values(), reverse=True)
    assert answer.record.name == size
    assert answer.latency_ms > 0


def test_a_model_that_is_configured_to_give_tuples_answers_too():
    model = labelled_model()
    model.config.return_dict = False
    own = Playground(model, make_tokenizer(WORDS), rounds=1)
    bad, good = scores_by_hand("w1-d1", TEXT)
    assert own.ask(TEXT, "", own.nearest(1.0, 1.0)).scores == pytest.approx({"bad": bad, "good": good}, rel=1e-5)


def test_sliders_find_the_nearest_trained_size_and_budgets_the_best_one(playground):
    assert playground.nearest(0.3, 0.9).size == SubNetwork(0.25, 1.0)
    assert playground.nearest(0.6, 0.5).size == SubNetwork(0.5, 0.5)
    shortest, longest = playground.latencies_ms
    best, reason = playground.within(longest)
    assert best.size == SubNetwork()
    assert "the most accurate" in reason
    nearest, reason = playground.within(shortest / 2)
    assert nearest.costs["latency_ms"] == shortest
    assert "None of 6 sizes has latency at most" in reason


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.25, 0.5, 0.75, 1.0], 0.25),
        ([0.3, 0.75, 1.0], 0.125),  # a step of 0.25 ends at 0.8, which is nearer to 0.75
        ([1 / 3, 2 / 3, 1.0], 0.333333),
        ([0.1, 0.9, 1.0], 0.1),
        ([0.37134317, 1.0], 0.314328),  # 0.628657, the gap, would end above 1
        ([1.0], 0.01),
    ],
)
def test_a_slider_stops_near_every_trained_size(values, step):
    assert step_through(values) == step
    stops = [values[0] + number * step for number in range(1000) if values[0] + number * step <= 1]
    assert {min(values, key=lambda value: abs(value - stop)) for stop in stops} == set(values)


def test_without_metrics_a_budget_finds_the_largest_size_within_it_or_the_fastest():
    model = labelled_model()
    model.config.metrics = None
    playground = Playground(model, make_tokenizer(WORDS), rounds=2)
    shortest, longest = playground.latencies_ms
    assert playground.within(longest)[0].size == SubNetwork()
    fastest, reason = playground.within(shortest / 2)
    assert fastest.latency_ms == shortest
    assert reason.startswith("No size is within ")
    assert f"{fastest} is the fastest" in reason


@pytest.mark.parametrize("num_values", [1, 2])
def test_a_value_is_shown_as_it_is_and_not_as_a_percentage(num_values):
    model = make_model(stock={"num_labels": num_values, "problem_type": "regression"})
    tokenizer = make_tokenizer(WORDS)
    with torch.no_grad():
        values = model(**tokenizer(TEXT, return_tensors="pt")).logits[0].tolist()
    page = _Page(Playground(model, tokenizer, rounds=2), title="values")
    shown, *_ = page.update(TEXT, "", BY_SIZE, 1.0, 1.0, 0.0)
    if num_values == 1:
        assert shown == f"{values[0]:.4g}"
    else:
        assert set(shown.split(", ")) == {f"LABEL_{number}: {value:.4g}" for number, value in enumerate(values)}


def test_other_heads_and_a_missing_extra_are_refused(monkeypatch):
    with pytest.raises(TypeError, match=r"does not classify texts. The page is for models"):
        Playground(make_model(head="ForTokenClassification"), make_tokenizer(WORDS))
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r'gradio, matplotlib, not installed here\. .*pip install "dynabert_hf\[demo\]"'
    ):
        make_page("anywhere")


def test_a_page_is_named_after_the_card_the_folder_or_the_class(monkeypatch, tmp_path):
    titles = []
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: True)
    monkeypatch.setattr("dynabert_hf.hub.page._Page", lambda playground, title: titles.append(title) or MagicMock())
    make_page(labelled_model(), make_tokenizer(WORDS), rounds=1)
    folder = tmp_path / "model"
    labelled_model().save_pretrained(folder)
    make_page(folder, make_tokenizer(WORDS), rounds=1)
    write_model_card(folder, make_facts(labelled_model(), title="Reviews in four sizes"))
    make_page(folder, make_tokenizer(WORDS), rounds=1)
    assert titles == ["DynaBertForSequenceClassification", "model", "Reviews in four sizes"]
    with pytest.raises(ValueError, match="tokenizer is None"):
        make_page(labelled_model())
    with pytest.raises(TypeError, match="is a BertForSequenceClassification, which has one size only"):
        make_page(labelled_model().to_backbone())


def test_a_saved_model_of_another_head_is_refused_and_gets_no_random_one(monkeypatch, tmp_path):
    monkeypatch.setattr("dynabert_hf.messages.find_spec", lambda name: True)
    for model in (make_model(head="ForMaskedLM"), make_model(head="ForMaskedLM").bert):
        model.save_pretrained(tmp_path)
        make_tokenizer(WORDS).save_pretrained(tmp_path)
        with pytest.raises(TypeError, match=rf"A {type(model).__name__} does not classify texts"):
            make_page(tmp_path)


def test_a_space_is_published_beside_the_model(hub, folder):
    address = push_folder(folder, "me/reviews", space=True)
    assert "/me/reviews/commit/" in address
    files = {name: content.decode() for name, content in hub.files("spaces/me/reviews").items()}
    assert set(files) == {"README.md", "app.py", "requirements.txt"}
    assert 'make_page("me/reviews").launch()' in files["app.py"]
    compile(files["app.py"], "app.py", "exec")
    assert files["requirements.txt"] == "dynabert_hf[demo]\n"
    assert files["README.md"].startswith("---\ntitle: reviews, all sizes\nsdk: gradio\n")
    assert "models:\n- me/reviews\n---" in files["README.md"]
    assert "config.json" in hub.files("me/reviews")


def test_a_space_that_fails_after_the_model_says_that_the_model_is_there(hub, folder, monkeypatch):
    def push_space_without_a_network(*args, **kwargs):
        hub.failures["create"] = 1000
        return push_space(*args, **kwargs)

    monkeypatch.setattr("dynabert_hf.hub.push.push_space", push_space_without_a_network)
    with pytest.raises(ConnectionError, match=r"failed: .* The model was pushed, its Space was not\. Nothing on this"):
        push_folder(folder, "me/reviews", space=True)
    assert list(hub.repositories) == ["me/reviews"]
    assert "config.json" in hub.files("me/reviews")


def test_a_space_without_a_token_is_refused_before_anything_is_pushed(hub, folder, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(
        ValueError, match=r"space=True makes a Space on the Hub, but there is no access token. Possible"
    ):
        push_folder(folder, "me/reviews", space=True)
    assert main(["push", str(folder), "me/reviews", "--space"]) == 1
    assert "there is no access token" in capsys.readouterr().err
    assert hub.repositories == {}
    push_folder(folder, "me/reviews", space=True, token=TOKEN)
    assert set(hub.repositories) == {"me/reviews", "spaces/me/reviews"}


def test_a_space_that_could_not_show_the_model_is_refused_before_anything_is_pushed(hub, folder, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"loads the main branch, but the model goes to revision='trial'\. Leave one"):
        push_folder(folder, "me/reviews", space=True, revision="trial", token=TOKEN)
    make_model(head="ForTokenClassification").save_pretrained(tmp_path / "tags")
    assert main(["push", str(tmp_path / "tags"), "me/tags", "--space"]) == 1
    assert "A DynaBertForTokenClassification does not classify texts. The page is for" in capsys.readouterr().err
    assert hub.repositories == {}


needs_browser = pytest.mark.skipif(
    not (BROWSER and find_spec("gradio") and find_spec("playwright")),
    reason='needs Chromium and `pip install "dynabert_hf[demo]" playwright`',
)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page as `dynabert demo` serves it, in a process of its own."""
    folder = tmp_path_factory.mktemp("page") / "reviews"
    labelled_model().save_pretrained(folder)
    make_tokenizer(WORDS).save_pretrained(folder)
    command = [sys.executable, "-u", "-m", "dynabert_cli", "demo", str(folder), "--no-browser", "--port", "7871"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield next(line.split()[-1] for line in server.stdout if "http://" in line)
        finally:
            server.terminate()


@needs_browser
@pytest.mark.parametrize("width", [1280, 420])
def test_in_a_browser_a_moved_slider_changes_the_answer(address, width, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 1000})
        problems = []
        page.on("pageerror", lambda error: problems.append(error))
        page.goto(address)
        page.locator("#text textarea").fill(TEXT)
        told, answer = page.locator("#told"), page.locator("#answer")
        expect(told).to_contain_text("w1-d1 answered in", timeout=30_000)
        bad, good = scores_by_hand("w1-d1", TEXT)
        expect(answer).to_contain_text(f"{round(100 * max(bad, good))}%", timeout=10_000)
        slider = page.locator("#width input[type=range]")
        slider.focus()
        slider.press("Home")
        expect(told).to_contain_text("w0.25-d1 answered in", timeout=30_000)
        bad, good = scores_by_hand("w0.25-d1", TEXT)
        expect(answer).to_contain_text(f"{round(100 * max(bad, good))}%", timeout=10_000)
        page.get_by_label("a latency budget").check()
        expect(page.locator("#latency")).to_be_visible()
        expect(told).to_contain_text("the most accurate", timeout=30_000)
        expect(page.locator("#front img")).to_be_visible(timeout=30_000)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0
        page.screenshot(path=tmp_path / f"page-{width}.png", full_page=True)
        assert problems == []
        browser.close()
