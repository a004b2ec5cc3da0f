"""Advice as one page of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from fgsam.advice.probe import Gap, Spread
from fgsam.advice.timing import MEASURED, StepTime

if TYPE_CHECKING:
    from fgsam.advice.advise import Advice


def page_of(advice: Advice) -> str:
    """Lay advice out as text."""
    graph, encoder, batch = advice.graph, advice.encoder, advice.batch
    lines = [
        f"{graph['name']} with {encoder['name']}: {graph['num_nodes']:,} nodes ({graph['num_labelled']:,} labelled), "
        f"{graph['num_edges']:,} edges, {graph['num_features']:,} features, {graph['num_classes']} classes.",
        f"{encoder['num_parameters']:,} parameters; a batch of {batch['targets']} nodes reads {batch['nodes']:,} nodes "
        f"and {batch['edges']:,} edges over {encoder['num_hops']} hops.",
        *_section("Peer", [str(advice.peer)]),
        *_section("Time of a step on that batch, one thread, ms", _times(advice)),
        *_section("Peer gradient beside the GNN gradient, in a training with Adam", _gradients(advice)),
        *_section("Homophily, and accuracy on held-out nodes after that training", _probes(advice)),
        *_section("What that suggests", _suggestion(advice)),
    ]
    return "\n".join(lines)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", title, "-" * len(title), *lines]


def _times(advice: Advice) -> Iterator[str]:
    passes = advice.times.passes
    parts = {
        "GNN pass": passes.gnn,
        "peer pass": passes.peer,
        "forward alone": passes.forward,
        "Hessian product": passes.product,
    }
    yield ", ".join(f"{name} {_ms(value)}" for name, value in parts.items())
    yield ""
    steps = {step.optimizer: step for step in advice.times.steps}
    adam = steps["adam"].mean
    rows = [["optimizer", "predicted", "by adam", "measured", "predicted/measured"]]
    for name in MEASURED:
        step = steps.pop(name)
        by_adam = "-" if step.mean is None or adam is None else f"{step.mean / adam:.2f}"
        ratio = "-" if step.ratio is None else f"{step.ratio:.2f}"
        rows.append([name, _ms(step.mean), by_adam, _ms(step.measured), ratio])
    yield from _aligned(rows)
    yield ""
    yield "Predicted only, means or, for rules whose passes depend on what they meet, from shortest to longest:"
    yield from _wrapped(f"{step.optimizer} {_mean_or_range(step)}" for step in sorted(steps.values(), key=_order))


def _gradients(advice: Advice) -> Iterator[str]:
    found = advice.gradients
    if found is None:
        yield "No peer, no gradient of it."
        return
    steps = f"{found.window} of {found.num_steps} steps"
    rows = [
        ["mean (quartiles)", f"first {steps}", f"last {steps}"],
        ["cosine", _spread(found.cosine_start), _spread(found.cosine_end)],
        ["norm, peer by GNN", _spread(found.ratio_start), _spread(found.ratio_end)],
    ]
    yield from _aligned(rows)


def _probes(advice: Advice) -> Iterator[str]:
    found, agreement = advice.probes, advice.homophily
    if agreement.edge is None:
        yield "No edge has two labelled ends."
    else:
        adjusted = "-" if agreement.adjusted is None else f"{agreement.adjusted:+.3f}"
        yield f"edge homophily {agreement.edge:.3f}, adjusted {adjusted}"
    yield f"{found.num_steps} steps on {found.num_train:,} nodes, scored on {found.num_tested:,} others"
    rows = [
        ["trained and tested with the graph", _percent(found.gnn), ""],
        ["trained and tested on features alone (the peer)", _percent(found.peer), _gap(found.peer_gap)],
        ["trained as the peer, tested with the graph", _percent(found.peer_on_graph), _gap(found.moved_gap)],
        ["always the most frequent class", _percent(found.largest_class), ""],
    ]
    yield from _aligned(rows)


def _suggestion(advice: Advice) -> Iterator[str]:
    for finding in advice.findings:
        yield f"- {finding.text}" + (f" -> {finding.favours}" if finding.favours else "")
    yield f"Suggested: {advice.suggestion}"
    yield from (f"Note: {note}" for note in advice.notes)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]


def _wrapped(parts: Iterable[str], width: int = 120) -> Iterator[str]:
    line = ""
    for part in parts:
        if line and len(line) + 2 + len(part) > width:
            yield f"{line},"
            line = ""
        line = f"{line}, {part}" if line else part
    yield line


def _order(step: StepTime) -> float:
    return step.longest if step.mean is None and step.longest is not None else step.mean or float("inf")


def _mean_or_range(step: StepTime) -> str:
    if step.longest is None:
        return "cannot be used"
    return _ms(step.mean) if step.mean is not None else f"{_ms(step.shortest)}-{_ms(step.longest)}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _spread(found: Spread) -> str:
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _gap(gap: Gap | None) -> str:
    return "" if gap is None else f"{100 * gap.mean:+.1f} points, standard error {100 * gap.error:.1f}"
