from __future__ import annotations

import time

import pytest
import torch

from fgsam.engine.build import Entries
from fgsam.engine.config import load_config
from fgsam.engine.inputs import build_inputs
from fgsam.engine.setup import Setup
from fgsam.engine.stopwatch import STAGES, Stopwatch, fair_clock, interleaved, period_of
from fgsam.registry import OPTIMIZERS
from tests.engine.tiny import OPTIONS, SHAPE, tiny_graph

CPU = torch.device("cpu")


def test_arms_take_turns_and_the_first_rounds_warm_up():
    calls: list[str] = []
    arms = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleaved(arms, device=CPU, rounds=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(values) for name, values in times.items()} == {"a": 3, "b": 3}


def test_past_the_deadline_there_is_one_round():
    calls: list[str] = []
    arms = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleaved(arms, device=CPU, rounds=9, deadline=0.0)
    assert calls == ["a", "b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 1, "b": 1}


def test_processor_time_is_taken_on_one_thread_of_the_cpu_only(monkeypatch: pytest.MonkeyPatch):
    assert fair_clock(CPU) is time.process_time
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert fair_clock(CPU) is time.perf_counter


@pytest.mark.parametrize(("name", "period"), [("sam", 1), ("fgsam_plus", 2), ("aesam", None)])
def test_the_period_of_a_rule_is_that_of_its_longest_step(name: str, period: int | None):
    assert period_of(OPTIMIZERS.load(name)([torch.zeros(2, requires_grad=True)]), 10) == period


def test_the_stages_of_a_step_add_up_to_it_and_change_nothing():
    values = {"episode": SHAPE, "optimizer": {"name": "fgsam"}, "train": OPTIONS["train"]}
    config = load_config(values=values)
    data = build_inputs(config, tiny_graph())
    weights = []
    backward = torch.autograd.backward
    for is_watched in (False, True):
        setup = Setup.of(config, data, Entries.load(config))
        trainer = setup.trainer()
        if is_watched:
            watch = trainer.task = Stopwatch(trainer.task)
            with watch.whole():
                trainer.learn(1)
            assert set(watch.seconds) == set(STAGES)
            assert min(watch.seconds.values()) > 0
        else:
            trainer.learn(1)
        weights.append(torch.cat([param.detach().flatten() for param in setup.learner.parameters()]))
    assert torch.equal(*weights)
    assert torch.autograd.backward is backward
