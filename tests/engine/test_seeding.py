from __future__ import annotations

import torch

from fgsam.engine.seeding import seed_global, seeded

CPU = torch.device("cpu")


def drawn(*keys):
    with seeded(CPU, *keys):
        return torch.rand(4).tolist()


def test_the_same_keys_give_the_same_numbers_and_others_give_others():
    assert drawn("init", "split", 1) == drawn("init", "split", 1)
    assert (
        len({str(drawn(*keys)) for keys in [("init", "a", 1), ("init", "a", 2), ("init", "b", 1), ("step", "a", 1)]})
        == 4
    )


def test_the_former_state_comes_back():
    before = torch.get_rng_state()
    drawn("init", 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeding_without_a_scope_stays():
    with torch.random.fork_rng():
        seed_global(CPU, "step", 3)
        inside = torch.rand(4).tolist()
    assert inside == drawn("step", 3)
