"""Run one measurement by name."""

from __future__ import annotations

import importlib
import sys

NAMES = {
    "advise_check": "what fgsam advise suggests beside what a table of results found",
    "compare_kills": "kill workers and launchers of a comparison and compare the tables",
    "compile": "what torch.compile of the model does for a step on the CPU",
    "episode_speed": "time and memory of a training step, full graph against field",
    "exactness": "largest errors against slow, obvious twins",
    "first_runs": "learners x optimizers x class splits beside the floors",
    "first_start": "time and memory of loading a graph, without and with its cache",
    "headline": "the first study: FGSAM with a GPN on four graphs, its kin, the released code's departures",
    "kill_resume": "kill a run at random moments and compare the bits",
    "learners": "every learner with two optimizers beside the floors and the ceiling",
    "node_classification": "four optimizers on homophilic and heterophilic graphs",
    "optimizer_step": "time and memory of an optimizer's step beside rivals",
    "optimizers": "every optimizer on two graphs, and sparse training",
    "own_learner": "the package's own learner against the floor of its mode, on six graphs",
    "paper_grids": "every cell of the paper's grids on generated graphs of their shape",
    "simulation": "how often the statistics of a comparison err",
    "zoo": "PyTorch Geometric's layers and models under FGSAM, class by class",
}


def main() -> int:
    """Dispatch ``python -m benchmarks NAME [options]``."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print("Usage: python -m benchmarks NAME [options]\n")
        for name, about in NAMES.items():
            print(f"  {name:20} {about}")
        return 0 if sys.argv[1:2] in ([], ["--help"]) else 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"python -m benchmarks {name}"
    return int(importlib.import_module(f"benchmarks.{name}").main() or 0)


if __name__ == "__main__":
    raise SystemExit(main())
