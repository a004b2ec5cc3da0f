"""Sparse sharpness-aware minimization with a mask from the Fisher information."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from fgsam.checks import check_count, check_fraction
from fgsam.functional.ascent import sam_factor
from fgsam.functional.masks import group_mask, masked, share_of, squares, structured_mask, unstructured_mask
from fgsam.functional.trees import Grads, add_
from fgsam.optim.base import Counts, ModelOrParams, Nonfinite, SharpnessAware
from fgsam.optim.passes import Pass


class SSAMFisher(SharpnessAware):
    r"""Minimise the largest loss near the weights when only the most informative ones may move (SSAM-F).

    .. math:: w \leftarrow \mathrm{Opt}\Big(w, \nabla L\big(w + \rho \, m \circ g / \lVert g \rVert\big)\Big), \quad
              g = \nabla L(w), \quad m = \mathrm{top}\Big(\sum_i \nabla \ell_i(w)^2\Big)

    The mask ``m`` marks the parameters with the largest diagonal of the empirical Fisher information, the sum of the
    squared gradients of single queries. The norm is that of the whole gradient, so that the ascent is as long as
    SAM's or shorter; all weights are updated. Frozen parameters have no part in the mask, and parameters that no
    gradient reaches count as zero. Among equal scores the first ones are marked, so that the count is exact.

    Patterns of the mask: ``"unstructured"`` marks single entries among all tensors together; ``"structured"`` whole
    tensors in the order of their mean score, until at least the wanted number is marked; ``"2:4"``, and ``"n:m"`` with
    other numbers, the ``n`` largest of every ``m`` consecutive inputs of each output, and all biases.

    Cost: two forward and backward passes; the gradients of single queries come from the graph of the clean pass, by
    ``num_samples`` further backward passes in the steps that renew the mask. They move no buffers and no random
    numbers. State: one boolean for each parameter. Masked or not, the arithmetic is dense: use it for a gentler
    ascent, not for speed.

    Deviations: the mask is renewed before the ascent, from the first step on, as in Algorithm 1; the released code
    starts from a mask without entries, and so takes a step of the base optimizer first. Its loop over single samples
    moves batch statistics and takes in a left-over gradient; its live count ``int(N * (1 - s))`` is subject to
    rounding; its N:M masks of convolutions lie across the weights.

    Args:
        model_or_params: The model, its parameters or parameter groups; a group may set its own ``rho``.
        base: Class of the optimizer that makes the step.
        rho: Radius, at least 0; 0 gives the base optimizer. The default 0.1 is the authors' for CIFAR-10.
        sparsity: Share of the parameters that stay in the ascent, in ``[0, 1]``: 0 gives SAM, 1 the base optimizer. By
            default 0.5, the authors'. To be left out for a pattern ``"n:m"``, which says it itself.
        pattern: ``"unstructured"``, ``"structured"``, or two numbers such as ``"2:4"``.
        num_samples: Queries whose gradients make the mask, drawn without replacement, or all if there are fewer; at
            least 1. The default 16 is the authors' for CIFAR-10.
        mask_every: Steps from one mask to the next, at least 1. The authors count epochs; the default 100 is ours.
        input_dim: Dimension of a weight that runs over inputs, for patterns ``"n:m"``: 1 for ``torch.nn.Linear`` and
            convolutions, 0 for the layers of the encoders here.
        nonfinite: ``"raise"``, ``"skip"`` or ``"allow"``, see ``SharpnessAware``.
        **base_options: Arguments of the base optimizer.

    Example:
        >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> x = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
        >>> optimizer = SSAMFisher([w], torch.optim.SGD, rho=0.5, lr=0.125)
        >>> optimizer.step(lambda: (x @ w) ** 2)
        tensor(12.5000)
        >>> optimizer.own["mask.0"]
        tensor([False,  True])

    Source:
        Mi et al., Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach, 2022, Algorithms 1
        and 2; patterns: Mi et al., Systematic Investigation of Sparse Perturbed Sharpness-Aware Minimization Optimizer,
        2023.
    """

    rule = "ssam_fisher"
    needs_vectors = True
    neutral: ClassVar[dict[str, float] | None] = {"rho": 0.0}
    passes = "2 GNN, and num_samples more backward every mask_every steps"

    def __init__(
        self,
        model_or_params: ModelOrParams,
        base: type[torch.optim.Optimizer] = torch.optim.Adam,
        *,
        rho: float = 0.1,
        sparsity: float | None = None,
        pattern: str = "unstructured",
        num_samples: int = 16,
        mask_every: int = 100,
        input_dim: int = 1,
        nonfinite: Nonfinite = "raise",
        **base_options: Any,
    ) -> None:
        check_count(num_samples=num_samples, mask_every=mask_every)
        self.group_sizes = _group_sizes(pattern)
        if self.group_sizes and sparsity is not None:
            raise ValueError(
                f"Expected no 'sparsity' for a pattern of groups, which says it itself (got sparsity={sparsity}, "
                f"pattern='{pattern}'). Leave it out."
            )
        if input_dim not in (0, 1):
            raise ValueError(f"Expected 'input_dim' to be 0 or 1 (got input_dim={input_dim!r})")
        self.sparsity = 0.5 if sparsity is None else sparsity
        check_fraction(sparsity=self.sparsity)
        self.pattern = pattern
        self.num_samples = num_samples
        self.mask_every = mask_every
        self.input_dim = input_dim
        super().__init__(model_or_params, base, nonfinite=nonfinite, group_options={"rho": rho}, **base_options)

    def direction(self, gnn: Pass, peer: Pass) -> Grads:
        """Return the gradient at the top of the masked ascent."""
        has_mask = any(key.startswith("mask.") for key in self.own)
        g = self._renew(gnn) if self.num_calls % self.mask_every == 0 or not has_mask else gnn(clean=True)
        with self.displaced(masked(g, self.kept("mask")), sam_factor(g, self.options_of_params("rho"))):
            return gnn()

    def counts(self, num_queries: int) -> tuple[Counts, Counts]:
        """Count the passes of a step that renews the mask, and of one that does not."""
        renewing = Counts(2, 2 + min(self.num_samples, num_queries))
        return renewing, renewing if self.mask_every == 1 else Counts(2, 2)

    def _renew(self, gnn: Pass) -> Grads:
        """Run the clean pass, store the mask, and return the gradient."""
        gradients: Iterator[Grads] = gnn.each(self._groups, clean=True)
        g = next(gradients)
        params: Grads = [p if p.requires_grad else None for p in self._params()]
        fisher: Grads = [None] * len(params)
        for single in gradients:
            fisher = add_(fisher, squares(single, params))
        self.keep("mask", self._mask(fisher))
        return g

    def _groups(self, num_queries: int) -> Iterator[Tensor]:
        """All queries together, for the clean gradient, and then those drawn for the mask, one by one."""
        yield torch.arange(num_queries)
        drawn = torch.arange(num_queries)
        if self.num_samples < num_queries:
            drawn = torch.randperm(num_queries, generator=self.generator())[: self.num_samples]
        yield from torch.split(drawn, 1)

    def _mask(self, fisher: Grads) -> Grads:
        if self.group_sizes:
            num_kept, size = self.group_sizes
            return [None if score is None else group_mask(score, num_kept, size, self.input_dim) for score in fisher]
        total = sum(score.numel() for score in fisher if score is not None)
        num_live = total - share_of(total, self.sparsity)
        mark = structured_mask if self.pattern == "structured" else unstructured_mask
        return mark(fisher, num_live)


def _group_sizes(pattern: str) -> tuple[int, int] | None:
    """Read ``"n:m"``; the other patterns have no sizes."""
    if pattern in ("unstructured", "structured"):
        return None
    found = re.fullmatch(r"(\d+):(\d+)", pattern)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(
            "Expected 'pattern' to be 'unstructured', 'structured', or two numbers as in '2:4', the first at least 1 "
            f"and at most the second (got '{pattern}')"
        )
    return int(found[1]), int(found[2])
