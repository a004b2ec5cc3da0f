"""Runs whose episodes are divided among two processes; and what torchrun makes of their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fgsam.cli import app
from fgsam.engine import job
from fgsam.engine.config import load_config
from fgsam.engine.interrupts import Interrupts
from fgsam.engine.run import run
from fgsam.engine.team import form_team
from tests.engine import ranks_job
from tests.engine.ranks_job import JOINT, OPTIONS, facts
from tests.engine.tiny import tiny_run
from tests.processes import Job

ROOT = Path(__file__).parents[2]

# Gloo looks for the machine's name otherwise, which need not lead anywhere.
GLOO = {"GLOO_SOCKET_IFNAME": "lo"}
ENVIRONMENT = {**os.environ, **GLOO, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(folder):
    """Findings of two processes on this machine, all from one pair of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {**GLOO, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    jobs = [Job(folder / f"{rank}.txt", ranks_job.main, folder, **meeting, RANK=str(rank)) for rank in range(2)]
    assert [each.wait(400) for each in jobs] == [0, 0], [each.text() for each in jobs]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process with two episodes a step."""
    root = tmp_path_factory.mktemp("alone")
    return {name: facts(tiny_run(root, optimizer=name, **JOINT)) for name in ("sam", "fgsam_plus")}


@pytest.mark.parametrize("optimizer", ["sam", "fgsam_plus"])
def test_two_ranks_give_the_bits_of_one_process_and_its_directory(ranks, alone, optimizer):
    first, second = (rank[optimizer] for rank in ranks)
    assert first == second
    assert first["digest"] == alone[optimizer]["digest"]
    assert first["name"] == alone[optimizer]["name"]
    assert [line.get("loss") for line in first["log"]] == [line.get("loss") for line in alone[optimizer]["log"]]
    assert first["test"] == alone[optimizer]["test"]


def test_a_perturbation_of_each_rank_is_another_run(ranks):
    first, second = (rank["per_rank"] for rank in ranks)
    assert first == second
    assert first["digest"] != ranks[0]["fgsam_plus"]["digest"]
    assert first["name"] != ranks[0]["fgsam_plus"]["name"]


def test_ranks_with_several_episodes_round_in_another_order_and_so_have_a_name_of_their_own(ranks, tmp_path):
    options = {**JOINT, "optimizer": "sam", "episodes_per_step": 4}
    one = facts(tiny_run(tmp_path, **options))
    two = ranks[0]["four episodes"]
    assert two["name"] != one["name"]
    losses = [[line["loss"] for line in run["log"] if "loss" in line] for run in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_ranks_that_differ_stop_together_and_go_on_from_one_checkpoint(ranks):
    assert all("Interrupted: Stopped after step 5 of 10" in rank["stopped"] for rank in ranks)
    untimed = [
        [{key: value for key, value in line.items() if key != "seconds"} for line in ranks[0][name]["log"]]
        for name in ("per_rank", "resumed")
    ]
    assert untimed[0] == untimed[1]
    assert ranks[0]["resumed"]["digest"] == ranks[1]["resumed"]["digest"] == ranks[0]["per_rank"]["digest"]


def test_what_fails_on_one_rank_ends_both(ranks):
    first, second = (rank["one fails"] for rank in ranks)
    assert first.startswith("FailedRankError: Expected all 2 ranks to finish the step (rank 1 raised an error)")
    assert second.startswith("RankError: 'NoneType'")
    first, second = (rank["no graph"] for rank in ranks)
    assert first.startswith("FailedRankError: Expected all 2 ranks to begin (rank 1: ")
    assert "none.npz" in first
    assert second.startswith("FileNotFoundError")


def test_ranks_that_cannot_share_a_step_are_refused_with_the_way_out(ranks, folder):
    for rank in ranks:
        assert "'train.episodes_per_step' to be a multiple of the number of ranks (got" in rank["odd"]
        assert "Set train.episodes_per_step=2" in rank["odd"]
        assert "data_parallel='per_rank' for a rule that weighs single queries" in rank["weighing"]
    assert not list(folder.glob("odd/*-*")) + list(folder.glob("weighing/*-*/*"))


def test_only_the_first_rank_writes(ranks, folder):
    for path in folder.glob("*/*-*"):
        found = {file.name for file in path.iterdir()}
        assert found <= {"config.yaml", "log.jsonl", "checkpoint.fgsam", "weights.fgsam", "result.json", "lock"}
    # Lines of two writers would come twice.
    steps = [line["step"] for line in ranks[0]["per_rank"]["log"] if "loss" in line]
    assert steps == list(range(1, 11))


def test_a_perturbation_of_each_rank_needs_ranks(tmp_path):
    with pytest.raises(ValueError, match=r"several ranks with 'train.perturbation=per_rank' .got one process"):
        tiny_run(tmp_path, **OPTIONS, perturbation="per_rank", optimizer="sam")


def test_node_classification_is_not_divided(tmp_path, monkeypatch):
    monkeypatch.setattr("fgsam.engine.team.num_ranks", lambda: 2)
    graph = {"num_nodes": 60, "num_classes": 3, "num_features": 10, "words_per_node": 5}
    options = {"task": "node_classification", "optimizer": "sam", "root": str(tmp_path), "progress": "none"}
    with pytest.raises(ValueError, match=r"task=few_shot with several ranks.*2 ranks.*without torchrun"):
        run(graph, **options)


def test_without_torchrun_no_process_group_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *args, **kwargs: pytest.fail("made one"))
    assert (job.num_ranks(), job.own_rank()) == (1, 0)
    tiny_run(tmp_path, **JOINT, optimizer="adam", num_episodes=2)


def test_ranks_that_were_never_started_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RuntimeError, match=r"to join the 2 ranks that WORLD_SIZE announces.*torchrun --nproc-per-node"):
        tiny_run(tmp_path, **JOINT, optimizer="adam")


def settings_of(root: Path) -> list[str]:
    """What is trained by torchrun, and by one process."""
    sizes = {"num_nodes": 600, "num_classes": 12, "num_features": 100, "words_per_node": 20}
    settings = [f"dataset.{key}={value}" for key, value in sizes.items()]
    settings += ["episode.n_way=2", "train.num_episodes=40", "train.val_every=5", "train.val_episodes=20"]
    settings += ["evaluate.num_episodes=30", "method.name=gpn", "optimizer.name=fgsam_plus", "encoder.dropout=0.5"]
    return ["run", "--json", "--no-floors", *settings, "train.episodes_per_step=2", f"run.root={root}"]


def run_by_torchrun(root: Path, *overrides: str, hurt: str = "0 none") -> subprocess.CompletedProcess[str]:
    """Run the command line on two ranks until it ends."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, "-m", "tests.engine.ranks_cli", *settings_of(root), *overrides]
    return subprocess.run(command, cwd=ROOT, env={**ENVIRONMENT, "HURT": hurt}, capture_output=True, text=True)


def test_a_job_of_torchrun_survives_a_killed_rank_and_sigterm(tmp_path):
    killed = run_by_torchrun(tmp_path / "hurt", hurt="8 kill")
    assert killed.returncode == 1
    assert killed.stderr.count("Expected all 2 ranks to take part in the step (rank lost: ") == 1
    assert "(exitcode: -9)" in killed.stderr
    stopped = run_by_torchrun(tmp_path / "hurt", hurt="14 stop")
    assert stopped.returncode == 1  # of torchrun, whatever its processes say
    assert "Going on from step 7" in stopped.stderr
    assert stopped.stderr.count("Stopped after step ") == 1
    assert killed.stdout == stopped.stdout == ""
    finished = run_by_torchrun(tmp_path / "hurt")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    whole = json.loads(CliRunner().invoke(app, settings_of(tmp_path / "whole")).stdout)
    assert found["weights_digest"] == whole["weights_digest"]
    assert found["num_episodes"] == whole["num_episodes"] == 40
    assert Path(found["run_dir"]).name == Path(whole["run_dir"]).name


def test_faults_are_told_once(tmp_path):
    done = run_by_torchrun(tmp_path, "optimizer.rho=-1")
    assert done.returncode == 1
    assert done.stderr.count("Error: Expected 'rho' to be at least 0") == 1
    assert "exitcode  : 2 " in done.stderr


def test_a_rank_that_leaves_with_an_error_tells_it_whatever_torchrun_sends(monkeypatch):
    former = signal.getsignal(signal.SIGTERM)
    try:
        for num_ranks, expected in ((1, former), (2, signal.SIG_IGN)):
            monkeypatch.setenv("WORLD_SIZE", str(num_ranks))
            with pytest.raises(OSError, match="lost"), Interrupts():
                raise OSError("lost")
            assert signal.getsignal(signal.SIGTERM) == expected
    finally:
        signal.signal(signal.SIGTERM, former)


@pytest.mark.parametrize(("device", "backend"), [("cpu", "cpu:gloo"), ("cuda", "cpu:gloo,cuda:nccl")])
def test_ranks_talk_by_what_their_device_needs(monkeypatch, device, backend):
    class Asked(RuntimeError):
        pass

    def ask(name, **options):
        raise Asked(name)

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    monkeypatch.setattr("torch.distributed.init_process_group", ask)
    config = load_config(overrides=["train.episodes_per_step=2", f"run.device={device}"])
    with pytest.raises(RuntimeError, match=rf"got {backend}\)"):
        form_team(config)
    assert chosen == [1] * (device == "cuda")


def test_each_rank_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    settings = ["train.episodes_per_step=2", "run.device=cuda"]
    with pytest.raises(ValueError, match=r"a GPU for each rank of this machine \(got 1 GPUs, rank 1\)"):
        form_team(load_config(overrides=settings))
    with pytest.raises(ValueError, match=r"'run.device' to be cpu or cuda with 2 ranks"):
        form_team(load_config(overrides=[*settings, "run.device=cuda:0"]))
