"""Sharpness-aware minimization on queries sampled by their sharpness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fgsam.checks import check_choice, check_non_negative, check_positive, check_share
from fgsam.functional.ascent import sam_factor
from fgsam.functional.masks import share_of
from fgsam.functional.sampling import inclusion_probabilities, systematic_draw
from fgsam.functional.trees import Grads
from fgsam.optim.base import ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass

Form = Literal["unbiased", "code"]
"""Whether the drawn queries carry importance weights, or count alike as in the released code."""


class AUSAM(SharpnessAware):
    r"""Minimise the largest loss within a small ball, seen through a sample of the queries that feel the ball most.

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L_S\big(w + \rho \, g / \lVert g \rVert\big)\Big), \quad
              g = \nabla L_S(w), \quad L_S = \frac{1}{n} \sum_{i \in S} \frac{\ell_i}{\pi_i}

    Each query has a running score, the mean of ``|l_i(w + eps) - l_i(w)|`` over the steps that drew it. The scores of
    the present queries, scaled to ``[f_min, f_max]``, say how likely each is drawn: ``S`` holds ``ceil(alpha * n)`` of
    them, without replacement, and ``pi_i``, proportional to the scaled score and at most 1, is exactly the probability
    that query ``i`` is among them. So the gradient of ``L_S`` has that of the mean loss as its expectation. Queries
    without a score are all drawn, as in the published first epoch. The norm is over all parameters together.

    Scores belong to samples. By default entry ``i`` of the loss vector is sample ``i``; where other queries come each
    time, set ``optimizer.samples`` to their ids before each step.

    ``form="code"`` is the released behaviour: draws one after the other, each in proportion to the scaled scores, and
    the plain mean over the drawn queries, which is biased whatever the name says. Equal scores, for which that code
    divides zero by zero, give equal chances here.

    Cost: two forward and backward passes over all queries, for a closure evaluates all of them; the published saving
    (``alpha`` times SAM) needs passes over the drawn queries alone. State: two numbers a sample. Use it to study the
    sampling.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius of the ball, at least 0. The default 0.1 is the authors'.
        alpha: Share of the queries that a step draws, in ``(0, 1]``; 1 gives SAM. Default published.
        f_min: What the least score is scaled to, above 0. Default published.
        f_max: What the largest score is scaled to, at least ``f_min``, after ``rise_steps``. Default published.
        rise_steps: Steps in which the upper end rises linearly from ``f_min`` to ``f_max``, at least 0. Published are
            30 of 200 epochs; the default 150 is the same share of 1000 steps.
        form: ``"unbiased"`` or ``"code"``.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Attributes:
        samples: Ids of the queries of the next step, whole numbers in the order of the loss vector; ``None`` for their
            places in it.

    Example:
        >>> w = torch.tensor([1.0], requires_grad=True)
        >>> optimizer = AUSAM([w], torch.optim.SGD, rho=0.5, lr=0.25)
        >>> optimizer.samples = [17, 4]
        >>> optimizer.step(lambda: torch.cat([w**2, 3 * w]))
        tensor(2.)
        >>> optimizer.own["score.17"], optimizer.own["score.4"]
        (1.25, 1.5)

    Source:
        Deng et al., Asymptotic Unbiased Sample Sampling to Speed Up Sharpness-Aware Minimization, 2025; weights of
        Horvitz and Thompson, 1952.
    """

    rule = "ausam"
    needs_vectors = True
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0, "alpha": 1.0}
    passes = "2 GNN"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        alpha: float = 0.5,
        f_min: float = 0.1,
        f_max: float = 0.5,
        rise_steps: int = 150,
        form: Form = "unbiased",
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_share(alpha=alpha)
        check_positive(f_min=f_min)
        check_non_negative(rise_steps=rise_steps)
        check_choice(("unbiased", "code"), form=form)
        if not f_max >= f_min:
            raise ValueError(f"Expected 'f_max' to be at least 'f_min' (got f_max={f_max}, f_min={f_min})")
        self.alpha = alpha
        self.f_min = f_min
        self.f_max = f_max
        self.rise_steps = rise_steps
        self.form = form
        self.samples: Sequence[int] | Tensor | None = None
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the weighted gradient of the drawn queries at the top of their ascent."""
        seen: list[Tensor] = []
        weights: list[Tensor] = []

        def draw(losses: Tensor) -> Tensor:
            seen.append(losses)
            weights.append(self._weights(len(losses)).to(losses))
            return weights[0]

        def again(losses: Tensor) -> Tensor:
            seen.append(losses)
            return weights[0]

        is_whole = self.alpha == 1
        g = gnn(clean=True, weigh=None if is_whole else draw)
        with self.displaced(g, sam_factor(g, self.options_of_params("rho"))):
            g_s = gnn(weigh=None if is_whole else again)
        if not is_whole:
            self._learn(weights[0] > 0, (seen[1] - seen[0]).abs())
        return g_s

    def _weights(self, num_queries: int) -> Tensor:
        """Draw queries, and return what each counts in the objective, shape ``[num_queries]``."""
        scores = [self.own.get(f"score.{sample}") for sample in self._ids(num_queries)]
        drawn = torch.tensor([score is None for score in scores])
        known = torch.tensor([score for score in scores if score is not None], dtype=torch.float64)
        chances = torch.ones(num_queries, dtype=torch.float64)
        num_drawn = share_of(len(known), self.alpha)
        if self.form == "code":
            if num_drawn:
                found = torch.multinomial(self._scaled(known), num_drawn, generator=self.generator())
                drawn[torch.nonzero(~drawn).flatten()[found]] = True
            return drawn / drawn.sum(dtype=torch.float64)
        if num_drawn:
            chances[~drawn] = inclusion_probabilities(self._scaled(known), num_drawn)
            drawn[~drawn] = systematic_draw(chances[~drawn], self.generator())
        return torch.where(drawn, 1 / (num_queries * chances), 0.0)

    def _scaled(self, scores: Tensor) -> Tensor:
        """Bring the scores to the range from ``f_min`` to the present upper end; equal ones all to ``f_min``."""
        share = min(1.0, self.num_calls / self.rise_steps) if self.rise_steps else 1.0
        low, high = scores.min(), scores.max()
        if low == high:
            return torch.full_like(scores, self.f_min)
        return self.f_min + (scores - low) / (high - low) * share * (self.f_max - self.f_min)

    def _learn(self, drawn: Tensor, rises: Tensor) -> None:
        """Take the rises of the drawn queries into their running means."""
        ids = self._ids(len(rises))
        for sample, is_drawn, rise in zip(ids, drawn.tolist(), rises.double().tolist(), strict=True):
            if is_drawn:
                num_draws = self.own.get(f"draws.{sample}", 0) + 1
                score = self.own.get(f"score.{sample}", 0.0)
                self.own[f"draws.{sample}"] = num_draws
                self.own[f"score.{sample}"] = score + (rise - score) / num_draws

    def _ids(self, num_queries: int) -> list[int]:
        if self.samples is None:
            return list(range(num_queries))
        ids = [int(sample) for sample in self.samples]
        if len(ids) != num_queries:
            raise ValueError(
                f"Expected 'samples' to have one id for each query (got {len(ids)} ids, {num_queries} queries). Set "
                "optimizer.samples before each step, or to None for the places in the loss vector."
            )
        return ids
