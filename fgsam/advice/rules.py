"""From what was measured to what it suggests: a few plain rules, each with the number it rests on."""

from __future__ import annotations

from dataclasses import dataclass

from fgsam.advice.probe import Gradients, Probes
from fgsam.advice.timing import Times
from fgsam.nn.peer import PeerReport

LOW_COSINE = 0.0
"""Below it a small step down the peer's loss goes up the loss of the GNN, to first order in the length of the step."""

LEAST_SAVING = 0.1
"""Predicted and measured steps differ by about a tenth on a busy machine, so that a smaller saving may be none."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        about: Name of the figure that it rests on.
        value: The figure; None where there is none to give.
        text: What it means, in a sentence with the figure.
        favours: The optimizer that it speaks for; None if it decides nothing.
    """

    about: str
    value: float | None
    text: str
    favours: str | None


def findings_of(
    peer: PeerReport, *, has_peer: bool, num_hops: int, times: Times, gradients: Gradients | None, probes: Probes
) -> tuple[Finding, ...]:
    """Judge the measurements.

    Args:
        peer: The layers of the encoder.
        has_peer: Whether it may be trained with its peer.
        num_hops: How far the encoder reads.
        times: Predicted and measured steps.
        gradients: How the peer gradient lies to the GNN gradient; None without a peer.
        probes: Accuracies after a short training.

    Returns:
        Findings in the order of their weight: the first that favours an optimizer decides.
    """
    if not has_peer:
        return (_no_peer(peer),)
    if num_hops == 0:
        text = "The encoder reads no edges: it is its own peer, which saves nothing."
        return (Finding("num_hops", 0.0, text, "sam"),)
    assert gradients is not None, "there are gradients where there is a peer"
    saving, cheapest = _saving(times)
    return (*_transfer(probes, cheapest), _cosine(gradients), saving)


def _no_peer(peer: PeerReport) -> Finding:
    names = [f"'{layer.name or 'module'}' ({layer.kind})" for layer in peer.undefined] or list(peer.coupled)
    text = f"No well-defined peer: {', '.join(names)}. FGSAM and FGSAM+ cannot be used; SAM needs none."
    return Finding("peer", None, text, "sam")


def _cosine(gradients: Gradients) -> Finding:
    value = gradients.cosine_end.mean
    if value < LOW_COSINE:
        text = f"Late in training the peer's gradient points against the graph's: cosine {value:+.2f}."
        return Finding("cosine", value, text, "sam")
    text = f"Late in training a step down the peer's loss also goes down the graph's: cosine {value:+.2f}."
    return Finding("cosine", value, text, None)


def _transfer(probes: Probes, cheapest: str) -> list[Finding]:
    moved, alone = probes.moved_gap, probes.peer_gap
    assert moved is not None, "there are gaps where there is a peer"
    assert alone is not None
    points = f"{100 * moved.mean:+.1f} points (standard error {100 * moved.error:.1f})"
    if moved.is_clear:
        how, favours = ("worse", "sam") if moved.mean < 0 else ("better", cheapest)
    else:
        how, favours = "neither clearly better nor worse", None
    text = f"Weights learned by the peer do {how} on the graph than weights learned there: {points}."
    found = [Finding("transfer", moved.mean, text, favours)]
    if alone.mean > 0 and alone.is_clear:
        text = (
            f"Features alone do better than this encoder with the graph, by {100 * alone.mean:.1f} points (standard "
            f"error {100 * alone.error:.1f}): another encoder may matter more than the optimizer."
        )
        found.append(Finding("features", alone.mean, text, None))
    return found


def _saving(times: Times) -> tuple[Finding, str]:
    sam = _mean(times, "sam")
    saved = {name: 1 - _mean(times, name) / sam for name in ("fgsam", "fgsam_plus")}
    name = "fgsam_plus" if saved["fgsam_plus"] - saved["fgsam"] >= LEAST_SAVING else "fgsam"
    both = f"fgsam saves {100 * saved['fgsam']:.0f} %, fgsam_plus {100 * saved['fgsam_plus']:.0f} % of SAM's step"
    if saved[name] < LEAST_SAVING:
        return Finding("saving", saved[name], f"With the peer a step is not much cheaper: {both}.", "sam"), name
    return Finding("saving", saved[name], f"With the peer a step is cheaper: {both}.", name), name


def _mean(times: Times, name: str) -> float:
    mean = times.of(name).mean
    assert mean is not None, "these rules keep a period, and their passes can be run"
    return mean
