from __future__ import annotations

import pytest
import torch

from fgsam.functional.tilting import TiltedMean, tilted_slopes
from fgsam.functional.trees import Gradient

LOSSES = [0.3, -1.0, 2.5, 2.4]


def mean_of(losses, tilt, dtype=torch.float64):
    mean = TiltedMean(tilt)
    for i, loss in enumerate(losses):
        gradient = Gradient([torch.tensor([1.0 + i, float(i * i)], dtype=dtype), None])
        gradient.loss = torch.tensor(loss, dtype=dtype)
        mean.add_(gradient)
    return mean.value()


@pytest.mark.parametrize("tilt", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_weights_are_the_softmax_of_the_tilted_losses(tilt, shift):
    losses = torch.tensor(LOSSES, dtype=torch.float64)
    gradients = torch.tensor([[1.0 + i, float(i * i)] for i in range(4)], dtype=torch.float64)
    expected = torch.softmax(tilt * losses, 0) @ gradients
    found = mean_of((losses + shift).tolist(), tilt)
    torch.testing.assert_close(found[0], expected, rtol=1e-12 * max(1.0, shift), atol=0)
    assert found[1] is None


def test_a_large_tilt_picks_the_largest_loss_without_overflow():
    assert torch.equal(mean_of(LOSSES, 1e300)[0], torch.tensor([3.0, 4.0], dtype=torch.float64))


@pytest.mark.parametrize("tilt", [0.0, 7.0, 1e300])
def test_one_draw_is_itself_for_every_tilt(tilt):
    assert torch.equal(mean_of([2.5], tilt)[0], torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_an_entry_missing_in_some_gradients_counts_as_zero_there():
    mean = TiltedMean(0.0)
    for entries in ([torch.ones(1), None], [torch.ones(1), torch.ones(1)]):
        gradient = Gradient(entries)
        gradient.loss = torch.tensor(0.0)
        mean.add_(gradient)
    torch.testing.assert_close(mean.value(), [torch.ones(1), torch.tensor([0.5])])


@pytest.mark.parametrize("tilt", [1e-3, 0.5, 5.0])
def test_slopes_are_the_printed_differences(tilt):
    generator = torch.Generator().manual_seed(0)
    plus, minus = torch.randn(2, 5, dtype=torch.float64, generator=generator)
    total = (torch.exp(tilt * plus) + torch.exp(tilt * minus)).sum()
    expected = (torch.exp(tilt * plus) - torch.exp(tilt * minus)) / (tilt * total)
    torch.testing.assert_close(tilted_slopes(plus, minus, tilt), expected, rtol=1e-11, atol=0)


def test_slopes_without_tilt_are_the_limit():
    plus, minus = torch.tensor([[1.0, 0.5], [0.2, 0.9]], dtype=torch.float64)
    expected = (plus - minus) / 4
    torch.testing.assert_close(tilted_slopes(plus, minus, 0.0), expected)
    torch.testing.assert_close(tilted_slopes(plus, minus, 1e-9), expected, rtol=1e-8, atol=0)


def test_slopes_never_overflow():
    plus, minus = torch.tensor([1e4, -3e4]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(tilted_slopes(plus, minus, 10.0), torch.tensor([0.1, 0.0]))
