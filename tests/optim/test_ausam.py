from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from fgsam.optim.ausam import AUSAM
from fgsam.optim.sam import SAM
from tests.twins.masks import QueryNet, ausam_directions, run_queries
from tests.twins.optimizers import adam_update, relative_error, run_twin, sgd_update

SGD = {"base": torch.optim.SGD, "lr": 0.3}


class Watched(AUSAM):
    """Keeps the weights of every step."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.seen = []

    def _weights(self, num_queries):
        found = super()._weights(num_queries)
        self.seen.append(found.numpy())
        return found


def scored(scores, **options):
    """An optimizer of one weight a query, with given scores of one draw each."""
    w = torch.ones(len(scores), dtype=torch.float64, requires_grad=True)
    optimizer = Watched([w], torch.optim.SGD, lr=0.0, rise_steps=0, **options)
    for i, score in enumerate(scores):
        optimizer.own.update({f"score.{i}": score, f"draws.{i}": 1})
    return w, optimizer


def many_draws(scores, num_draws, **options):
    """Weights of the queries in many draws, one row each, from one generator."""
    _, optimizer = scored(scores, **options)
    generator = torch.Generator().manual_seed(0)
    optimizer.generator = lambda *keys: generator
    return np.array([optimizer._weights(len(scores)).numpy() for _ in range(num_draws)])


@pytest.mark.parametrize("form", ["unbiased", "code"])
@pytest.mark.parametrize(("alpha", "ends"), [(0.5, (0.1, 0.5, 6)), (0.3, (0.2, 0.4, 1)), (0.6, (0.3, 0.3, 5))])
def test_ten_steps_equal_the_equations(alpha, ends, form):
    net = QueryNet(seed=6)
    options = {"alpha": alpha, "form": form, **dict(zip(("f_min", "f_max", "rise_steps"), ends, strict=True))}
    found, _, optimizer = run_queries(net, Watched, 10, rho=0.3, **options, **SGD)
    draws = [weights > 0 for weights in optimizer.seen]
    expected = run_twin(net, ausam_directions(net, 0.3, alpha, ends, draws, form), sgd_update(0.3), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12
    assert len({tuple(draw) for draw in draws}) > 2


def test_ten_steps_equal_the_equations_under_adam():
    net = QueryNet(seed=6)
    found, _, optimizer = run_queries(net, Watched, 10, rho=0.3, lr=0.05, weight_decay=5e-4)
    directions = ausam_directions(net, 0.3, 0.5, (0.1, 0.5, 150), [w > 0 for w in optimizer.seen], "unbiased")
    expected = run_twin(net, directions, adam_update(0.05, 5e-4), 10)
    assert max(relative_error(f, e) for f, e in zip(found, expected, strict=True)) < 1e-12


@pytest.mark.parametrize("form", ["unbiased", "code"])
def test_drawing_every_query_is_sam_bit_for_bit(form):
    found, _, _ = run_queries(QueryNet(), AUSAM, 6, rho=0.3, alpha=1.0, form=form)
    expected, _, _ = run_queries(QueryNet(), SAM, 6, rho=0.3)
    assert all(np.array_equal(f, e) for f, e in zip(found[-1], expected[-1], strict=True))


def test_expected_gradient_is_that_of_all_queries_unlike_that_of_the_code():
    net = QueryNet(seed=7)
    full = np.concatenate([one.ravel() for one in net.gradient(net.start)])
    errors = {}
    for form in ("unbiased", "code"):
        weights = many_draws([float(i) for i in range(8)], 800, form=form, f_min=0.05)
        mean = np.concatenate([one.ravel() for one in net.gradient(net.start, weights.mean(0))])
        errors[form] = np.linalg.norm(mean - full) / np.linalg.norm(full)
    assert errors["unbiased"] < 0.1 < 0.2 < errors["code"]


@pytest.mark.parametrize("form", ["unbiased", "code"])
def test_uniform_scores_draw_uniformly(form):
    weights = many_draws([2.0] * 6, 400, form=form)
    np.testing.assert_allclose(weights[weights > 0], 1 / 3, rtol=1e-15)
    assert ((weights > 0).sum(1) == 3).all()
    assert np.abs((weights > 0).sum(0) - 200).max() < 5 * (400 * 0.25) ** 0.5


def test_queries_with_larger_scores_are_drawn_more_often_and_count_less():
    weights = many_draws([0.0, 0.0, 0.0, 4.0], 500, alpha=0.25, f_min=0.1, f_max=0.7)
    assert ((weights > 0).sum(1) == 1).all()
    for query, chance in enumerate((0.1, 0.1, 0.1, 0.7)):
        own = weights[:, query]
        np.testing.assert_allclose(own[own > 0], 1 / (4 * chance))
        assert abs((own > 0).mean() - chance) < 5 * (chance * (1 - chance) / 500) ** 0.5


@pytest.mark.parametrize("form", ["unbiased", "code"])
def test_queries_without_a_score_are_all_drawn(form):
    w, optimizer = scored([1.0, 2.0, 3.0, 4.0], form=form)
    optimizer.samples = [0, 70, 1, 71, 2, 72]
    w6 = torch.ones(6, dtype=torch.float64)
    optimizer.step(lambda: w6 * w.sum())
    weights = optimizer.seen[-1]
    assert (weights[[1, 3, 5]] > 0).all()
    assert (weights[[0, 2, 4]] > 0).sum() == 2
    if form == "unbiased":
        np.testing.assert_allclose(weights[[1, 3, 5]], 1 / 6, rtol=1e-15)
    assert {"score.70", "score.71", "score.72"} <= set(optimizer.own)


def test_scores_are_running_means_of_what_the_ascent_does_to_a_sample():
    w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer = AUSAM([w], torch.optim.SGD, lr=0.0, rho=1.0)
    slopes = torch.tensor([3.0, 4.0], dtype=torch.float64)
    optimizer.samples = torch.tensor([8, 5])
    optimizer.step(lambda: 2 * slopes * w)  # the gradient of the mean is (3, 4), its direction (0.6, 0.8)
    assert optimizer.own["score.8"] == pytest.approx(3.6)
    assert optimizer.own["score.5"] == pytest.approx(6.4)
    optimizer.own["score.5"] = 3.6  # equal scores
    optimizer.samples = [8]
    optimizer.step(lambda: 2 * slopes[:1] * w[:1])
    assert optimizer.own["score.8"] == pytest.approx((3.6 + 6.0) / 2)
    assert (optimizer.own["draws.8"], optimizer.own["draws.5"]) == (2, 1)


def test_upper_end_of_the_scores_rises_with_the_steps():
    _, optimizer = scored([0.0, 1.0], f_min=0.1, f_max=0.5)
    optimizer.rise_steps = 4
    found = []
    for call in range(6):
        optimizer.own["num_calls"] = call
        found.append(optimizer._scaled(torch.tensor([0.0, 1.0]))[1].item())
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_scores_survive_a_checkpoint():
    net = QueryNet()
    _, _, optimizer = run_queries(net, AUSAM, 4)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh = AUSAM(net.tensors())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.own == optimizer.own
    assert sum(key.startswith("score.") for key in fresh.own) == 8


def test_a_skipped_step_leaves_the_scores():
    w, optimizer = scored([1.0, 2.0])
    optimizer.nonfinite = "skip"
    optimizer.step(lambda: w * float("nan"))
    assert [optimizer.own[key] for key in ("score.0", "score.1", "draws.0", "draws.1")] == [1.0, 2.0, 1, 1]
    assert optimizer.num_skipped == 1


def test_ids_must_be_as_many_as_queries():
    w, optimizer = scored([1.0, 2.0])
    optimizer.samples = [1, 2, 3]
    with pytest.raises(ValueError, match=r"one id for each query \(got 3 ids, 2 queries\).*optimizer\.samples"):
        optimizer.step(lambda: w**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"Expected 'alpha' to be above 0 and at most 1 \(got alpha=0.0\)"),
        ({"f_min": 0.0}, r"Expected 'f_min' to be positive \(got f_min=0.0\)"),
        ({"f_max": 0.05}, r"Expected 'f_max' to be at least 'f_min' \(got f_max=0.05, f_min=0.1\)"),
        ({"rise_steps": -1}, "Expected 'rise_steps' to be at least 0"),
        ({"form": "paper"}, "Expected 'form' to be one of unbiased, code"),
        ({"rho": -1.0}, "Expected 'rho' to be at least 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AUSAM([torch.ones(1, requires_grad=True)], **options)
