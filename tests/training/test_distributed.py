"""Two processes give what one process gives."""

import json

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from helpers import HELPERS, ddp_worker, evaluation_worker, two_processes
from helpers.processes import CONFIGURATION, launch
from helpers.trainers import make_trainer
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The folder with what one process and two processes did, and what the two printed."""
    folder = tmp_path_factory.mktemp("two")
    two_processes.main(folder, 1)
    return folder, two_processes.start(folder)


@pytest.fixture(scope="module")
def trained(printed):
    """The folder of training."""
    return printed[0] / "ddp_worker"


@pytest.fixture(scope="module")
def found(printed):
    """What two processes found in evaluation, each by itself, and what one did."""
    folder = printed[0] / "evaluation_worker"
    return [json.loads((folder / f"found-{name}.json").read_text()) for name in ("2-0", "2-1", "1-0")]


@pytest.mark.parametrize("case", ddp_worker.CASES, ids=lambda case: ddp_worker.case_name(*case))
def test_two_processes_train_what_one_trains(trained, case):
    name = ddp_worker.case_name(*case)
    one, two = (load_file(trained / f"{name}-{number}.safetensors") for number in (1, 2))
    assert one.keys() == two.keys()
    for tensor in one:
        tolerance = 1e-6 if tensor.startswith("gradient") else 1e-5
        torch.testing.assert_close(two[tensor], one[tensor], rtol=0, atol=tolerance, msg=f"{name}: {tensor}")


def test_two_processes_make_the_sizes_of_a_sentence_encoder_that_one_makes(trained):
    folders = [trained / f"sizes-{number}" / "model" for number in (1, 2)]
    for made in (folders, [trained / f"small-{number}" for number in (1, 2)]):  # all sizes, and one alone
        one, two = (load_file(folder / "model.safetensors") for folder in made)
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)
    ones, twos = (json.loads((folder / "results.json").read_text())["sub_networks"] for folder in folders)
    for row, other in zip(ones, twos, strict=True):
        assert other["spearman"] == pytest.approx(row["spearman"], abs=1e-6)


def test_two_processes_make_of_rows_grouped_by_length_the_size_that_one_makes(trained):
    one, two = (load_file(trained / f"by-length-{number}" / "model.safetensors") for number in (1, 2))
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)


def test_two_processes_go_on_where_two_or_one_stopped(trained):
    """Also where the second sees no checkpoint."""
    for whole, resumed, tolerance in (("2-0.1", "2-0.1", 0), ("1-0.0", "2-0.0", 1e-5)):
        one, two = (
            load_file(trained / f"whole-{whole}.safetensors"),
            load_file(trained / f"resumed-{resumed}.safetensors"),
        )
        for name in one:
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=tolerance, msg=f"{resumed}: {name}")


def test_recomputed_activations_give_the_same_gradients(trained):
    kept, recomputed = (load_file(trained / f"depth-1-{how}-2.safetensors") for how in ("kept", "recomputed"))
    for name, tensor in kept.items():
        torch.testing.assert_close(recomputed[name], tensor, rtol=0, atol=1e-6, msg=name)


def test_the_main_process_alone_says_what_all_of_them_find(printed):
    assert ["Small sizes learn in hundreds of steps" in text for text in printed[1]] == [True, False]


def test_without_the_full_network_last_two_processes_fail(printed):
    assert all("reversed order failed" in text for text in printed[1])


def test_a_run_in_folders_of_their_own_fails_on_all_processes_before_any_work(printed):
    """The second one rewired first, and then said of the folder that it is no id on the Hub."""
    for process, text in enumerate(printed[1]):
        assert f"own-{process}' is another folder for process 1 than for the main one, and all" in text
        assert "Nothing was trained" in text


def test_one_process_in_a_group_of_its_own_trains_what_a_plain_one_trains(tmp_path):
    """As `torchrun --nproc_per_node 1` starts it; accelerate takes it for a plain one, DDP waits for gradients."""
    plain, alone = (make_trainer(tmp_path, "depth") for _ in range(2))
    batch = plain.data_collator([plain.train_dataset[row] for row in range(4)])
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(alone.model)
        for _ in range(2):  # the second pass finds out that the first did not reach every weight
            assert torch.equal(alone.training_step(wrapped, batch), plain.training_step(plain.model, batch))
    finally:
        torch.distributed.destroy_process_group()
    for name, weight in plain.model.named_parameters():
        torch.testing.assert_close(alone.model.get_parameter(name).grad, weight.grad, rtol=0, atol=1e-6, msg=name)


def test_the_recipe_on_two_processes_ends_as_on_one(trained):
    folders = [trained / f"recipe-{number}" for number in (1, 2)]
    for step in ("1-rewired", "2-width", "3-depth", "4-finetune", "."):
        one, two = (load_file(folder / step / "model" / "model.safetensors") for folder in folders)
        for name, weight in one.items():
            torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5, msg=f"{step}: {name}")
    tables = [json.loads((folder / "model" / "results.json").read_text()) for folder in folders]
    for one, two in zip(*(table["sub_networks"] for table in tables), strict=True):
        assert two == pytest.approx(one, abs=1e-5)
    assert not list(folders[1].glob("**/*partial*"))


def test_the_main_process_alone_names_the_stages(printed):
    lines = [f"Stage '{stage}' of the recipe, in" for stage in ("width", "finetune")]
    counts = [[text.count(line) for line in lines] for text in printed[1]]
    assert counts == [[1, 1], [0, 0]]


def test_two_processes_evaluate_as_a_plain_loop_does(found):
    """They check it themselves; here, that every row was read by one of them."""
    first, second, _ = found
    for case in (case for case in first if case not in ("losses", "message")):
        assert first[case] + second[case] == (5 if case.startswith("5") else 9), case
    assert second[f"5 {evaluation_worker.SETTINGS[-1]}"] == 0


@pytest.mark.parametrize("stage", ["width", "finetune", "of one label"])
def test_two_processes_log_the_losses_of_one(found, stage):
    first, second, one = (each["losses"][stage] for each in found)
    assert len([name for name in one if name.startswith("w")]) >= 2
    assert first == pytest.approx(one, abs=2e-6)
    assert second == first


def test_a_loss_that_is_not_finite_stops_all_processes(found):
    first, second, _ = found
    assert "loss of w0.5-d0.5 is nan at step 0, on the batch that begins with" in first["message"]
    assert "A loss of another process is not finite at step 0. This step changed no" in second["message"]


@pytest.mark.slow
def test_sharded_weights_train_as_whole_ones(tmp_path):
    """By FSDP version 2; and going on from a checkpoint as if there had been no stop."""
    launch(HELPERS / "fsdp_worker.py", tmp_path)
    pairs = {"resumed": load_file(tmp_path / "whole.safetensors")}
    for stage in ("width", "depth", "finetune"):
        one = ddp_worker.train(tmp_path, stage, 2, False, num_processes=1)
        pairs[stage] = {name: one[f"weight of {name}"] for name in pairs["resumed"]}
    for case, expected in pairs.items():
        trained = load_file(tmp_path / f"{case}.safetensors")
        for name, weight in expected.items():
            torch.testing.assert_close(trained[name], weight, rtol=0, atol=1e-5, msg=f"{case}: {name}")


@pytest.mark.parametrize("path", sorted(CONFIGURATION.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_of_this_accelerate(path):
    """It refuses a key that it does not know."""
    configuration = load_config_from_file(str(path))
    assert (configuration.num_processes, configuration.num_machines) == (2, 1)
