"""Time and memory of an optimizer's step without its loss passes, and of whole steps of every rule beside SAM's.

The first table takes gradients that are there already, so that a step is what the optimizer does by itself. What SAM
adds to its base is compared with the same memory traffic on one flat tensor: copy the weights, add the gradient, copy
back, and the norms of both gradients.

    python -m benchmarks optimizer_step --json step.json --markdown docs/results/optimizer_step.md
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import interleave, quartiles, write_json, write_markdown

SIZES = (100_000, 1_000_000, 10_000_000)
NUM_TENSORS = (4, 200)
RIVALS = ("pass", "sgd", "fgsam", "pytorch_optimizer", "naive", "traffic")
ABOUT = {
    "pass": "what a pass costs here",
    "sgd": "the base alone",
    "fgsam": "our SAM",
    "pytorch_optimizer": "that library's SAM",
    "naive": "SAM in two loops over the parameters",
    "traffic": "the same memory traffic on one flat tensor",
}
Row = dict[str, Any]


class _Given(torch.autograd.Function):
    """A loss of value one whose gradients are there already, so that a backward pass costs next to nothing."""

    @staticmethod
    def forward(ctx: Any, grads: list[Tensor], *params: Tensor) -> Tensor:
        ctx.grads = grads
        return torch.ones(())

    @staticmethod
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, ...]:
        # A fresh view of the same memory: autograd takes it as it is.
        return (None, *(grad.detach() for grad in ctx.grads))


class NaiveSAM:
    """SAM as it is usually written: one loop that moves, one that restores."""

    def __init__(self, params: list[Tensor], rho: float, lr: float) -> None:
        self.params, self.rho = params, rho
        self.base = torch.optim.SGD(params, lr=lr)
        self.saved: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> None:
        """Take the gradient from ``grad``, ascend, call the closure, return and step."""
        length = torch.stack([p.grad.norm() for p in self.params if p.grad is not None]).norm()
        for p in self.params:
            self.saved[p] = p.clone()
            p.add_(p.grad * (self.rho / (length + 1e-12)))
        with torch.enable_grad():
            closure()
        for p in self.params:
            p.copy_(self.saved[p])
        self.base.step()


def tensors_of(size: int, num_tensors: int) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and their gradients."""
    torch.manual_seed(0)
    params = [torch.randn(size // num_tensors, requires_grad=True) for _ in range(num_tensors)]
    return params, [torch.randn_like(p) for p in params]


def step_of(arm: str, size: int, num_tensors: int) -> Callable[[], object]:
    """One step of an arm, on tensors of its own."""
    params, grads = tensors_of(size, num_tensors)

    def loss() -> Tensor:
        return _Given.apply(grads, *params)  # type: ignore[no-any-return, no-untyped-call]

    if arm == "traffic":
        return _traffic(size)
    if arm == "fgsam":
        from fgsam.optim.sam import SAM

        ours = SAM(params, torch.optim.SGD, rho=0.05, lr=1e-6)
        return lambda: ours.step(loss)

    def backward() -> Tensor:
        for p in params:
            p.grad = None
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    if arm == "pass":
        return backward
    if arm == "sgd":
        base = torch.optim.SGD(params, lr=1e-6)
        return lambda: (backward(), base.step())
    rival: Any = NaiveSAM(params, 0.05, 1e-6)
    if arm == "pytorch_optimizer":
        import pytorch_optimizer

        rival = pytorch_optimizer.SAM(params, torch.optim.SGD, rho=0.05, lr=1e-6)
    return lambda: (backward(), rival.step(backward))


def _traffic(size: int) -> Callable[[], object]:
    w, g, saved = torch.randn(size), torch.randn(size), torch.empty(size)

    def move() -> None:
        g.norm()
        saved.copy_(w)
        w.add_(g, alpha=1e-6)
        w.copy_(saved)
        g.norm()

    return move


def own_time(rounds: int, sizes: tuple[int, ...]) -> list[Row]:
    """Times of steps whose passes are free."""
    rows = []
    for size in sizes:
        for num_tensors in NUM_TENSORS:
            arms = {arm: step_of(arm, size, num_tensors) for arm in RIVALS}
            times = interleave(arms, rounds=max(rounds, rounds * 1_000_000 // size // 4), clock=time.thread_time)
            found = {arm: quartiles(times[arm]) for arm in arms}
            median = {arm: found[arm]["ms_median"] for arm in arms}
            for arm in RIVALS:
                added = median[arm] - median["sgd"] - median["pass"]
                row = {"parameters": size, "tensors": num_tensors, "arm": arm, **found[arm]}
                if arm not in ("pass", "sgd", "traffic"):
                    row |= {
                        "ms_added_to_base": round(added, 3),
                        "added_by_traffic": round(added / median["traffic"], 2),
                    }
                rows.append(row)
    return rows


def own_memory(sizes: tuple[int, ...], arms: tuple[str, ...]) -> list[Row]:
    """Peak memory that the steps of a fresh process add to weights and gradients, in copies of the weights."""
    rows = []
    for size in sizes:
        for arm in arms:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "benchmarks", "optimizer_step", "--memory-of", f"{arm}:{size}"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            rows.append({"parameters": size, "arm": arm, "copies_of_weights": round(float(done.stdout), 2)})
    return rows


def memory_of(arm: str, size: int) -> float:
    """Copies of the weights that steps add to the peak of this process."""
    from fgsam.memory import peak_memory_mb

    step = step_of(arm, 1000, 4)  # whatever a step loads is there then
    step()
    step = step_of(arm, size, 4)
    before = peak_memory_mb()
    for _ in range(4):
        step()
    return (peak_memory_mb() - before) * 2**20 / (4 * size)


class Net(nn.Module):
    """Three linear maps on as many rows as a few-shot episode has queries."""

    def __init__(self, num_features: int, num_queries: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(num_features, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 5)
        )
        self.x = torch.randn(num_queries, num_features)
        self.labels = torch.randint(5, (num_queries,))

    def losses(self) -> Tensor:
        """One loss a query."""
        return nn.functional.cross_entropy(self.layers(self.x), self.labels, reduction="none")


def whole_steps(rounds: int, num_features: int, num_queries: int = 50) -> list[Row]:
    """Times of steps with their passes for every rule, beside SAM's, and what each keeps between steps."""
    from fgsam.registry import OPTIMIZERS

    arms: dict[str, Callable[[], object]] = {}
    optimizers: dict[str, Any] = {}
    for name in OPTIMIZERS:
        net = Net(num_features, num_queries)
        optimizer = optimizers[name] = OPTIMIZERS.load(name)(net, lr=1e-4)
        vector = optimizer.needs_vectors
        loss: Callable[[], Tensor] = net.losses if vector else lambda net=net: net.losses().mean()  # type: ignore[misc]
        closures = [loss] * (2 if optimizer.peer == "required" else 1)
        arms[name] = lambda optimizer=optimizer, closures=closures: optimizer.step(*closures)  # type: ignore[misc]
    times = interleave(arms, rounds=rounds, clock=time.thread_time)
    # Rules have cheap and dear steps, so that the mean is what training pays.
    means = {name: sum(values) / len(values) for name, values in times.items()}
    size = sum(p.numel() for p in Net(num_features, num_queries).parameters())
    rows = []
    for name, optimizer in optimizers.items():
        kept = sum(value.nbytes for value in optimizer.own.values() if isinstance(value, Tensor))
        longest, shortest = optimizer.counts(num_queries)
        rows.append(
            {
                "optimizer": name,
                "ms_mean": round(means[name], 3),
                "by_sam": round(means[name] / means["sam"], 2),
                "kept_copies_of_weights": round(kept / (4 * size), 2),
                "longest": longest._asdict(),
                "shortest": shortest._asdict(),
            }
        )
    return rows


def product_in_gradients(rounds: int, num_features: int, num_queries: int = 50) -> float:
    """Time of a pass that gives gradient and Hessian product, less that of a gradient, in gradients."""
    from fgsam.optim.guards import Buffers
    from fgsam.optim.passes import Passes

    net = Net(num_features, num_queries)
    params = list(net.parameters())
    probe = [torch.randn_like(p) for p in params]
    run = Passes(params, Buffers(net), lambda: net.losses().mean(), None)
    arms: dict[str, Callable[[], object]] = {"gradient": run.gnn, "both": lambda: run.gnn.with_product(probe)}
    times = interleave(arms, rounds=rounds, clock=time.thread_time)
    gradient, both = (quartiles(times[name])["ms_median"] for name in ("gradient", "both"))
    return round((both - gradient) / gradient, 2)


def main() -> None:
    """Measure, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--markdown", type=Path, help="where the page goes")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="small tensors and few rounds")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_of:
        arm, _, size = arguments.memory_of.partition(":")
        print(memory_of(arm, int(size)))
        return
    sizes = (10_000,) if arguments.quick else SIZES
    rounds, num_features = (2, 20) if arguments.quick else (arguments.rounds, 2000)
    arms = ("fgsam",) if arguments.quick else ("sgd", "fgsam", "pytorch_optimizer", "naive")
    own, memory = own_time(rounds, sizes), own_memory(sizes[-1:], arms)
    whole, product = whole_steps(rounds, num_features), product_in_gradients(5 * rounds, num_features)
    write_json(arguments.json, own, memory=memory, whole_steps=whole, hessian_product_in_gradients=product)
    page = _page(own, memory, whole, product)
    if arguments.markdown:
        write_markdown(arguments.markdown, "The step of an optimizer", page, ABOUT_PAGE)
    else:
        print(page)


ABOUT_PAGE = """
Milliseconds of processor time of one thread, medians, arms interleaved. A step is measured with gradients that are
there already; what SAM adds is its step less that of its base and less the second pass. `traffic` moves the same bytes
on one flat tensor: norm, copy, add, copy back, norm. With small tensors the calls cost more than the memory, in every
arm; and what a step of ours guards (random state, buffers, exact return of the weights, finite values, hooks) costs
some tenths of a millisecond whatever the size, which the two loops do without.
"""


def _page(own: list[Row], memory: list[Row], whole: list[Row], product: float) -> str:
    lines = ["## Without the passes\n", "| parameters | tensors | " + " | ".join(RIVALS) + " | added by traffic |"]
    lines.append("|" + "---|" * (len(RIVALS) + 3))
    for size, num_tensors in dict.fromkeys((row["parameters"], row["tensors"]) for row in own):
        cells = {row["arm"]: row for row in own if (row["parameters"], row["tensors"]) == (size, num_tensors)}
        ratios = ", ".join(
            f"{arm} {row['added_by_traffic']}" for arm, row in cells.items() if "added_by_traffic" in row
        )
        times = " | ".join(f"{cells[arm]['ms_median']:.2f}" for arm in RIVALS)
        lines.append(f"| {size:,} | {num_tensors} | {times} | {ratios} |")
    lines += ["", *(f"- `{arm}`: {about}" for arm, about in ABOUT.items())]
    lines += ["\n## Peak memory beside weights and gradients\n", "| parameters | optimizer | copies of the weights |"]
    lines += ["|---|---|---|", *(f"| {r['parameters']:,} | {r['arm']} | {r['copies_of_weights']} |" for r in memory)]
    lines += ["\n## Whole steps, with Adam as base where one can be chosen\n"]
    lines += ["| optimizer | mean ms | by SAM's | kept copies, without the base's | longest step | shortest step |"]
    lines += ["|---|---|---|---|---|---|"]
    for row in sorted(whole, key=lambda row: row["ms_mean"]):
        counts = [", ".join(f"{n} {kind}" for kind, n in row[which].items() if n) for which in ("longest", "shortest")]
        shown = [row["optimizer"], row["ms_mean"], row["by_sam"], row["kept_copies_of_weights"], *counts]
        lines.append(f"| {' | '.join(map(str, shown))} |")
    lines.append(f"\nA product of the Hessian with a vector takes {product} gradients (each with its forward pass).")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
