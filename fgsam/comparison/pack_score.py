"""Anybody's predictions against every arm of a task pack, without running one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgsam.checks import suggest
from fgsam.comparison.findings import Finding, judged
from fgsam.comparison.grid import Hypothesis
from fgsam.comparison.pack import Pack, PackedSplit, load_pack
from fgsam.comparison.statistics import mean_over_splits
from fgsam.files import read_arrays

OWN = "yours"
"""What the predictions are called beside the arms."""

Scores = dict[int | str, float]
"""Accuracy in percent by class split."""

_WAY_OUT = "Write it with numpy.savez: an array of class ids for each 'PART/SPLIT' of the pack."


@dataclass(frozen=True)
class PackScore:
    """How predictions do beside the arms of a pack.

    Attributes:
        pack: What they were measured by.
        scores: Accuracy in percent by part and name, ``"yours"`` or an arm, then by class split. Part None is the mean
            over all parts, where the pack's protocol tests that.
        findings: "yours above ARM", one for each part and arm, as one family.
    """

    pack: Pack
    scores: Mapping[str | None, Mapping[str, Scores]]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        protocol, found = self.pack.protocol, {(one.part, one.hypothesis.reference): one for one in self.findings}
        width = max(len(name) for name in (OWN, *self.pack.arms))
        for part, scores in self.scores.items():
            yield f"{part or 'Mean over all parts'}, {_count(len(scores[OWN]), 'split')}"
            yield f"{'':{width}}  {'accuracy':>14}  {'yours above by':>14}  {'p (Holm)':>8}  verdict"
            yield f"{OWN:{width}}  {_interval(scores[OWN], '')}"
            for arm in self.pack.arms:
                figures = f"{_interval(scores[arm], '')}  {_interval(_above(scores[OWN], scores[arm]), '+')}"
                word = found[part, arm].verdict if (part, arm) in found else None
                yield f"{arm:{width}}  {figures}" + (f"  {word.p_adjusted:8.3g}  {word.word}" if word else "")
            yield ""
        yield f"{self.pack.title}, task pack {self.pack.digest[:12]}. {self.pack.estimand}"
        yield (
            f"Mean ± half-width of the 95 % t interval over splits. Each claim, 'yours above ARM', is tested by "
            f"'{protocol.test}' at level {protocol.alpha:g}, Holm-adjusted over {_count(len(found), 'claim')}; "
            f"equivalent means within {protocol.margin:g} points."
        )


def score_pack(file: str | Path, predictions: str | Path) -> PackScore:
    """Compare predictions, from any code, with every arm of a task pack.

    Args:
        file: The pack.
        predictions: An npz file with an array of class ids for each ``PART/SPLIT`` of the pack, of the shape of its
            ``test/query``: ``[num_episodes, num_queries]``. The class ids are those of ``test/support_labels``, so that
            labels that a method has numbered by itself are found out. Where ``test/query_labels`` is -1 anything may
            stand.

    Raises:
        OSError: If a file is not there.
        ValueError: If the pack is damaged, or the predictions do not fit it; the text lists all faults.
    """
    pack = load_pack(file)
    try:
        given = read_arrays(predictions, way_out=_WAY_OUT)
    except OSError as error:
        raise OSError(error.errno, f"Expected '{predictions}' to be a readable file ({error.strerror}).") from error
    faults = list(_faults(pack, given))
    if faults:
        told = [f"Expected '{predictions}' to fit the pack '{file}' (got {_count(len(faults), 'fault')})."]
        raise ValueError("\n".join([*told, *(f"- {fault}" for fault in faults)]))
    return _scored(pack, given)


def _scored(pack: Pack, given: Mapping[str, NDArray[Any]]) -> PackScore:
    scores: dict[str | None, dict[str, Scores]] = {}
    for part in pack.parts:
        packed = [packed for packed in pack.splits.values() if packed.part == part]
        own = {one.split: float(one.test.accuracies(given[one.key]).mean()) for one in packed}
        scores[part] = {OWN: own, **{arm: pack.scores(part, arm) for arm in pack.arms}}
    if pack.protocol.pooled:
        scores[None] = {name: _mean([found[name] for found in scores.values()]) for name in (OWN, *pack.arms)}
    places = [None] if pack.protocol.pooled else list(pack.parts)
    claims = [
        (Hypothesis(OWN, arm), part, _above(scores[part][OWN], scores[part][arm]))
        for part in places
        for arm in pack.arms
    ]
    return PackScore(
        pack, {part: scores[part] for part in (*pack.parts, *places)}, tuple(judged(claims, pack.protocol))
    )


def _faults(pack: Pack, given: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    for name in given:
        if name not in pack.splits:
            yield f"Expected no array '{name}'. {suggest(name, pack.splits)}"
    for key, packed in pack.splits.items():
        if key not in given:
            yield f"Expected an array '{key}' (there is none)."
        elif fault := _fault(packed, given[key]):
            yield fault


def _fault(packed: PackedSplit, values: NDArray[Any]) -> str | None:
    key, query = packed.key, packed.test.query
    if values.shape != query.shape:
        return (
            f"Expected '{key}' to have the shape {list(query.shape)} of '{key}/test/query' (got {list(values.shape)})."
        )
    if values.dtype.kind not in "iu":
        return f"Expected '{key}' to hold class ids, whole numbers (got {values.dtype})."
    is_known = (values[:, :, None] == packed.test.support_labels[:, None, :]).any(-1)
    wrong = np.argwhere(~is_known & (packed.test.query_labels >= 0))
    if not len(wrong):
        return None
    episode, place = wrong[0]
    classes = ", ".join(map(str, np.unique(packed.test.support_labels[episode])))
    return (
        f"Expected '{key}' to hold class ids that support nodes of the episode have (got {len(wrong)} others, the "
        f"first {values[episode, place]} in episode {episode}, whose classes are {classes}). Give class ids as in "
        f"'{key}/test/support_labels', and the episodes in the order of the pack."
    )


def _above(own: Scores, other: Scores) -> Scores:
    return {split: score - other[split] for split, score in own.items()}


def _mean(scores: list[Scores]) -> Scores:
    return {split: float(np.mean([found[split] for found in scores])) for split in scores[0]}


def _interval(values: Mapping[int | str, float], sign: str) -> str:
    found = mean_over_splits(list(values.values()))
    return f"{f'{found.mean:{sign}.2f} ± {found.half_width:.2f}':>14}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
