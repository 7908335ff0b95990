"""Write the shipped prior of loss curves: ``python -m tests.benchmarks.learn_priors --data DIR``.

DIR holds one csv a task, columns as in the release of arXiv 2402.02314. The result is operator/orrery/laws/priors/losses.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from orrery.laws import priors
from orrery.laws.empirical_bayes import learn_prior
from orrery.laws.posterior import Link
from tests.benchmarks.curves import Task, read_tasks


def numbers(tasks: list[Task]) -> dict[str, Any]:
    prior = learn_prior(tasks[0].sizes, np.vstack([t.losses for t in tasks]), link=Link.LOG)
    rounded = {k: np.round(v, 6).tolist() for k, v in vars(prior).items()}
    return {k: float(v) if isinstance(v, (int, float)) else v for k, v in rounded.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    tasks = read_tasks(args.data)
    content = {
        "command": "python -m tests.benchmarks.learn_priors --data DIR",
        "source": "curves released with arXiv 2402.02314 (Apache-2.0): " + ", ".join(t.name for t in tasks),
        "tasks": {t.name: {"curves": priors.fingerprints(t.losses)} for t in tasks},
        "all": numbers(tasks),
        "without": {t.name: numbers([u for u in tasks if u is not t]) for t in tasks if len(tasks) > 1},
    }
    target = Path(priors.__path__[0]) / "losses.json"
    target.write_text(json.dumps(content, indent=1) + "\n")
    print(f"wrote {target.name}: {len(tasks)} tasks, {sum(len(t.losses) for t in tasks)} curves")


if __name__ == "__main__":
    main()
