"""The study on tasks: its metrics and intervals by value, its parts of the data, and a tiny study as a whole."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy import stats
from sklearn import metrics as reference
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dynabert_hf import specialise, train_dynabert

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.glue_study import smoke as smoke_module
from benchmarks.glue_study.__main__ import main, make_view, parse_arguments
from benchmarks.glue_study.data import load_rows
from benchmarks.glue_study.jobs import Job, Results
from benchmarks.glue_study.metrics import METRICS, divergence
from benchmarks.glue_study.plan import PLAN, Task
from benchmarks.glue_study.running import complete, lacking, rank
from benchmarks.glue_study.smoke import smoke_plan
from benchmarks.glue_study.statistics import Pair, bootstrap
from benchmarks.glue_study.study import Study
from benchmarks.glue_study.tables import TABLES, View

RANDOM = np.random.default_rng(0)


def test_metrics_of_classes_are_those_of_scikit_learn():
    labels, predictions = RANDOM.integers(2, size=(2, 200))
    f1 = reference.f1_score(labels, predictions)
    accuracy = reference.accuracy_score(labels, predictions)
    assert METRICS["accuracy_and_f1"](predictions, labels) == pytest.approx((accuracy + f1) / 2)
    assert METRICS["matthews"](predictions, labels) == pytest.approx(reference.matthews_corrcoef(labels, predictions))
    assert METRICS["matthews"](np.ones(200), labels) == 0


def test_the_correlation_is_that_of_scipy_with_ties():
    labels, predictions = RANDOM.integers(6, size=200) / 2, RANDOM.integers(9, size=200) / 3
    expected = (stats.pearsonr(predictions, labels)[0] + stats.spearmanr(predictions, labels)[0]) / 2
    assert METRICS["correlation"](predictions, labels) == pytest.approx(expected)


def test_the_divergence_is_that_of_torch_and_the_square_for_one_number():
    logits, teacher = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.kl_div(
        logits.log_softmax(-1), teacher.log_softmax(-1), reduction="none", log_target=True
    ).sum(-1)
    np.testing.assert_allclose(divergence(logits.numpy(), teacher.numpy()), expected, atol=1e-6)
    assert divergence([[1.0]], [[3.0]]).tolist() == [4.0]


def pair(task, ours, theirs, labels):
    return Pair(task, "accuracy", np.asarray(labels), np.atleast_2d(ours), np.atleast_2d(theirs))


def test_a_claim_is_the_mean_over_tasks_of_the_mean_over_sizes():
    labels = np.ones(4)
    all_, half, none = np.ones(4), np.array([1, 1, 0, 0]), np.zeros(4)
    found = bootstrap([pair("a", all_, half, labels), pair("a", all_, all_, labels), pair("b", none, half, labels)])
    assert found.points == pytest.approx(((50 + 0) / 2 - 50) / 2)
    assert found.low < found.points < found.high


def test_the_interval_of_the_bootstrap_is_that_of_theory():
    ours, theirs = RANDOM.random((2, 4000)) < 0.75
    found = bootstrap([pair("a", ours, theirs, np.ones(4000))], num_resamples=3000)
    deviation = 100 * np.std(ours.astype(float) - theirs) / np.sqrt(4000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.06)  # of 3000 resamples


def test_seeds_are_drawn_too():
    """Where seeds differ and rows do not, the interval is that of the seeds."""
    ours, theirs = np.array([[1, 1], [0, 0]]), np.array([[0, 0], [0, 0]])
    found = bootstrap([pair("a", ours, theirs, np.ones(2))])
    assert (found.points, found.low, found.high) == (50, 0, 100)


def test_unpaired_predictions_are_refused():
    with pytest.raises(ValueError, match=r"of a have the shapes \(\(1, 3\), \(2, 3\), \(3,\)\)"):
        bootstrap([pair("a", np.ones((1, 3)), np.ones((2, 3)), np.ones(3))])


@pytest.fixture
def texts(tmp_path):
    """A data set of 30 training rows, each a text of its own number, labelled by words."""
    for split, first, count in (("train", 0, 30), ("validation", 100, 5), ("test", 200, 5)):
        numbers = range(first, first + count)
        rows = {"text": [f"word{number}" for number in numbers], "label": ["ab"[number % 2] for number in numbers]}
        Dataset.from_dict(rows).to_parquet(tmp_path / "texts" / f"{split}.parquet")
    return Task(str(tmp_path / "texts"), ("text",), "accuracy", num_held_out=10)


def encode(texts, **kwargs):
    return {"input_ids": [[int(text.removeprefix("word"))] for text in texts]}


def numbers(rows):
    return [ids[0] for ids in rows["input_ids"]]


def test_choices_are_made_on_held_out_rows_that_no_seed_trains_on(texts):
    first, second = (load_rows(texts, "choice-15", seed, encode) for seed in (0, 1))
    assert numbers(first.scored) == numbers(second.scored)
    assert set(numbers(first.train)) != set(numbers(second.train))
    for rows in (first, second):
        assert len(rows.train) == 15
        assert not set(numbers(rows.train)) & set(numbers(rows.scored))
        assert rows.labels.tolist() == [number % 2 for number in numbers(rows.scored)]
        assert rows.num_labels == 2
    assert len(load_rows(texts, "choice", 0, encode).train) == 20


def test_scores_are_of_validation_and_labelled_test_after_training_on_all(texts):
    rows = load_rows(texts, "score", 0, encode)
    assert sorted(numbers(rows.train)) == list(range(30))
    assert numbers(rows.scored) == [*range(100, 105), *range(200, 205)]


def test_a_hidden_test_split_is_left_out(texts, tmp_path):
    for split, label in (("train", 1), ("validation", 0), ("test", -1)):
        rows = {"text": ["word1", "word2"], "label": [label, label]}
        Dataset.from_dict(rows).to_parquet(tmp_path / "hidden" / f"{split}.parquet")
    rows = load_rows(texts, "score", 0, encode, source=tmp_path / "hidden")
    assert rows.labels.tolist() == [0, 0]


@pytest.fixture
def view(tmp_path):
    return View(Study(PLAN, tmp_path, Results(tmp_path), {}), ["rte"], ["minilm"], [0, 1])


def test_a_rate_is_chosen_when_all_are_known_and_by_what_the_model_learns(view):
    assert view.rate("rte", "minilm", "alone/w0.5-d1", "divergence") is None
    trials = [f"alone/w0.5-d1/{rate}" for rate in ("0.0002", "0.0004", "0.0008")]
    assert [str(job) for job in view.missing] == [f"rte/minilm/choice-0: {name}" for name in ("teacher", *trials)]
    for job, apart, metric in zip(list(view.missing[1:]), (0.2, 0.1, 0.3), (0.7, 0.6, 0.8), strict=True):
        view.study.results.record(job, {"sizes": {"model": {"divergence": apart, "metric": metric}}}, {})
    assert view.rate("rte", "minilm", "alone/w0.5-d1", "divergence") == "0.0004"
    assert view.rate("rte", "minilm", "alone/w0.5-d1", "metric") == "0.0008"


def test_the_rate_of_a_teacher_is_chosen_by_its_metric_before_it_is_trained(tmp_path):
    view = View(Study(PLAN, tmp_path, Results(tmp_path), {}, {"rte": 9}), ["rte"], ["minilm-tuned"], [0, 1])
    assert view.each("rte", "minilm-tuned", "teacher") is None
    trials = [f"rte/minilm-tuned/choice-9-0: teacher/{rate}" for rate in ("5e-05", "0.0001", "0.0002", "0.0004")]
    teachers = [f"rte/minilm-tuned/score-{seed}: teacher" for seed in (0, 1)]
    assert [str(job) for job in view.missing] == [*trials, *teachers]
    for job, metric in zip(view.missing[:4], (0.6, 0.8, 0.9, 0.7), strict=True):
        view.study.results.record(job, {"sizes": {"model": {"divergence": 0, "metric": metric}}}, {})
    assert view.study.at(view.missing[-1]).teacher_rate() == "0.0002"


def test_the_table_of_held_out_rows_asks_for_the_arms_and_rivals_that_are_named(tmp_path):
    def asked_for(*options):
        options = ["held-out-views", *options, "--results", str(tmp_path), "--backbones", "minilm", "--tasks", "rte"]
        view = make_view(parse_arguments(options))
        found = {"sizes": {"model": {"divergence": 0.1, "metric": 0.5}}}
        trials = [f"alone/{size}/{rate}" for size in PLAN.compared for rate in ("0.0002", "0.0004", "0.0008")]
        for name in ("teacher", *trials):
            view.study.results.record(Job("rte", "minilm", "choice", 0, name), found, {})
        return {job.name for job in lacking(view, ["held-out-views"]) if job.seed == 0}

    views = {f"alone-views/{size}/0.0002" for size in PLAN.compared}
    assert asked_for() == {"arm/long/0.0004", "arm/long-views/0.0004", *views}
    assert asked_for("--ideas", "long-views", "--rivals", "alone") == {"arm/long-views/0.0004"}
    assert asked_for("--ideas", "own", "--rivals", "alone-views") == views


def test_full_models_are_compared_by_task_and_in_the_mean(tmp_path):
    results = Results(tmp_path)
    study, labels = Study(PLAN, tmp_path, results, {}, dict.fromkeys(PLAN.tasks, 9)), np.arange(8) % 2

    def record(task, backbone, name, wrong):
        for seed in (0, 1):
            answers = {"labels": labels, "model.prediction": np.where(np.arange(8) < wrong, 1 - labels, labels)}
            numbers = {"sizes": {"model": {"divergence": 0, "metric": 1 - wrong / 8}}}
            results.record(Job(task, backbone, "score", seed, name), numbers, answers)

    wrong = {"sst2": (4, 2, 3), "rte": (3, 3, 1)}
    for task, (first, own, quantised) in wrong.items():
        record(task, "minilm", "teacher", first)
        record(task, "minilm-tuned", "teacher", own)
        record(task, "minilm-tuned", "int8", quantised)
    view = View(study, ["sst2", "rte"], ["minilm", "minilm-tuned"], [0, 1])
    lines = [line.split(" | ")[1:] for line in TABLES["teachers"](view)[1].splitlines()[2:]]
    assert [[each.split(" ")[0] for each in line] for line in lines] == [
        ["sst2", "50.0", "75.0", "+25.0"],
        ["rte", "62.5", "62.5", "+0.0"],
        ["mean", "", "", "+12.5"],
    ]
    view = replace(view, backbones=["minilm-tuned"])
    lines = [line.split(" | ")[1:] for line in TABLES["int8"](view)[1].splitlines()[2:]]
    assert [[each.split(" ")[0] for each in line] for line in lines] == [
        ["sst2", "75.0", "62.5", "-12.5"],
        ["rte", "62.5", "87.5", "+25.0"],
        ["mean", "", "", "+6.2"],
    ]


class Noted(Study):
    """Notes when a job begins and ends; a job of `slow` ends when one of another task has a score."""

    def __init__(self, folder, slow=(), broken=()):
        super().__init__(PLAN, folder, Results(folder), {}, dict.fromkeys(PLAN.tasks, 9))
        vars(self).update(slow=slow, broken=broken, events=[], noting=threading.Lock(), has_score=threading.Event())

    def run(self, job):
        with self.noting:
            self.events.append(("begin", str(job)))
        if str(job) in self.broken:
            raise OSError("no space")
        if str(job) in self.slow:
            assert self.has_score.wait(60), "waited for a job that another worker could have begun"
        sizes = {"divergence": 0.1, "metric": 0.5, "flops": 1}
        answers = {"labels": np.arange(3), "model.prediction": np.arange(3), "w1-d1.prediction": np.arange(3)}
        with self.noting:  # what needs this result may begin as soon as it is there
            self.results.record(job, {"seconds": 1, "sizes": dict.fromkeys(("model", "w1-d1"), sizes)}, answers)
            self.events.append(("end", str(job)))
        if job.part == "score" and job.name != "teacher":
            self.has_score.set()


def test_a_job_begins_when_what_it_needs_is_there_and_waits_for_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.glue_study.running.make_executor", ThreadPoolExecutor)
    study = Noted(tmp_path, slow=["rte/minilm-tuned/score-0: teacher"])
    assert complete(View(study, ["rte", "stsb"], ["minilm-tuned"], [0]), ["sizes"], workers=2)
    for task in ("rte", "stsb"):
        choice, score = f"{task}/minilm-tuned/choice-9-0", f"{task}/minilm-tuned/score-0"
        trials = [f"{choice}: teacher/{rate}" for rate in ("5e-05", "0.0001", "0.0002", "0.0004")]
        recipes = [f"{choice}: arm/recipe/{rate}" for rate in ("0.0001", "0.0002", "0.0004", "0.0008")]
        teachers, chosen = [f"{choice}: teacher", f"{score}: teacher"], f"{score}: arm/recipe/0.0001"
        begun, ended = ([job for what, job in study.events if what == each] for each in ("begin", "end"))
        own = [job for job in begun if job.startswith(task)]
        assert sorted(own) == sorted([*trials, *teachers, *recipes, chosen])
        needs = [(trials, teachers), (teachers[:1], recipes), ([*recipes, teachers[1]], [chosen])]
        for earlier, later in needs:
            last = max(study.events.index(("end", job)) for job in earlier)
            assert last < min(study.events.index(("begin", job)) for job in later)
    assert ended.index("stsb/minilm-tuned/score-0: arm/recipe/0.0001") < ended.index(study.slow[0])


def test_teachers_come_first_then_what_trains_all_sizes_then_choices():
    order = [
        ("choice-9", "teacher/5e-05"),
        ("score", "teacher"),
        ("score", "arm/long/0.0002"),
        ("choice-9", "arm/recipe/0.0002"),
        ("score", "arm/recipe/0.0002"),
        ("choice-9", "labels/w0.5-d1/0.0002"),
        ("score", "labels/w0.5-d1/0.0002"),
    ]
    jobs = [Job("rte", "minilm-tuned", part, 0, name) for part, name in order]
    mixed = jobs[1::2] + jobs[::2]
    assert sorted(mixed, key=lambda job: rank(PLAN, job)) == jobs


def test_nothing_is_made_from_a_teacher_that_failed(tmp_path, capsys):
    study = Noted(tmp_path, broken=["rte/minilm/score-0: teacher"])
    view = View(study, ["rte"], ["minilm"], [0, 1])
    assert not complete(view, ["sizes"])
    begun = [job for what, job in study.events if what == "begin"]
    assert begun.count("rte/minilm/score-0: teacher") == 1
    assert "rte/minilm/score-1: arm/recipe/0.0002" in begun
    assert "rte/minilm/score-0: arm/recipe/0.0002" not in begun
    assert "rte/minilm/score-0: teacher failed: OSError('no space')" in capsys.readouterr().out
    assert not complete(view, ["sizes"], minutes=0)
    assert "The time is up. 2 jobs or more are lacking" in capsys.readouterr().out


def test_names_that_are_not_in_the_plan_are_refused():
    with pytest.raises(SystemExit, match=r"mnli is not in the plan\. Possible are sst2, mrpc"):
        make_view(parse_arguments(["rivals", "--tasks", "mnli"]))


def test_rows_for_choices_are_given_for_all_tasks_and_for_one(tmp_path):
    for rows in (["2000", "banking77=1500"], ["banking77=1500", "2000"]):
        study = make_view(parse_arguments(["rivals", "--rows", *rows, "--work", str(tmp_path)])).study
        assert [study.choice(task) for task in ("stsb", "banking77")] == ["choice-2000", "choice-1500"]
    assert make_view(parse_arguments(["rivals"])).study.choice("stsb") == "choice"
    refused = [("--rows", "0", "--rows takes numbers from 1 on"), ("--seeds", "cola=x", "It was given cola=x")]
    for option, given, match in (*refused, ("--rows", "mnli=9", "mnli is not in the plan")):
        with pytest.raises(SystemExit, match=match):
            make_view(parse_arguments(["rivals", option, given]))


def test_a_task_may_have_more_seeds_than_the_others(tmp_path):
    words = ["rivals", "--results", str(tmp_path), "--seeds", "0", "1", "cola=3", "cola=1", "cola=4"]
    view = make_view(parse_arguments(words))
    for task, seeds in (("rte", [0, 1]), ("cola", [0, 1, 3, 4])):
        view.missing.clear()
        view.each(task, "minilm", "teacher")
        scored = [job for job in view.missing if job.part == "score"]
        assert [job.seed for job in scored] == seeds
    assert make_view(parse_arguments(["rivals", "--seeds", "cola=4"])).seeds == [0, 1, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(SystemExit, match="sees no GPU here"):
        main(["rivals", "--smoke", "--device", "cuda"])


@pytest.fixture(scope="module", autouse=True)
def _no_pictures():
    """To draw the pictures of each card takes longer than to train its model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynabert_hf.training.result.draw_pictures", lambda card, folder: {})
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """The options of a tiny study with one rate, and its folder."""
    work = tmp_path_factory.mktemp("study") / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_module, "RATES", (1e-3,))
        yield ["--smoke", "--work", str(work), "--tasks", "classes"], work.with_name("glue-study-smoke")


@pytest.mark.slow
def test_a_tiny_study_makes_a_table_stops_when_told_and_goes_on(smoke, capsys):
    options, folder = smoke
    assert main(["rivals", *options, "--minutes", "0"]) == 1
    assert "The time is up" in capsys.readouterr().out
    assert not (folder / "results").exists()
    assert main(["rivals", *options]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.startswith("| distilled alone | w0.5-d0.5 |")]
    assert "[" in rows[0]
    assert "classes/tiny/score-0: first/w0.5-d0.5/" in out
    assert main(["rivals", *options]) == 0
    assert "classes/tiny/score-0: first" not in capsys.readouterr().out  # nothing is trained again


@pytest.mark.slow
def test_the_other_tables_and_the_page_of_all(smoke, capsys):
    options, folder = smoke
    assert main(["specialised", *options, "--rivals", "alone"]) == 0
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if "| w0.5-d0.5 |" in line]
    assert rows == ["the same size before", "distilled alone"]
    assert main(["specialised", *options]) == 0
    assert main(["cost", *options]) == 0
    assert main(["report", *options]) == 0
    page = (folder / "results" / "report.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| distilled alone, half the cost"))
    assert "[" in row
    cost = next(line for line in page.splitlines() if line.startswith("| tiny | classes | cpu |"))
    results, job = Results(folder / "results"), Job("classes", "tiny", "score", 0, "arm/recipe/0.001")
    joint, alone = (results.get(each) for each in (job, job.with_name("alone/w0.5-d0.5/0.001")))
    flops = {size: own["flops"] for size, own in joint["sizes"].items()}
    all_ = alone["seconds"] * sum(flops.values()) / flops["w0.5-d0.5"]
    expected = [f"{joint['seconds']:.0f}", f"{alone['seconds']:.0f}", f"{all_:.0f}", f"{all_ / joint['seconds']:.1f}"]
    assert [each.strip() for each in cost.split("|")[4:8]] == expected


@pytest.mark.slow
def test_an_arm_is_the_call_of_the_readme(smoke, tmp_path):
    options, folder = smoke
    main(["sizes", *options])
    plan, results = smoke_plan(folder), Results(folder / "results")
    job = next(
        job
        for rate in plan.backbones["tiny"].rates
        if results.get(job := Job("classes", "tiny", "score", 0, f"arm/recipe/{rate:g}"))
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = load_rows(plan.tasks["classes"], "score", 0, tokenizer)
    result = train_dynabert(
        str(folder / "classes" / "tiny" / "score-0" / "teacher" / "model"),
        train_dataset=rows.train,
        processing_class=tokenizer,
        learning_rate=float(job.name.split("/")[-1]),
        num_train_epochs=1,
        seed=0,
        use_cpu=True,
        disable_tqdm=True,
        output_dir=tmp_path / "run",
    )
    trained = AutoModelForSequenceClassification.from_pretrained(folder / job.stem / "model")
    weights = trained.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in result.model.state_dict().items())


@pytest.mark.slow
def test_a_rival_on_fresh_views_is_specialised_on_them(smoke, tmp_path):
    options, folder = smoke
    main(["equal-cost-views", "--rivals", "alone", "alone-views", *options])
    results = Results(folder / "results")
    named = [Job("classes", "tiny", "score", 0, f"{kind}/w0.5-d0.5/0.001") for kind in ("alone", "alone-views")]
    plain, own = (results.get(job)["sizes"]["model"]["divergence"] for job in named)
    study = make_view(parse_arguments(["rivals", *options])).study
    case = study.at(named[1])
    small = specialise(
        case.rewired(),
        "w0.5-d0.5",
        train_dataset=case.rows.train,
        processing_class=case.tokenizer,
        views=["mask", "delete", "swap", "splice"],
        **case.settings(1e-3, 1) | {"output_dir": str(tmp_path / "run")},
    )
    numbers, _ = case.scored(small, {})
    assert numbers["sizes"]["model"]["divergence"] == own != plain
    assert results.get(named[0].with_name("arm/long-views/0.001"))["steps"] == 6  # 2.9 epochs of two steps


@pytest.mark.slow
@pytest.mark.parametrize(("table", "arm"), [("specialised", "recipe"), ("specialised-views", "long-views")])
def test_a_specialised_size_begins_with_that_of_the_arm_of_its_table(smoke, tmp_path, table, arm):
    options, folder = smoke
    main([table, *options])
    job = Job("classes", "tiny", "score", 0, f"specialised/w0.5-d0.5/0.001/arm/{arm}/0.001")
    case = make_view(parse_arguments(["rivals", *options])).study.at(job)
    small = specialise(
        AutoModelForSequenceClassification.from_pretrained(folder / job.with_name(f"arm/{arm}/0.001").stem / "model"),
        "w0.5-d0.5",
        teacher=case.teacher(),
        train_dataset=case.rows.train,
        processing_class=case.tokenizer,
        **case.settings(1e-3, 0.5) | {"output_dir": str(tmp_path / "run")},
    )
    numbers, _ = case.scored(small, {})
    own, before = (Results(folder / "results").get(each)["sizes"] for each in (job, job.with_name(f"arm/{arm}/0.001")))
    assert numbers["sizes"]["model"]["divergence"] == own["model"]["divergence"] != before["w0.5-d0.5"]["divergence"]
