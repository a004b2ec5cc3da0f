from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from fgsam.functional.ranking import roc_auc


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_the_area_that_scikit_learn_finds(ties):
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(200, generator=generator)
    scores = scores.round() if ties else scores
    positive = torch.rand(200, generator=generator) < 0.3
    assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive.numpy(), scores.numpy()), abs=1e-12)


def test_one_class_alone_has_no_area():
    with pytest.raises(ValueError, match=r"both classes \(got 3 positive and 0 negative\)"):
        roc_auc(torch.randn(3), torch.ones(3, dtype=torch.bool))
