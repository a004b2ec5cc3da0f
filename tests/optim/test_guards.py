from __future__ import annotations

import torch
from torch import nn

from fgsam.optim.guards import Buffers, RandomState


def test_every_pass_draws_the_same_numbers_and_the_first_one_counts():
    torch.manual_seed(0)
    expected = torch.rand(3)
    after_first = torch.get_rng_state()
    torch.manual_seed(0)
    state = RandomState()
    for num_drawn in (3, 5, 2):
        state.begin_pass()
        assert torch.equal(torch.rand(num_drawn)[:2], expected[:2])
    state.close()
    assert torch.equal(torch.get_rng_state(), after_first)


def test_without_a_pass_nothing_is_set():
    state = RandomState()
    torch.rand(3)
    here = torch.get_rng_state()
    state.close()
    assert torch.equal(torch.get_rng_state(), here)


def test_buffers_are_restored_in_place():
    layer = nn.BatchNorm1d(2)
    pointer = layer.running_mean.data_ptr()
    buffers = Buffers(layer)
    saved = buffers.save()
    layer(torch.randn(4, 2))
    buffers.restore(saved)
    assert torch.equal(layer.running_mean, torch.zeros(2))
    assert layer.num_batches_tracked == 0
    assert layer.running_mean.data_ptr() == pointer


def test_a_model_without_buffers_has_nothing_to_save():
    assert Buffers(nn.Linear(2, 2)).save() == []
    assert Buffers(None).save() == []
