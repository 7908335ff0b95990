"""Tasks that nobody measured: is the forecaster as good, and as honest, where nothing was set on it? ``rectified_worlds``.

Every task of DIR is bent into others: other goals, first sizes and grids, losses in other units or with another floor, a
steeper or flatter course, models that differ more or less, fewer models, noise; two tasks are mixed. Others are simulated:
the rectified law with a fall that comes late, early or in some models alone, and a broken power law. Each is forecast
from the budgets of ``rectified`` beside accept-then-stop and the last two points. The prior has seen no task that a made-up
one came from: of one task it is the shipped one without it, of two the weak one, of none the shipped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.laws import priors, rectified
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Array, Link
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.rectified import BASELINES, BUDGETS, cell
from tests.benchmarks.tables import InputError

RIVALS = {name: BASELINES[name] for name in ("ats", "last2")}
SIZES = 200.0 * 2.0 ** np.arange(14)
_MODELS, _NOISE = 30, 0.004
#: Mean and sd of (start, logit e, ln D0, ln beta) of simulated tasks; two pairs: half of the models each.
LAWS: dict[str, tuple[tuple[Sequence[float], Sequence[float]], ...]] = {
    "like the prior": (((1.33, -1.6, 8.75, -1.58), (0.24, 0.7, 1.5, 0.3)),),
    "late and steep": (((1.4, -3.0, 10.0, -0.7), (0.3, 0.5, 1.5, 0.2)),),
    "models unlike each other": (((1.2, -1.8, 9.5, -1.0), (0.4, 0.8, 2.2, 0.35)),),
    "early and flat": (((1.2, 0.5, 7.0, -0.7), (0.3, 0.5, 1.0, 0.2)),),
    "two kinds of models": (
        ((0.6, -1.0, 8.0, -1.6), (0.3, 0.6, 1.0, 0.2)),
        ((1.6, -2.5, 11.0, -0.6), (0.2, 0.5, 0.7, 0.2)),
    ),
}


@dataclass(frozen=True)
class World:
    """A task, what it was made from, and what its prior may know."""

    group: str
    task: Task
    prior: PooledPrior


def _task(name: str, sizes: Array, losses: Array, zero_shot: Array | None = None) -> Task:
    n = len(losses)
    start = np.full(n, np.nan) if zero_shot is None else zero_shot
    return Task(name, [str(i) for i in range(n)], sizes, losses, start, np.full(n, np.nan), [""] * n)


def bent(task: Task, rng: np.random.Generator) -> Iterator[Task]:
    """One measured task, changed in one way each."""
    x, y, zero, name = task.sizes, task.losses, task.zero_shot, task.name
    for cut in (1, 2, 4):
        yield _task(f"{name}, goal {x[-1 - cut]:,.0f}", x[:-cut], y[:, :-cut], zero)
    for cut in (1, 2):
        yield _task(f"{name}, from {x[cut]:,.0f}", x[cut:], y[:, cut:], zero)
    yield _task(f"{name}, every other size", x[1::2], y[:, 1::2], zero)
    for unit in (0.4, 2.5):
        yield _task(f"{name}, losses x {unit}", x, unit * y, unit * zero)
    for more in (-0.5 * float(np.nanmin(y)), 1.0):
        yield _task(f"{name}, losses {more:+.2f}", x, y + more, zero + more)
    z = np.log(y)
    course = np.nanmean(z, axis=0)
    for fall in (0.5, 1.5, 2.0):
        yield _task(f"{name}, course x {fall}", x, np.exp(z + (fall - 1) * (course - course[0])))
    for apart in (0.5, 2.0):
        yield _task(f"{name}, differences x {apart}", x, np.exp(course + apart * (z - course)))
    for i, count in enumerate((len(y) // 2, len(y) // 2, len(y) // 2, 5)):
        rows = rng.permutation(len(y))[: max(2, count)]
        yield _task(f"{name}, {len(rows)} models ({i})", x, y[rows], zero[rows])
    yield _task(f"{name}, 1 % noise", x, y * np.exp(rng.normal(0, 0.01, y.shape)), zero)


def mixed(a: Task, b: Task, rng: np.random.Generator) -> Iterator[Task]:
    """Two tasks with the same sizes and models, mixed."""
    if not np.array_equal(a.sizes, b.sizes) or set(a.models) != set(b.models):
        return
    za, zb = np.log(a.losses), np.log(b.losses)[[b.models.index(m) for m in a.models]]
    rows = rng.permutation(len(za))
    half = len(za) // 2
    yield _task(f"half {a.name}, half {b.name}", a.sizes, np.exp(np.vstack([za[rows[:half]], zb[rows[half:]]])))
    for w in (0.3, 0.5, 0.7):
        yield _task(f"{w} {a.name}, {1 - w:.1f} {b.name}", a.sizes, np.exp(w * za + (1 - w) * zb))
    for one, other, names in ((za, zb, (a.name, b.name)), (zb, za, (b.name, a.name))):
        moved = one - one.mean(axis=0) + other.mean(axis=0)
        yield _task(f"differences of {names[0]}, course of {names[1]}", a.sizes, np.exp(moved))


def simulated(rng: np.random.Generator, each: int = 3) -> Iterator[Task]:
    """Planted curves."""
    for name, kinds in LAWS.items():
        for i in range(each):
            z = np.vstack(
                [
                    rectified.curve(
                        np.array(mean) + np.array(sd) * rng.standard_normal((_MODELS // len(kinds), 4)), SIZES, Link.LOG
                    )
                    for mean, sd in kinds
                ]
            )
            yield _task(f"{name} ({i})", SIZES, np.exp(z + rng.normal(0, _NOISE, z.shape)))
    x = np.log(SIZES) - np.log(SIZES[0])
    for i in range(each):
        knee, width = rng.normal(4.7, 1.2, (_MODELS, 1)), 0.7
        slow = np.maximum(rng.normal(0.02, 0.008, (_MODELS, 1)), 0.003)
        fast = np.maximum(rng.normal(0.2, 0.05, (_MODELS, 1)), 0.05)
        turn = width * (np.logaddexp(0, (x - knee) / width) - np.logaddexp(0, -knee / width))
        z = rng.normal(1.2, 0.3, (_MODELS, 1)) - slow * x - (fast - slow) * turn
        yield _task(f"broken power law ({i})", SIZES, np.exp(z + rng.normal(0, _NOISE, z.shape)))


def worlds(tasks: list[Task], seed: int) -> Iterator[World]:
    """All of them; those of a measured task need it whole."""
    rng = np.random.default_rng(seed)
    whole = [t for t in tasks if np.isfinite(t.losses).all() and len(t.sizes) > 6 and len(t.models) > 1]
    for t in whole:
        prior = priors.shipped_pooled_prior(Link.LOG, task=t.name, seen=priors.fingerprints(t.losses))
        yield from (World("bent", made, prior) for made in bent(t, rng))
    for i, a in enumerate(whole):
        for b in whole[i + 1 :]:
            yield from (World("mixed", made, PooledPrior.weak(Link.LOG)) for made in mixed(a, b, rng))
    known = priors.shipped_pooled_prior(Link.LOG)
    yield from (World("simulated", made, known) for made in simulated(rng))


def measure(tasks: list[Task], seed: int) -> Outcome:
    """Means over budgets for every world.

    Raises:
        InputError: no budget fits any.
    """
    rows: list[Row] = []
    for world in worlds(tasks, seed):
        cells = [
            row
            for budget in BUDGETS
            if world.task.sizes[0] <= world.task.sizes[-1] / budget
            for row in cell(world.task, budget, seed, prior=world.prior, baselines=RIVALS)
        ]
        line: Row = {"world": world.task.name, "group": world.group}
        for metric in ("pearcorr", "relacc_subpools", "abs_ln_error"):
            for method in ("orrery", *RIVALS):
                line[f"{method}.{metric}"] = float(np.nanmean([r[metric] for r in cells if r["method"] == method]))
        line["coverage90"] = float(np.mean([r["coverage90"] for r in cells if r["method"] == "orrery"]))
        rows.append(line)
    if not rows:
        raise InputError("no world could be made")
    return Outcome(rows, summarise(rows), [("rectified_worlds", rows)])


def summarise(rows: list[Row]) -> dict[str, float]:
    """Means over all worlds and over each group, and in how many orrery is ahead of both rivals or covers 85 % or more."""
    summary: dict[str, float] = {}
    for group in (None, *dict.fromkeys(r["group"] for r in rows)):
        chosen = [r for r in rows if group in (None, r["group"])]
        head = f"{group}." if group else ""
        summary[f"{head}worlds"] = len(chosen)
        for key in (k for k in rows[0] if k not in ("world", "group")):
            summary[f"{head}{key.removeprefix('orrery.')}"] = float(np.mean([r[key] for r in chosen]))
        for metric, sign in (("pearcorr", 1), ("relacc_subpools", 1), ("abs_ln_error", -1)):
            ahead = [all(sign * (r[f"orrery.{metric}"] - r[f"{m}.{metric}"]) >= 0 for m in RIVALS) for r in chosen]
            summary[f"{head}ahead.{metric}"] = float(np.mean(ahead))
        summary[f"{head}covered85"] = float(np.mean([r["coverage90"] >= 0.85 for r in chosen]))
    return summary


def main() -> None:
    """See the module's docstring."""
    args = arguments(__doc__, data="folder with one csv a task")
    run("rectified_worlds", args, lambda: measure(read_tasks(args.data), args.seed))


if __name__ == "__main__":
    main()
