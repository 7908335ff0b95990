"""What the choices of the shots benchmark are worth on tables that are not ours: ``shots_ablation``.

The project's table is cut to a few random tasks, which play DIR, and the rest plays the project's own; or DIR are simulated
curves that rise as the exponential law says. Each cut is forecast by priors from different teachers:

- ``dir``: DIR's other tasks, beginning with the package's prior for random demonstrations: what ``shots`` does;
- ``own``: the project's table alone;
- ``pooled``: both together;
- ``in turn``: DIR's other tasks, beginning with what the project's table teaches.

And the whole table with ``chance`` as measured, estimated from the points, or taken to be 1/4.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from orrery.laws.shots import RANDOM_DEMONSTRATIONS, ShotsPrior
from tests.benchmarks import shots
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.shots import Array, Table

TASKS_IN_DIR = (1, 2, 3, 5, 8)
_GRID = np.array([0.0, 1, 2, 4, 8, 16, 32])

Teacher = Callable[[Table, Table], ShotsPrior]
TEACHERS: dict[str, Teacher] = {
    "dir": lambda others, own: shots.learned(others, RANDOM_DEMONSTRATIONS),
    "own": lambda others, own: shots.learned(own),
    "pooled": lambda others, own: shots.learned(_joined(others, own)),
    "in turn": lambda others, own: shots.learned(others, shots.learned(own)),
}


def _joined(a: Table, b: Table) -> Table:
    """Curves of two tables over one grid."""
    if not np.array_equal(a.shots, b.shots):
        raise ValueError(f"the tables have shots {a.shots} and {b.shots}: give tables of one grid")
    score, items, chance = (np.concatenate([getattr(t, f) for t in (a, b)]) for f in ("score", "items", "chance"))
    return Table(a.task + b.task, a.model + b.model, a.seed + b.seed, a.shots, score, items, chance)


def simulated(tasks: int, seed: int) -> Table:
    """Four curves on each of some tasks that follow the exponential law, 120 items; a third of them dip at one shot."""
    rng = np.random.default_rng(seed)
    level, gain = rng.normal(-0.6, 0.6, tasks), rng.normal(1.5, 0.6, tasks)
    speed = np.exp(rng.normal(-1.5, 0.5, tasks))
    task = np.repeat(np.arange(tasks), 4)
    n = len(task)
    z = level[task, None] + gain[task, None] * (1 - np.exp(-speed[task, None] * _GRID))
    z -= 0.5 * (rng.random((n, 1)) < 0.3) * (_GRID == 1)
    z += 0.2 * rng.standard_normal(z.shape) * (_GRID > 0)
    score = rng.binomial(120, 1 / (1 + np.exp(-z))) / 120
    names, seeds = [f"simulated {t}" for t in task], [str(i % 4) for i in range(n)]
    return Table(names, ["simulated"] * n, seeds, _GRID, score, np.full_like(score, 120.0), np.full(n, 0.25))


def errors(table: Table, own: Table, teacher: Teacher, known: int = shots.KNOWN[0]) -> list[tuple[float, bool]]:
    """Absolute error in points and whether the interval held it, for every scored point of every task of a table."""
    out = []
    tasks = np.array(table.task)
    for task in sorted(set(table.task)):
        test = table.rows(tasks == task)
        median, interval = shots.law(teacher(table.rows(tasks != task), own), test, known)
        for i, j in np.argwhere(~np.isnan(test.score) & (test.shots >= shots.SCORED_FROM)):
            low, high = interval(i, j)
            out.append(
                (100 * abs(float(median[i, j] - test.score[i, j])), low <= test.score[i, j] + 1e-9 <= high + 2e-9)
            )
    return out


def cuts(seed: int, repeats: int) -> dict[tuple[str, int], list[tuple[Table, Table]]]:
    """(population, tasks in DIR) to pairs of DIR and own."""
    table = shots.measured()
    models = sorted(set(table.model))
    sources = {"same": (table, table)}
    for a, b in zip(models, models[::-1], strict=True):
        of = [table.rows(np.array([m == model for m in table.model])) for model in (a, b)]
        sources[f"{a} in DIR, {b} ours"] = (of[0], of[1])
    found: dict[tuple[str, int], list[tuple[Table, Table]]] = {}
    for count in TASKS_IN_DIR:
        rng = np.random.default_rng((seed, count))
        for name, (one, other) in sources.items():
            pairs = found.setdefault((name, count), [])
            for _ in range(repeats):
                chosen = set(rng.choice(sorted(set(one.task)), count, replace=False).tolist())
                inside, outside = (
                    np.array([(t in chosen) == w for t in x.task]) for x, w in ((one, True), (other, False))
                )
                pairs.append((one.rows(inside), other.rows(outside)))
        found["simulated rises", count] = [(simulated(count, seed + i), table) for i in range(repeats)]
    return found


def chances(table: Table, known: int) -> dict[str, Callable[[Table], Array]]:
    """Ways to a chance for every curve of a table."""

    def estimated(of: Table) -> Array:
        names = np.array(of.task)
        by = {t: shots.estimated_chance(of.score[names == t][:, of.shots <= known]) for t in set(of.task)}
        return np.array([by[t] for t in of.task])

    return {
        "as measured": lambda of: of.chance,
        "estimated": estimated,
        "1/4": lambda of: np.full(len(of.task), 0.25),
    }


def without_chance(known: int) -> list[Row]:
    """The whole table, its chance told in different ways."""
    table = shots.measured()
    tasks = np.array(table.task)
    rows: list[Row] = []
    for name, chance in chances(table, known).items():
        found = []
        for task in sorted(set(table.task)):
            others, test = table.rows(tasks != task), table.rows(tasks == task)
            others, test = (replace(t, chance=chance(t)) for t in (others, test))
            found += errors(test, others, lambda _, own: shots.learned(own), known)
        rows.append({"chance": name, "known": known, **_means(found)})
    return rows


def _means(found: Sequence[tuple[float, bool]]) -> dict[str, float]:
    return {"error": float(np.mean([e for e, _ in found])), "cov90": float(np.mean([c for _, c in found]))}


def measure(seed: int, repeats: int) -> Outcome:
    """All cuts."""
    rows: list[Row] = []
    for (population, count), pairs in cuts(seed, repeats).items():
        line: Row = {"population": population, "tasks": count}
        for name, teacher in TEACHERS.items():
            found = _means([e for table, own in pairs for e in errors(table, own, teacher)])
            line |= {name: found["error"], f"{name} cov90": found["cov90"]}
        rows.append(line)
    told = [row for known in shots.KNOWN for row in without_chance(known)]
    summary = {f"{r['population']}.{r['tasks']}.{name}": r[name] for r in rows for name in TEACHERS}
    return Outcome(rows + told, summary, [("errors in points from k <= 2", rows), ("chance", told)])


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--repeats", type=int, default=8, metavar="N", help="cuts of each kind (default 8)")

    args = arguments(__doc__, data=None, extra=extra)
    run("shots_ablation", args, lambda: measure(args.seed, args.repeats))


if __name__ == "__main__":
    main()
