"""Tables of the first runs: the class split is the unit of every claim."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.first_runs import ABLATIONS, FLOORS, LIMITS, METHODS, OPTIMIZERS, SETTINGS
from benchmarks.spread import spread

READING = """
The last two rows leave out graph and encoder: ProtoNet compares linear images of the features that a floor with two
hops compares. The step up to the untrained one is what the encoder's input costs, the step from there to the trained
one what training on other classes costs or gains, and what is left is the projection, and the hops and logistic
regression that a floor may choose."""

Row = dict[str, Any]
Arm = tuple[str, str, str]


def write_report(rows: list[Row], folder: Path) -> None:
    """Write ``first_runs.md``, and ``first_runs.npz`` with the correct queries of every test episode."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = list(dict.fromkeys(row["task"] for row in sorted(rows, key=lambda row: row["task"])))
    parts = [_head(rows)]
    parts += [_task_section(task, [row for row in rows if row["task"] == task]) for task in tasks]
    (folder / "first_runs.md").write_text("\n".join(parts), encoding="utf-8")
    ordered = sorted(rows, key=_key)
    np.savez_compressed(
        folder / "first_runs.npz",
        runs=np.array(["|".join(map(str, _key(row))) for row in ordered]),
        correct=np.array([row["correct"] for row in ordered], dtype=np.uint8),
        val_accuracy=np.array([row["val_accuracy"] for row in ordered]),
        num_episodes=np.array([row["num_episodes"] or 0 for row in ordered], dtype=np.int32),
    )


def _key(row: Row) -> tuple[Any, ...]:
    return row["task"], row["split"], row["method"], row["optimizer"], row["setting"]


def _head(rows: list[Row]) -> str:
    settings = "\n".join(
        f"| {name} | {s['lr']} | {', '.join(f'{key} {value}' for key, value in s['encoder'].items())} | "
        f"{', '.join(f'{rule} {rho}' for rule, rho in s['rho'].items())} |"
        for name, s in SETTINGS.items()
    )
    trained = [row for row in rows if row["method"] not in FLOORS]
    hours = sum(row["seconds"] for row in rows) / 3600
    return f"""# First runs

Made by

```
FGSAM_DATA=... python -m benchmarks first_runs --runs runs/first --workers 2 --out docs/results
```

3-shot, 10 queries a class, one seed. {len(rows)} runs, {len(trained)} of them trained, {hours:.1f} hours of one core
beside other work. All arms of a task share class splits, initial weights, training episodes, and the banks of 200
validation and 1,000 test episodes. The unit is the class split: a figure is the mean over splits of the mean over
episodes; ± is the half-width of the 95 % t interval over splits. A difference is paired by split. Estimand: this graph,
over random class splits.
`first_runs.npz` holds the correct queries of every test episode.

Encoders of two layers, Adam as base, weight decay 5e-4, at most {LIMITS["num_episodes"]} episodes, validated every 50,
stopped after {LIMITS["patience"]} validations without improvement (the defaults are 1,000 and 6), best weights of three
candidates on the whole validation bank. Four fixed settings:

| setting | learning rate | encoder | rho |
|---|---|---|---|
{settings}

`published` is GPN's setting, with the rho released for FGSAM and FGSAM+. `chosen` takes, for each split and each arm,
the setting with the best score on the whole validation bank of that split. Floors choose hops, normalisation and cost
the same way, and train nothing.
"""


def _task_section(task: str, rows: list[Row]) -> str:
    table = _by_arm(rows)
    floors = {floor: table[floor, "-", "tuned"] for floor in FLOORS if (floor, "-", "tuned") in table}
    main = [scores for arm, scores in table.items() if not arm[2].startswith("ablation")]
    splits = sorted(set.intersection(*(set(scores) for scores in main)))
    if len(splits) < 2:
        return f"\n## {task}\n\nFewer than two complete class splits.\n"
    best = max(floors, key=lambda floor: _mean(floors[floor], splits))
    lines = [
        f"\n## {task}",
        f"\n{len(splits)} class splits. Best floor on average: `{best}`.\n",
        "| method | optimizer | published | chosen | chosen - best floor | chosen - adam |",
        "|---|---|---|---|---|---|",
    ]
    for floor, scores in floors.items():
        gap = "" if floor == best else _difference(scores, floors[best], splits)
        lines.append(f"| {floor} | - | - | {_interval(scores, splits)} | {gap} | |")
    chosen = {(method, optimizer): _chosen(rows, method, optimizer) for method in METHODS for optimizer in OPTIMIZERS}
    for (method, optimizer), scores in chosen.items():
        to_adam = "" if optimizer == "adam" else _difference(scores, chosen[method, "adam"], splits)
        lines.append(
            f"| {method} | {optimizer} | {_interval(table[method, optimizer, 'published'], splits)} | "
            f"{_interval(scores, splits)} | {_difference(scores, floors[best], splits)} | {to_adam} |"
        )
    return "\n".join([*lines, *_ablation_lines(table, floors[best], best, splits), ""])


def _ablation_lines(
    table: dict[Arm, dict[int, float]], floor: dict[int, float], best: str, splits: list[int]
) -> list[str]:
    """What keeps ProtoNet with Adam below the best floor, one change at a time."""
    lines = [
        "",
        "| change | accuracy | - best floor | - published |",
        "|---|---|---|---|",
    ]
    changes = {"published": "published"} | {name: f"ablation: {name}" for name in list(ABLATIONS)[1:]}
    arms = {name: table.get(("protonet", "adam", setting), {}) for name, setting in changes.items()}
    shared = sorted(set(splits).intersection(*(set(scores) for scores in arms.values())))
    if len(shared) < 2:
        return []
    lines[0] = f"\nProtoNet with Adam against `{best}` on {len(shared)} class splits, one change at a time:\n"
    for name, scores in arms.items():
        gain = "" if name == "published" else _difference(scores, arms["published"], shared)
        lines.append(f"| {name} | {_interval(scores, shared)} | {_difference(scores, floor, shared)} | {gain} |")
    return [*lines, READING]


def _by_arm(rows: Iterable[Row]) -> dict[Arm, dict[int, float]]:
    table: dict[Arm, dict[int, float]] = defaultdict(dict)
    for row in rows:
        table[row["method"], row["optimizer"], row["setting"]][row["split"]] = 100 * row["accuracy"]
    return dict(table)


def _chosen(rows: Iterable[Row], method: str, optimizer: str) -> dict[int, float]:
    """Test score of the setting with the best validation score, by split; the first listed among equals."""
    order = list(SETTINGS)
    best: dict[int, Row] = {}
    arm = [row for row in rows if (row["method"], row["optimizer"]) == (method, optimizer) and row["setting"] in order]
    for row in sorted(arm, key=lambda row: order.index(row["setting"])):
        if row["split"] not in best or row["val_accuracy"] > best[row["split"]]["val_accuracy"]:
            best[row["split"]] = row
    return {split: 100 * row["accuracy"] for split, row in best.items()}


def _mean(scores: dict[int, float], splits: list[int]) -> float:
    return float(np.mean([scores[split] for split in splits]))


def _interval(scores: dict[int, float], splits: list[int]) -> str:
    return spread([scores[split] for split in splits])


def _difference(scores: dict[int, float], reference: dict[int, float], splits: list[int]) -> str:
    return spread([scores[split] - reference[split] for split in splits], "+")
