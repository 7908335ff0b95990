"""Write the shipped priors: ``python -m tests.benchmarks.learn_priors [--data DIR] [--shots DIR]``.

``--data``: DIR holds one csv a task of loss curves, columns as in the release of arXiv 2402.02314; writes
operator/orrery/laws/priors/losses.json. ``--shots``: DIR holds the in-context curves that ``measure_shots`` writes; writes
operator/orrery/laws/priors/shots.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from orrery.laws import priors
from orrery.laws import shots as shots_law
from orrery.laws.empirical_bayes import learn_prior
from orrery.laws.posterior import Link
from tests.benchmarks import shots
from tests.benchmarks.curves import Task, read_tasks


def numbers(tasks: list[Task]) -> dict[str, Any]:
    """Prior of loss curves."""
    prior = learn_prior(tasks[0].sizes, np.vstack([t.losses for t in tasks]), link=Link.LOG)
    rounded = {k: np.round(v, 6).tolist() for k, v in vars(prior).items()}
    return {k: float(v) if isinstance(v, (int, float)) else v for k, v in rounded.items()}


def losses(folder: Path) -> dict[str, Any]:
    """Content of losses.json."""
    tasks = read_tasks(folder)
    return {
        "command": "python -m tests.benchmarks.learn_priors --data DIR",
        "source": "curves released with arXiv 2402.02314 (Apache-2.0): " + ", ".join(t.name for t in tasks),
        "tasks": {t.name: {"curves": priors.fingerprints(t.losses)} for t in tasks},
        "all": numbers(tasks),
        "without": {t.name: numbers([u for u in tasks if u is not t]) for t in tasks if len(tasks) > 1},
    }


def shot_numbers(table: shots.Table) -> dict[str, Any]:
    """Prior of shot curves."""
    start = shots_law.RANDOM_DEMONSTRATIONS
    prior = shots_law.learn_prior(table.shots, table.score, items=table.items, chance=table.chance, start=start)
    rounded = {k: np.round(v, 5).tolist() for k, v in vars(prior).items()}
    for name in ("component_weights", "deviation_weights"):  # they must add up to 1 to six digits
        values = rounded[name]
        largest = values.index(max(values))
        values[largest] = round(values[largest] + 1 - sum(values), 5)
    return rounded


def in_context(folder: Path) -> dict[str, Any]:
    """Content of shots.json."""
    table = shots.read(folder)
    tasks = np.array(table.task)
    return {
        "command": "python -m tests.benchmarks.learn_priors --shots tests/benchmarks/measured/shots",
        "source": "python -m tests.benchmarks.measure_shots: " + ", ".join(sorted(set(table.model))),
        "tasks": sorted(set(table.task)),
        "all": shot_numbers(table),
        "without": {task: shot_numbers(table.rows(tasks != task)) for task in sorted(set(table.task))},
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of loss curves")
    parser.add_argument("--shots", type=Path, help="folder of in-context curves")
    args = parser.parse_args()
    if args.data is None and args.shots is None:
        parser.error("neither --data nor --shots is given: name the folder of one of them")
    for name, folder, content in (("losses", args.data, losses), ("shots", args.shots, in_context)):
        if folder is not None:
            target = Path(priors.__path__[0]) / f"{name}.json"
            target.write_text(json.dumps(content(folder), indent=1) + "\n")
            print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
