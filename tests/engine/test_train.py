from __future__ import annotations

import copy
from functools import cache

import pytest
import torch

from fgsam.engine import episode_task
from fgsam.engine.callbacks import Callback
from fgsam.engine.checkpoint import load_checkpoint, save_checkpoint, weights_digest
from fgsam.engine.episode_task import EpisodeTask
from fgsam.engine.evaluate import BankScorer
from fgsam.engine.train import NonFiniteLossError
from fgsam.registry import OPTIMIZERS
from tests.engine.tiny import tiny_trainer


def digest(trainer):
    return weights_digest(trainer.method.state_dict())


class StopAfter(Callback):
    def __init__(self, num_steps):
        self.left = num_steps

    def on_step(self, trainer):
        self.left -= 1

    def __call__(self):
        return self.left <= 0


def stopped_after(num_steps, **options):
    stop = StopAfter(num_steps)
    trainer = tiny_trainer(callbacks=[stop], **options)
    assert trainer.fit(stop) == "stopped"
    return trainer


def facts(trainer):
    """What equal trainings have in common, the chosen step and its weights last."""
    history = [v.score for v in trainer.history]
    return digest(trainer), history, [c.step for c in trainer.candidates], trainer.choose()[0], digest(trainer)


@cache
def facts_of_whole(optimizer):
    """Those of a training that is never stopped."""
    trainer = tiny_trainer(optimizer)
    trainer.fit()
    return facts(trainer)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_the_same_seed_gives_the_same_bits(optimizer):
    torch.manual_seed(99)  # what the caller does with the global generator does not matter
    trainer = tiny_trainer(optimizer)
    trainer.fit()
    assert facts(trainer) == facts_of_whole(optimizer)


def test_another_seed_gives_other_weights():
    first, second = tiny_trainer(seed=0), tiny_trainer(seed=1)
    first.fit()
    second.fit()
    assert digest(first) != digest(second)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("num_steps", [1, 5, 12])
def test_stopping_saving_and_going_on_changes_no_bit(optimizer, num_steps, tmp_path):
    half = stopped_after(num_steps, optimizer=optimizer)
    save_checkpoint(tmp_path / "state", half.state_dict())
    resumed = tiny_trainer(optimizer)
    resumed.load_state_dict(load_checkpoint(tmp_path / "state"))
    resumed.fit()
    assert facts(resumed) == facts_of_whole(optimizer)


def test_validation_does_not_change_training():
    often, rarely = tiny_trainer(val_every=1, patience=99), tiny_trainer(val_every=20)
    often.fit()
    rarely.fit()
    assert digest(often) == digest(rarely)


def test_the_callers_random_state_is_left_alone():
    before = torch.get_rng_state()
    tiny_trainer().fit()
    assert torch.equal(torch.get_rng_state(), before)


def seen_episodes(monkeypatch, optimizer):
    seen = []
    trainer = tiny_trainer(optimizer)
    draw = trainer.task.sampler.draw

    def recording(rng):
        episode = draw(rng)
        seen.append((episode.nodes.tolist(), torch.rand(3).tolist()))
        return episode

    monkeypatch.setattr(trainer.task.sampler, "draw", recording)
    trainer.fit()
    return seen


def test_all_optimizers_see_the_same_episodes_and_the_same_random_numbers(monkeypatch):
    reference = seen_episodes(monkeypatch, "adam")
    assert len({str(nodes) for nodes, _ in reference}) == 20
    for optimizer in ("sam", "fgsam", "fgsam_plus"):
        assert seen_episodes(monkeypatch, optimizer) == reference


def fields_by_step(monkeypatch, optimizer, num_steps=6, **options):
    made = []
    real = EpisodeTask.field

    def counting(task, method, batch, *, peer):
        made[-1].append("peer" if peer else "gnn")
        return real(task, method, batch, peer=peer)

    trainer = tiny_trainer(optimizer, num_steps=num_steps, **options)
    draw = trainer.task.sampler.draw
    monkeypatch.setattr(trainer.task.sampler, "draw", lambda rng: (made.append([]), draw(rng))[1])
    monkeypatch.setattr(EpisodeTask, "field", counting)
    trainer.fit()
    return made


def test_cheap_steps_never_build_the_graphs_field(monkeypatch):
    exact, cheap = ["gnn", "peer"], ["peer"]
    assert fields_by_step(monkeypatch, "fgsam_plus") == [exact, cheap] * 3


@pytest.mark.parametrize(
    ("optimizer", "expected"), [("adam", ["gnn"]), ("sam", ["gnn"]), ("asam", ["gnn"]), ("fgsam", ["gnn", "peer"])]
)
def test_a_field_is_built_once_a_step_and_only_if_a_pass_reads_it(monkeypatch, optimizer, expected):
    assert fields_by_step(monkeypatch, optimizer) == [expected] * 6


def test_the_peer_has_dropout_only_if_asked(monkeypatch):
    without, with_dropout = tiny_trainer("fgsam"), tiny_trainer("fgsam", peer_dropout=True)
    modes = {}
    for name, trainer in (("without", without), ("with", with_dropout)):
        real = trainer.method.loss

        def recording(field, episode, name=name, trainer=trainer, real=real):
            modes.setdefault((name, field.is_peer), set()).add(trainer.method.training)
            return real(field, episode)

        trainer.method.loss = recording
        trainer.fit()
    assert modes[("without", True)] == {False}
    assert modes[("with", True)] == {True}
    assert modes[("without", False)] == modes[("with", False)] == {True}
    assert digest(without) != digest(with_dropout)


def test_training_stops_when_patience_runs_out():
    trainer = tiny_trainer(num_steps=500, val_every=1, patience=3, lr=1e-12)
    assert trainer.fit() == "patience"
    assert trainer.step == 4  # the first validation is the best one, three more do not improve
    assert trainer.best.step == 1


def test_training_stops_when_time_runs_out_and_can_go_on():
    trainer = tiny_trainer(max_seconds=0)
    assert trainer.fit() == "max_seconds"
    assert trainer.step == 0
    trainer.max_seconds = None
    assert trainer.fit() == "num_episodes"


def test_weights_cut_short_before_any_validation_are_scored_too():
    trainer = stopped_after(3)
    before = digest(trainer)
    step, scored = trainer.choose()
    assert step == 3
    assert len(scored.hits) == len(trainer.task.val_bank)
    assert digest(trainer) == before


def test_the_last_step_is_validated_whatever_the_rhythm():
    trainer = tiny_trainer(num_steps=7, val_every=5)
    trainer.fit()
    assert [validation.step for validation in trainer.history] == [5, 7]


def test_the_best_three_by_quick_validation_compete_on_the_whole_bank(monkeypatch):
    monkeypatch.setattr(episode_task, "QUICK_EPISODES", 4)
    trainer = tiny_trainer(num_steps=40, val_every=4, patience=99)
    trainer.fit()
    ranked = sorted(trainer.history, key=lambda v: (-v.score, v.step))[:3]
    assert [c.step for c in trainer.candidates] == [v.step for v in ranked]
    assert trainer.task._quick.bank.query.shape[0] == 4
    step, scored = trainer.choose()
    scores = {}
    for candidate in trainer.candidates:
        trainer.method.load_state_dict(candidate.weights)
        scores[candidate.step] = int(BankScorer(trainer.graph, trainer.task.val_bank).correct(trainer.method).sum())
    assert int(scored.hits.sum()) == scores[step] == max(scores.values())


def test_kept_candidates_do_not_move_with_training():
    trainer = stopped_after(5)
    kept = copy.deepcopy(trainer.candidates[0].weights)
    trainer.fit()
    first = next(c for c in trainer.candidates if c.step == 5) if any(c.step == 5 for c in trainer.candidates) else None
    assert first is None or all(torch.equal(first.weights[name], kept[name]) for name in kept)


def test_the_time_of_a_step_is_fair_to_steps_that_differ_and_robust_against_outliers():
    trainer = tiny_trainer()
    assert trainer.ms_per_step != trainer.ms_per_step  # NaN
    trainer.step_seconds = [0.001, 0.003]
    assert trainer.ms_per_step == pytest.approx(2.0)
    trainer.step_seconds = [0.001, 0.003] * 50 + [5.0] * 10
    assert trainer.ms_per_step == pytest.approx(2.0)


class Poison(Callback):
    def on_step(self, trainer):
        if trainer.step == 2:
            with torch.no_grad():
                next(trainer.method.parameters()).fill_(float("inf"))


def test_a_loss_that_is_not_finite_stops_with_what_one_needs_to_know(tmp_path):
    (tmp_path / "checkpoint.fgsam").write_bytes(b"")
    trainer = tiny_trainer(callbacks=[Poison()], directory=tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"episode 3 .*weight norm inf.*loss nan.*checkpoint\.fgsam"):
        trainer.fit()
    assert trainer.step == 2


def test_a_loss_that_is_not_finite_before_any_checkpoint_says_so(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"gradient norm nan.*No checkpoint was saved before\."):
        tiny_trainer(callbacks=[Poison()], directory=tmp_path).fit()


def test_callbacks_hear_the_end_also_of_a_failed_training():
    heard = []

    class Listener(Poison):
        def on_start(self, trainer):
            heard.append("start")

        def on_end(self, trainer):
            heard.append("end")

    with pytest.raises(NonFiniteLossError):
        tiny_trainer(callbacks=[Listener()]).fit()
    assert heard == ["start", "end"]


@pytest.mark.parametrize("name", ["num_steps", "val_every", "patience", "batches_per_step"])
def test_numbers_out_of_range_are_named(name):
    with pytest.raises(ValueError, match=f"'{name}' to be positive"):
        tiny_trainer(**{name: 0})


def test_a_step_of_two_episodes_takes_the_mean_of_their_gradients():
    first, second, both = tiny_trainer(num_steps=1), tiny_trainer(num_steps=1), tiny_trainer(batches_per_step=2)
    second.stream = second._stream(1)
    means = {}
    for trainer in (first, second, both):
        trainer.optimizer = OPTIMIZERS.load("sgd")(trainer.method, lr=1.0)
        before = [p.detach().clone() for p in trainer.method.parameters()]
        trainer.learn(1)
        means[trainer] = [old - new for old, new in zip(before, trainer.method.parameters(), strict=True)]
    for one, other, joint in zip(*means.values(), strict=True):
        torch.testing.assert_close(joint, (one + other) / 2)
    assert both.loss == pytest.approx((first.loss + second.loss) / 2)


@pytest.mark.parametrize("optimizer", ["sam", "fgsam_plus", "esam"])
def test_steps_of_several_episodes_go_on_after_a_stop_without_a_changed_bit(optimizer, tmp_path):
    whole, half, resumed = (tiny_trainer(optimizer, batches_per_step=3, num_steps=6) for _ in range(3))
    whole.fit()
    half.callbacks = [stop := StopAfter(3)]
    half.fit(stop)
    save_checkpoint(tmp_path / "state", half.state_dict())
    resumed.load_state_dict(load_checkpoint(tmp_path / "state"))
    resumed.fit()
    assert digest(resumed) == digest(whole) != digest(half)


def test_each_episode_of_a_step_is_drawn_once_and_has_random_numbers_of_its_own(monkeypatch):
    trainer = tiny_trainer("sam", batches_per_step=2, num_steps=1)
    drawn, seen = [], []
    draw, loss = trainer.task.draw, trainer.method.loss

    def drawing(stream, step):
        drawn.append(draw(stream, step))
        return drawn[-1]

    def watching(field, episode):
        seen.append(float(torch.rand(())))
        return loss(field, episode)

    monkeypatch.setattr(trainer.task, "draw", drawing)
    monkeypatch.setattr(trainer.method, "loss", watching)
    trainer.learn(1)
    assert len(drawn) == 2
    assert drawn[0].nodes.tolist() != drawn[1].nodes.tolist()
    assert seen[:2] == seen[2:]  # both passes of SAM
    assert seen[0] != seen[1]
