"""What `fgsam advise` suggests beside what the table of node classification found.

The table is docs/results/node_classification.json: rows of graph, encoder, optimizer, split and score, a share of test
nodes. For each pair of graph and encoder the scores of sam, fgsam and fgsam_plus are averaged over the
splits that all three have. A hit is a suggestion that is the best of the three. Spearman's rank correlation, over the
pairs, is between each figure of the advice and what the better of fgsam and fgsam_plus gains on sam.

    python -m benchmarks advise_check --out docs/results
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.harness import write_json, write_markdown

TABLE = Path("docs/results/node_classification.json")
OPTIMIZERS = ("sam", "fgsam", "fgsam_plus")
FIGURES = ("transfer", "cosine", "adjusted homophily")
Row = dict[str, Any]


def main() -> int:
    """Advise on every pair of graph and encoder in the table, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the page and its figures")
    parser.add_argument("--table", type=Path, default=TABLE, help="scores of the optimizers")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each advice")
    arguments = parser.parse_args()
    if not arguments.table.is_file():
        print(
            f"Expected the table of scores (got no file '{arguments.table}' yet). "
            "Make it with the benchmark of node classification, then run this again.",
            file=sys.stderr,
        )
        return 2
    content = json.loads(arguments.table.read_text(encoding="utf-8"))
    outcomes = outcomes_of(content["rows"] if isinstance(content, dict) else content)
    rows = [row_of(pair, scores, arguments.seconds) for pair, scores in sorted(outcomes.items())]
    page = page_of(rows)
    if arguments.out:
        write_json(arguments.out / "advise_check.json", rows)
        write_markdown(arguments.out / "advise_check.md", "Advice and outcome", page, ABOUT)
    else:
        print(page)
    return 0


def outcomes_of(rows: list[Row]) -> dict[tuple[str, str], dict[str, float]]:
    """Mean score of each optimizer for each graph and encoder, over the splits that all of them have."""
    scores: dict[tuple[str, str], dict[str, dict[Any, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row["optimizer"] in OPTIMIZERS:
            scores[row["graph"], row["encoder"]][row["optimizer"]][row["split"]] = row["score"]
    means = {}
    for pair, found in scores.items():
        shared = set.intersection(*(set(found[name]) for name in OPTIMIZERS))
        if shared:
            means[pair] = {name: float(np.mean([found[name][split] for split in shared])) for name in OPTIMIZERS}
    return means


def row_of(pair: tuple[str, str], scores: dict[str, float], seconds: float) -> Row:
    """Advise on one graph with one encoder."""
    from fgsam.advice.advise import advise

    graph, encoder = pair
    advice = advise(graph, encoder=encoder, seconds=seconds)
    values = {finding.about: finding.value for finding in advice.findings}
    figures = {**values, "adjusted homophily": advice.homophily.adjusted}
    return {
        **{"graph": graph, "encoder": encoder, "suggestion": advice.suggestion, "scores": scores},
        "figures": {name: figures.get(name) for name in FIGURES},
        "notes": list(advice.notes),
    }


def page_of(rows: list[Row]) -> str:
    """Lay out every pair, the hits, and the correlations."""
    heads = ["graph", "encoder", *FIGURES, *OPTIMIZERS, "suggested", "below the best"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in rows:
        figures = ["-" if row["figures"][name] is None else f"{row['figures'][name]:+.3f}" for name in FIGURES]
        scores = [f"{100 * row['scores'][name]:.2f}" for name in OPTIMIZERS]
        cells = [row["graph"], row["encoder"], *figures, *scores, row["suggestion"], f"{loss(row):.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    hits = sum(loss(row) == 0 for row in rows)
    always = {name: sum(loss({**row, "suggestion": name}) == 0 for row in rows) for name in OPTIMIZERS}
    lines.append(f"\nThe suggestion is the best of the three in {hits} of {len(rows)} pairs.")
    lines.append(f"Always the same would be in: {', '.join(f'{name} {number}' for name, number in always.items())}.\n")
    for name in FIGURES:
        known = [(row["figures"][name], gain(row)) for row in rows if row["figures"][name] is not None]
        lines.append(f"- {name} and gain on sam: {correlation(known)}, {len(known)} pairs")
    return "\n".join(lines)


def loss(row: Row) -> float:
    """Points that the suggested optimizer lies below the best."""
    return 100 * (max(row["scores"].values()) - row["scores"][row["suggestion"]])


def gain(row: Row) -> float:
    """What the better of fgsam and fgsam_plus gains on sam."""
    return max(row["scores"]["fgsam"], row["scores"]["fgsam_plus"]) - float(row["scores"]["sam"])


def correlation(pairs: list[tuple[float, float]]) -> str:
    """Spearman's rank correlation, where it exists."""
    if len(pairs) < 3 or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
        return "no rank correlation"
    found = spearmanr(*zip(*pairs, strict=True))
    return f"rank correlation {found.statistic:+.2f} (p {found.pvalue:.2g})"


ABOUT = (
    "Scores are test scores in percent, means over splits. `transfer` is what weights learned by the peer gain on the "
    "graph against weights learned there, `cosine` that between GNN and peer gradient late in a short training: "
    "[docs/advise.md](../advise.md)."
)


if __name__ == "__main__":
    raise SystemExit(main())
