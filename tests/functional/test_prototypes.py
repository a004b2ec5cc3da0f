from __future__ import annotations

import pytest
import torch

from fgsam.functional.prototypes import class_members, class_prototypes, class_softmax

UNEVEN = torch.tensor([2, 0, 1, 0, 0, 2])


def test_prototypes_are_the_means_of_uneven_classes():
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    slow = torch.stack([x[c == UNEVEN].mean(0) for c in range(3)])
    torch.testing.assert_close(class_prototypes(x, UNEVEN, 3), slow)


def test_class_softmax_is_a_softmax_over_the_nodes_of_each_class():
    scores = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shares = class_softmax(scores, UNEVEN, 3)
    for c in range(3):
        torch.testing.assert_close(shares[c, c == UNEVEN], scores[c == UNEVEN].softmax(0))
        assert (shares[c, c != UNEVEN] == 0).all()


def test_class_softmax_of_equal_scores_gives_the_means():
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    shares = class_softmax(torch.full((6,), 3.0, dtype=torch.float64), UNEVEN, 3)
    torch.testing.assert_close(shares @ x, class_prototypes(x, UNEVEN, 3))


@pytest.mark.parametrize("labels", [UNEVEN, torch.stack([UNEVEN, UNEVEN.flip(0)])])
def test_a_batch_equals_its_episodes(labels):
    x = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    each = labels.expand(2, 6)
    torch.testing.assert_close(
        class_prototypes(x, labels, 3), torch.stack([class_prototypes(x[i], each[i], 3) for i in range(2)])
    )
    torch.testing.assert_close(
        class_softmax(x[..., 0], labels, 3), torch.stack([class_softmax(x[i, :, 0], each[i], 3) for i in range(2)])
    )


def test_gradients_of_prototypes_and_shares_are_right():
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: class_prototypes(x, UNEVEN, 3).square(), x)
    assert torch.autograd.gradgradcheck(lambda x: class_softmax(x[:, 0], UNEVEN, 3), x)


def test_a_class_without_support_is_refused():
    with pytest.raises(ValueError, match=r"support node for every class \(got counts \[1, 0, 1\]\)"):
        class_prototypes(torch.ones(2, 3), torch.tensor([0, 2]), 3)


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 0, 1]])
def test_labels_outside_the_episode_are_refused(labels):
    with pytest.raises(ValueError, match=r"lie in 0\.\.1 \(got"):
        class_members(torch.tensor(labels), 2)
