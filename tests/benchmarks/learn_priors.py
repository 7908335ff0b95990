"""Write the shipped priors: ``python -m tests.benchmarks.learn_priors [--data DIR] [--shots DIR] [--retrieved]``.

``--data``: DIR holds one csv a task of loss curves, columns as in the release of arXiv 2402.02314; writes
operator/orrery/laws/priors/losses.json. ``--shots``: DIR holds the in-context curves that ``measure_shots`` writes; writes
operator/orrery/laws/priors/shots.json. ``--retrieved``: the BM25 curves of the full grids in ``measured/grid`` and of ``measured/retrieved``; writes
operator/orrery/laws/priors/retrieved.json and neighbours.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from orrery.laws import catch_up, pooled, priors
from orrery.laws import shots as shots_law
from orrery.laws.empirical_bayes import learn_prior
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Array, Link, Posterior
from orrery.laws.rectified import RectifiedPrior
from tests.benchmarks import rectified, retrieved, shots
from tests.benchmarks.curves import Task, read_tasks

_RETRIEVED = {
    "command": "python -m tests.benchmarks.learn_priors --retrieved",
    "source": f"python -m tests.benchmarks.exhaustive and measure_retrieved: {retrieved.MODEL}",
}


#: Weights of the present that are tried (finer steps differ by less than noise), and pools of half the models they choose in.
_PRESENT, _POOLS = np.arange(6) / 10, 60


def mean_pull(task: Task) -> float:
    """Posterior mean of the pull in the whole curves of a task, under a flat prior."""
    logs = np.log(task.losses)
    found = catch_up.forecast(
        np.log2(task.sizes / task.sizes[0]),
        logs - np.nanmean(logs, axis=0),
        np.zeros_like(logs),
        np.zeros(1),
        mean_pull=np.inf,
        no_pull=1 / len(catch_up.PULLS),
    )
    return float(found.pulls @ found.pull_probability)


def chosen_by(task: Task, law: RectifiedPrior) -> Array:
    """RelAcc of the model picked at each weight of the present, mean over budgets, goals and pools of half the models.

    Goals are the largest size and each down to a sixteenth of it.
    """
    pools = [np.random.default_rng(i).permutation(len(task.models))[: len(task.models) // 2] for i in range(_POOLS)]
    cells = []
    for goal in range(len(task.sizes) - 5, len(task.sizes)):
        truth = task.losses[:, goal]
        for budget in rectified.BUDGETS:
            known = task.sizes <= task.sizes[goal] / budget
            if known.sum() < 2 or not np.isfinite(truth).all():
                continue
            both = pooled.forecast(
                task.sizes[known],
                task.losses[:, known],
                [task.sizes[known][-1], task.sizes[goal]],
                link=Link.LOG,
                zero_shot=task.zero_shot,
                prior=PooledPrior(law, 1, mean_pull(task)),
            )
            present, ahead = (Posterior(both.mean[:, [j]], both.sd[:, [j]], both.link) for j in (0, 1))
            picks = [pooled.preference(ahead, present, w)[:, 0] for w in _PRESENT]
            cells.append([np.nanmean([rectified.relative_accuracy(v[p], truth[p]) for p in pools]) for v in picks])
    return np.mean(cells, axis=0) if cells else np.zeros(len(_PRESENT))


def numbers(tasks: list[Task]) -> dict[str, Any]:
    """What the forecaster of a further task gets from these."""
    sizes = np.unique(np.concatenate([t.sizes for t in tasks]))
    curves = np.full((sum(len(t.models) for t in tasks), len(sizes)), np.nan)
    first = 0
    for t in tasks:
        curves[first : first + len(t.models), np.searchsorted(sizes, t.sizes)] = t.losses
        first += len(t.models)
    law = learn_prior(sizes, curves, link=Link.LOG)
    rounded = {k: np.round(v, 6).tolist() for k, v in vars(law).items()}
    gains = np.mean([chosen_by(t, law) for t in tasks], axis=0)
    return {
        "law": {k: float(v) if isinstance(v, (int, float)) else v for k, v in rounded.items()},
        "tasks": len(tasks),
        "mean_pull": round(float(np.mean([mean_pull(t) for t in tasks])), 5),
        "present": round(float(_PRESENT[int(np.argmax(gains))]), 3),
    }


def losses(folder: Path) -> dict[str, Any]:
    """Content of losses.json."""
    tasks = read_tasks(folder)
    return {
        "command": "python -m tests.benchmarks.learn_priors --data DIR",
        "source": "curves released with arXiv 2402.02314 (Apache-2.0): " + ", ".join(t.name for t in tasks),
        "tasks": {
            t.name: {"losses": " ".join(sorted(frozenset().union(*priors.fingerprints(t.losses))))} for t in tasks
        },
        "all": numbers(tasks),
        "without": {t.name: numbers([u for u in tasks if u is not t]) for t in tasks if len(tasks) > 1},
    }


def shot_numbers(table: shots.Table, start: shots_law.ShotsPrior) -> dict[str, Any]:
    """Prior of shot curves."""
    prior = shots_law.learn_prior(table.shots, table.score, items=table.items, chance=table.chance, start=start)
    rounded = {k: np.round(v, 5).tolist() for k, v in vars(prior).items()}
    for name in ("component_weights", "deviation_weights"):  # they must add up to 1 to six digits
        values = rounded[name]
        largest = values.index(max(values))
        values[largest] = round(values[largest] + 1 - sum(values), 5)
    return rounded


def in_context(table: shots.Table, start: shots_law.ShotsPrior, **said: str) -> dict[str, Any]:
    """Content of shots.json and of retrieved.json."""
    tasks = np.array(table.task)
    names = sorted(set(table.task))
    return {
        **said,
        "tasks": names,
        "all": shot_numbers(table, start),
        "without": {task: shot_numbers(table.rows(tasks != task), start) for task in names},
    }


def random_shots(folder: Path) -> dict[str, Any]:
    """Content of shots.json."""
    table = shots.read(folder)
    return in_context(
        table,
        shots_law.RANDOM_DEMONSTRATIONS,
        command="python -m tests.benchmarks.learn_priors --shots tests/benchmarks/measured/shots",
        source="python -m tests.benchmarks.measure_shots: " + ", ".join(sorted(set(table.model))),
    )


def retrieved_shots() -> dict[str, Any]:
    """Content of retrieved.json."""
    return in_context(retrieved.read().table, shots_law.RETRIEVED_DEMONSTRATIONS, **_RETRIEVED)


def neighbours() -> dict[str, Any]:
    """Content of neighbours.json."""
    found = retrieved.read()
    names = np.array(found.table.task)

    def numbers(of: retrieved.Retrieved) -> dict[str, float]:
        return {name: round(value, 4) for name, value in vars(of.error()).items()}

    return {
        **_RETRIEVED,
        "tasks": sorted(found.table.task),
        "all": numbers(found),
        "without": {task: numbers(found.rows(names != task)) for task in sorted(found.table.task)},
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of loss curves")
    parser.add_argument("--shots", type=Path, help="folder of in-context curves")
    parser.add_argument(
        "--retrieved", action="store_true", help="learn from the BM25 curves of the full grids and of measure_retrieved"
    )
    args = parser.parse_args()
    contents: dict[str, Callable[[], dict[str, Any]]] = {}
    if args.data is not None:
        contents["losses"] = lambda: losses(args.data)
    if args.shots is not None:
        contents["shots"] = lambda: random_shots(args.shots)
    if args.retrieved:
        contents |= {"retrieved": retrieved_shots, "neighbours": neighbours}
    if not contents:
        parser.error("nothing is asked: give --data DIR, --shots DIR or --retrieved")
    for name, content in contents.items():
        target = Path(priors.__path__[0]) / f"{name}.json"
        target.write_text(json.dumps(content(), indent=1) + "\n")
        print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
