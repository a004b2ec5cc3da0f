from __future__ import annotations

import json
import signal

import pytest
import torch

from fgsam.optim.esam import ESAM
from fgsam.optim.sam import SAM
from tests.optim import ranks_job
from tests.processes import Job


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Findings of two processes on this machine, all from one pair of them."""
    folder = tmp_path_factory.mktemp("ranks")
    gloo = {"GLOO_SOCKET_IFNAME": "lo"}  # which looks for the machine's name otherwise, and that need not lead anywhere
    jobs = [
        Job(folder / f"{rank}.txt", ranks_job.main, rank, folder / "meet", folder / f"{rank}.json", **gloo)
        for rank in range(2)
    ]
    ends = [job.wait(240) for job in jobs]
    assert ends == [0, -signal.SIGKILL], [job.text() for job in jobs]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", ranks_job.RULES)
def test_ranks_that_share_passes_stay_equal_and_equal_one_process_to_the_bit(ranks, name):
    first, second = (rank["global"][name] for rank in ranks)
    assert first == second
    assert first == json.loads(json.dumps(ranks_job.train(name, [1, 2])))


def test_the_joint_direction_is_clipped(ranks):
    first, second = (rank["clipped"] for rank in ranks)
    assert first == second
    assert first["weights"] != ranks[0]["global"]["sam"]["weights"]


@pytest.mark.parametrize("name", ranks_job.BY_RANK)
def test_ranks_that_perturb_by_themselves_have_equal_weights_and_their_own_losses(ranks, name):
    first, second = (rank["per_rank"][name] for rank in ranks)
    assert first["weights"] == second["weights"]
    assert first["losses"] != second["losses"]
    if name == "safe_plus":  # by which the ranks choose the weights that end as zeros
        of_ranks = [{k: v for k, v in one["own"].items() if "importance" in k} for one in (first, second)]
        assert of_ranks[0]
        assert of_ranks[0] == of_ranks[1]
    if name in ranks_job.RULES:
        assert first["weights"] != ranks[0]["global"][name]["weights"]


def test_a_model_within_pytorch_s_wrapper_equals_one_process(ranks):
    alone = ranks_job.train_batches(lambda net: net, [1, 2])
    assert ranks[0]["wrapped"]["weights"] == ranks[1]["wrapped"]["weights"] == alone["weights"]


def test_buffers_are_those_of_the_first_rank(ranks):
    first, second = (rank["batches"] for rank in ranks)
    assert first == second
    assert first == ranks[0]["wrapped"]
    assert first["buffers"] != ranks[1]["wrapped"]["buffers"]


def ends_of(ranks, *words):
    found = [rank["trouble"][" ".join(words)] for rank in ranks]
    assert found[0]["weights"] == found[1]["weights"]
    assert found[0]["skipped"] == found[1]["skipped"]
    assert found[0]["scale"] == found[1]["scale"]
    for one in found:
        assert [one["ends"][0], one["ends"][2]] == ["moved", "moved"]
    return [one["ends"][1] for one in found], found[0]


@pytest.mark.parametrize("how", ["global", "per_rank"])
def test_what_is_not_finite_on_one_rank_is_skipped_by_all_or_raises_on_all(ranks, how):
    ends, found = ends_of(ranks, how, "skip", "nan")
    assert ends == ["stayed", "stayed"]
    assert found["skipped"] == 1
    ends, found = ends_of(ranks, how, "raise", "nan")
    assert all(end.startswith("FloatingPointError") for end in ends)
    assert found["skipped"] == 0


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("how", ["global", "per_rank"])
def test_an_error_on_one_rank_ends_the_step_on_all(ranks, how, nonfinite):
    ends, _ = ends_of(ranks, how, nonfinite, "error")
    assert ends[0].startswith("FailedRankError: Expected all 2 ranks to finish the step (rank 1 raised an error)")
    assert ends[1] == "ZeroDivisionError: of this rank alone"


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("how", ["global", "per_rank"])
def test_ranks_that_reach_different_parameters_are_told(ranks, how, nonfinite):
    ends, _ = ends_of(ranks, how, nonfinite, "unreached")
    assert all("all 2 ranks to depend on the same parameters" in end for end in ends)


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("how", ["global", "per_rank"])
def test_an_overflow_on_one_rank_is_skipped_by_all_and_lowers_every_scale(ranks, how, nonfinite):
    ends, found = ends_of(ranks, how, nonfinite, "overflow")
    assert ends == ["stayed", "stayed"]
    assert (found["skipped"], found["scale"]) == (1, 2.0**119)


def test_a_copy_steps_with_the_other_rank(ranks):
    assert ranks[0]["copied"] == ranks[1]["copied"]


def test_gradients_are_not_averaged_twice(ranks):
    assert "within DistributedDataParallel, so that gradients would be averaged twice" in ranks[0]["refusals"][0]


def test_a_wrapper_that_averages_gradients_only_is_refused_where_more_is_asked_for(ranks):
    assert "DistributedDataParallel, which averages gradients only" in ranks[0]["refusals"][1]


def test_a_killed_rank_ends_the_others_with_a_clear_message(ranks):
    assert ranks[0]["killed"].startswith("Expected all 2 ranks to take part in the step (rank lost: ")
    assert "killed" not in ranks[1]


def test_without_a_process_group_the_message_says_so():
    with pytest.raises(RuntimeError, match=r"Expected an initialised process group.*init_process_group"):
        SAM([torch.ones(1, requires_grad=True)], lr=0.1, data_parallel="global")


def test_what_cannot_be_shared_is_refused():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="data_parallel='per_rank' for a rule that weighs single queries"):
        ESAM([w], lr=0.1, data_parallel="global")
    with pytest.raises(ValueError, match="None, 'global' or 'per_rank'"):
        SAM([w], lr=0.1, data_parallel="both")
    with pytest.raises(ValueError, match="with 'scaler' or 'data_parallel'"):
        SAM([w], lr=0.1, data_parallel="global", nonfinite="allow")
