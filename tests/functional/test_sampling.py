from __future__ import annotations

import pytest
import torch

from fgsam.functional.sampling import inclusion_probabilities, systematic_draw

SIZES = torch.tensor([0.1, 0.5, 0.3, 0.1, 0.45, 0.2], dtype=torch.float64)


@pytest.mark.parametrize("count", range(7))
def test_inclusion_probabilities_add_up_and_follow_the_sizes(count):
    found = inclusion_probabilities(SIZES, count)
    torch.testing.assert_close(found.sum(), torch.tensor(float(count), dtype=torch.float64))
    assert found.max() <= 1
    below = found < 1
    ratios = (found / SIZES)[below]
    assert len(ratios) == 0 or ratios.max() - ratios.min() < 1e-12
    if below.any() and not below.all():  # those that are always drawn would have come out above one
        assert (SIZES[~below] * ratios[0] >= 1 - 1e-12).all()


def test_large_sizes_are_certain_and_leave_the_rest_to_the_others():
    found = inclusion_probabilities(torch.tensor([1.0, 1.0, 2.0, 50.0, 9.0]), 3)
    torch.testing.assert_close(found, torch.tensor([0.25, 0.25, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6])
def test_draws_have_their_size_and_frequencies(count):
    chances = inclusion_probabilities(SIZES, count)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([systematic_draw(chances, generator) for _ in range(4000)])
    assert (draws.sum(1) == count).all()
    # Four standard deviations of a frequency.
    assert ((draws.double().mean(0) - chances).abs() <= 4 * (chances * (1 - chances) / 4000).sqrt() + 1e-12).all()


def test_draws_are_the_generators():
    chances = inclusion_probabilities(SIZES, 3)
    first, again = (systematic_draw(chances, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    others = {tuple(systematic_draw(chances, torch.Generator().manual_seed(s)).tolist()) for s in range(20)}
    assert len(others) > 5
