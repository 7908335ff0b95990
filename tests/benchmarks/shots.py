"""In-context curves: predict the score at 16 to 32 demonstrations from at most 2 (and from at most 8).

``python -m tests.benchmarks.shots --data DIR --json OUT`` reads every csv in DIR (columns task, model, seed, shots, score,
items; an optional column ``chance`` holds the share right by guessing). A curve is one (task, model, seed): forecast from its
own early points alone, scored against its own late points, so the error contains the sampling noise of one evaluation
(``sampling_error``, what a perfect forecaster would still show). The prior is learned from the other tasks of DIR,
beginning with the package's for random demonstrations; so is the one number that the two-point baseline needs.

Where nothing says what guessing gives, it is what the catalogue of builtin tasks or the project's table says of that task, or
else an estimate from the task's own early points. An interval is that of a score on so many items: its ends are rounded
outwards to whole items.

Baselines:
    two_point  a - b exp(-ck) through the first and the last measured k >= 1 (the paper's 1 and 8); two points leave c open,
               so the c that errs least on the other tasks is borrowed: the best two points can do.
    least_squares  a - b exp(-ck) fitted to all measured points over a grid of c.
    last       the last measured score.      mean       the mean of the measured scores.
    default_prior  the same law with the prior of the package, without learning from other tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orrery.api import catalogue
from orrery.laws import shots
from orrery.laws.shots import ShotsPrior
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.tables import InputError, files, number, read_csv, say

Array = NDArray[np.float64]

#: How many shots are known, and from how many on the forecast is scored.
KNOWN = (2, 8)
SCORED_FROM = 16
COLUMNS = ("task", "model", "seed", "shots", "score", "items")
SPEEDS = np.geomspace(0.02, 5.0, 40)
MEASURED = Path(__file__).parent / "measured" / "shots"
_ITEMS = 100.0  # of an evaluation that does not say how many


@dataclass(frozen=True)
class Table:
    """All curves over one grid of shots; NaN where a curve has no such point, and where chance is not known."""

    task: list[str]
    model: list[str]
    seed: list[str]
    shots: Array  # (m,)
    score: Array  # (n, m)
    items: Array  # (n, m)
    chance: Array  # (n,)

    def rows(self, index: NDArray[np.bool_]) -> Table:
        """The selected curves."""
        pick = np.flatnonzero(index)
        task, model, seed = ([column[i] for i in pick] for column in (self.task, self.model, self.seed))
        return Table(task, model, seed, self.shots, self.score[pick], self.items[pick], self.chance[pick])


def read(folder: Path) -> Table:
    """Every csv of the folder as one table; repeats of (task, model, seed, shots) are averaged over their items.

    Rows without a number for shots or score, or with no items, say nothing and are left out; files without the columns
    too. Scores in percent are divided by 100.

    Raises:
        InputError: nothing usable is left, with what to write.
    """
    points: dict[tuple[str, str, str], dict[float, list[tuple[float, float]]]] = {}
    chance: dict[str, float] = {}
    notes = []
    for file in files(folder):
        try:
            columns, rows = read_csv(file)
        except InputError as refusal:
            notes.append(str(refusal))
            continue
        if missing := [c for c in ("task", "shots", "score") if c not in columns]:
            notes.append(f"{file.name} is left out: it has no column {missing[0]!r}; write {', '.join(COLUMNS)}")
            continue
        score = np.array([number(r["score"]) for r in rows])
        if (score > 1).sum() > (score > 0).sum() / 2:
            notes.append(f"{file.name}: scores go up to {np.nanmax(score):g} and are taken as percent")
            score = score / 100
        items = np.array([number(r.get("items")) for r in rows])
        typical = float(np.median(items[items >= 1])) if (items >= 1).any() else _ITEMS
        items = np.where(np.isnan(items), typical, items)
        shots_of = np.array([number(r["shots"]) for r in rows])
        usable = (score >= 0) & (score <= 1) & (shots_of >= 0) & (items > 0)
        if not usable.all():
            notes.append(f"{file.name}: {(~usable).sum()} of {len(rows)} rows left out: no score, shots or items")
        for row, k, y, n in [(rows[i], shots_of[i], score[i], items[i]) for i in np.flatnonzero(usable)]:
            guess = number(row.get("chance"))
            if 0 <= guess < 1:
                chance.setdefault(row["task"], guess)
            curve = points.setdefault((row["task"], row.get("model", ""), row.get("seed", "")), {})
            curve.setdefault(float(k), []).append((float(y), float(n)))
    if not points:
        raise InputError("; ".join(notes) or f"{folder} holds no curve: write columns {', '.join(COLUMNS)}")
    for note in notes:
        say(note)
    names = sorted(points)
    grid = sorted({k for curve in points.values() for k in curve})
    scores = np.full((len(names), len(grid)), np.nan)
    counts = np.ones_like(scores)
    for i, name in enumerate(names):
        for k, seen in points[name].items():
            j = grid.index(k)
            counts[i, j] = sum(n for _, n in seen)
            scores[i, j] = sum(y * n for y, n in seen) / counts[i, j]
    task, model, seed = (list(column) for column in zip(*names, strict=True))
    return Table(task, model, seed, np.array(grid), scores, counts, np.array([chance.get(t, np.nan) for t in task]))


@cache
def measured() -> Table:
    """The project's own table."""
    return read(MEASURED)


def same_name(task: str) -> str:
    """What two spellings of a builtin task have in common."""
    return task.casefold().removeprefix("bigbench/")


def with_chance(table: Table, known: float) -> Table:
    """The table with a chance for every curve; where nobody knows it, estimated from the points at k <= ``known``."""
    said = {same_name(name): 1 / t.labels for name, t in catalogue.TASKS.items() if t.labels}
    said = dict(zip(map(same_name, measured().task), measured().chance.tolist(), strict=True)) | said
    names = np.array([same_name(t) for t in table.task])
    found = table.chance.copy()
    for name in set(names[np.isnan(found)].tolist()):
        rows = (names == name) & np.isnan(found)
        found[rows] = said.get(name) or estimated_chance(table.score[rows][:, table.shots <= known])
    return replace(table, chance=found)


def estimated_chance(early: Array) -> float:
    """The largest 1/2, 1/3, ... 1/10 that a task's low scores still reach, from the points measured of it (n, m).

    A share right by guessing is hardly ever fallen short of in a tenth of the points; where all are lower still, guessing
    tells little and 1/10 is said. On the project's own table the error with it is .2 points above that with the true
    chance, with 1/4 throughout .5 (docs/benchmarks/shots.md).
    """
    seen = early[~np.isnan(early)]
    options = 1 / np.arange(2.0, 11.0)
    reached = options[options <= np.quantile(seen, 0.1) + 0.02] if seen.size else options[2:]
    return float(reached.max()) if reached.size else float(options[-1])


def learned(train: Table, start: ShotsPrior = shots.RANDOM_DEMONSTRATIONS) -> ShotsPrior:
    """The prior that the curves of other tasks teach whoever begins with ``start``."""
    if not train.task:
        return start
    return shots.learn_prior(train.shots, train.score, items=train.items, chance=train.chance, start=start)


def law(prior: ShotsPrior | None, test: Table, known: int) -> tuple[Array, Callable[[int, int], tuple[float, float]]]:
    """Medians (n, m) and the 90 % interval of the score one evaluation will show at (curve, column)."""
    seen = np.where(test.shots <= known, test.score, np.nan)
    post = shots.fit(test.shots, seen, items=test.items, chance=test.chance, prior=prior)

    def interval(i: int, j: int) -> tuple[float, float]:
        count = float(test.items[i, j])
        low, high = post.predict(test.shots[j : j + 1], items=max(1, round(count))).interval(0.9)
        # A score is a whole number of items; the law's own never reaches 0 or 1.
        return float(np.floor(low[i, 0] * count + 1e-9) / count), float(np.ceil(high[i, 0] * count - 1e-9) / count)

    return post.predict(test.shots).median(), interval


def two_point(train: Table, test: Table, known: int) -> Array:
    """Through the first and the last measured k >= 1, with the c that errs least on the training curves."""

    def through(table: Table, speed: float) -> Array:
        out = np.full_like(table.score, np.nan)
        usable = (table.shots <= known) & ~np.isnan(table.score)
        for i, row in enumerate(usable):
            at = np.flatnonzero(row & (table.shots >= 1))
            at = at if at.size >= 2 else np.flatnonzero(row)
            if at.size:
                first, last = at[0], at[-1]
                e = np.exp(-speed * table.shots)
                gap = e[first] - e[last]
                b = (table.score[i, last] - table.score[i, first]) / gap if gap > 1e-12 else 0.0
                out[i] = table.score[i, last] + b * (e[last] - e)
        return np.clip(out, 0, 1)

    def error(speed: float) -> float:
        gaps = np.abs(through(train, speed) - train.score)[:, train.shots >= SCORED_FROM]
        return float(gaps[~np.isnan(gaps)].mean()) if not np.isnan(gaps).all() else np.inf

    speed = min(SPEEDS, key=error) if train.task and np.isfinite(error(SPEEDS[0])) else 0.5
    return through(test, float(speed))


def least_squares(train: Table, test: Table, known: int) -> Array:
    """a - b exp(-ck) over a grid of c with a in [0, 1]; ties and non-identified c go to the fastest saturation."""
    out = np.full_like(test.score, np.nan)
    for i, score in enumerate(test.score):
        at = (test.shots <= known) & ~np.isnan(score)
        best = np.inf
        for speed in SPEEDS[::-1]:
            basis = np.stack([np.ones(at.sum()), -np.exp(-speed * test.shots[at])], 1)
            if not at.any():
                continue
            coefficient = np.linalg.lstsq(basis, score[at], rcond=None)[0]
            loss = float(((basis @ coefficient - score[at]) ** 2).sum())
            if loss < best - 1e-9 and 0 <= coefficient[0] <= 1:
                best = loss
                out[i] = coefficient[0] - coefficient[1] * np.exp(-speed * test.shots)
        if not np.isfinite(out[i]).all() and at.any():
            out[i] = score[at][-1]
    return np.clip(out, 0, 1)


def last(train: Table, test: Table, known: int) -> Array:
    """The last measured score, for ever."""
    early = np.where(test.shots <= known, test.score, np.nan)
    place = np.where(~np.isnan(early), np.arange(test.shots.size), -1).max(1)
    value = np.where(place >= 0, early[np.arange(len(early)), place], np.nan)
    return np.broadcast_to(value[:, None], early.shape)


def mean(train: Table, test: Table, known: int) -> Array:
    """The mean of the measured scores."""
    early = np.where(test.shots <= known, test.score, np.nan)
    count = (~np.isnan(early)).sum(1)
    value = np.where(count, np.nansum(early, 1) / np.maximum(count, 1), np.nan)
    return np.broadcast_to(value[:, None], early.shape)


BASELINES: Mapping[str, Callable[[Table, Table, int], Array]] = {
    "two_point": two_point,
    "least_squares": least_squares,
    "last": last,
    "mean": mean,
    "default_prior": lambda train, test, known: law(None, test, known)[0],
}


def evaluate(table: Table) -> list[Row]:
    """One row for each scored point: (task, model, seed, known, shots), truth, every forecast, interval and noise."""
    rows: list[Row] = []
    tasks = np.array(table.task)
    scored = ~np.isnan(table.score[:, table.shots >= SCORED_FROM])
    begun = ~np.isnan(table.score[:, table.shots <= KNOWN[-1]])
    for task in sorted(set(tasks[scored.any(axis=1) & begun.any(axis=1)].tolist())):
        train = with_chance(table.rows(tasks != task), np.inf)
        prior = learned(train)
        own = table.rows(tasks == task)
        for known in KNOWN:
            test = with_chance(own, known)
            median, interval = law(prior, test, known)
            rivals = {name: forecast(train, test, known) for name, forecast in BASELINES.items()}
            for i, j in np.argwhere(~np.isnan(test.score) & (test.shots >= SCORED_FROM)):
                if not ((test.shots <= known) & ~np.isnan(test.score[i])).any():
                    continue
                truth, (low, high) = float(test.score[i, j]), interval(i, j)
                smooth = (truth * test.items[i, j] + 0.5) / (test.items[i, j] + 1)
                rows.append(
                    {
                        "task": task,
                        "model": test.model[i],
                        "seed": test.seed[i],
                        "known": known,
                        "shots": float(test.shots[j]),
                        "chance": round(float(test.chance[i]), 5),
                        "score": truth,
                        "predicted": round(float(median[i, j]), 5),
                        "lower": low,
                        "upper": high,
                        # Mean absolute deviation of a normal with the binomial's sd.
                        "sampling_error": float(np.sqrt(2 / np.pi * smooth * (1 - smooth) / test.items[i, j])),
                        **{name: round(float(value[i, j]), 5) for name, value in rivals.items()},
                    }
                )
    return rows


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """Flat numbers: from k <= 2 under plain names, from k <= 8 under ``k8.``; each task under its name, baselines too."""
    out: dict[str, float] = {}
    for known in KNOWN:
        chosen = [r for r in rows if r["known"] == known]
        head = "" if known == KNOWN[0] else f"k{known}."
        for prefix, part in [("", chosen)] + [
            (f"{task}.", [r for r in chosen if r["task"] == task]) for task in sorted({str(r["task"]) for r in chosen})
        ]:
            for name, value in _scores(part).items():
                baseline, dot, measure = name.rpartition(".")
                out[f"{head}{baseline}{dot}{prefix}{measure}"] = value
    return out


def _scores(rows: Sequence[Row]) -> dict[str, float]:
    if not rows:
        return {}

    def column(name: str) -> Array:
        return np.array([float(r[name]) for r in rows])

    truth = column("score")
    out = {
        "mae": float(np.abs(column("predicted") - truth).mean()),
        "coverage90": float(((column("lower") <= truth + 1e-9) & (truth <= column("upper") + 1e-9)).mean()),
        "width90": float((column("upper") - column("lower")).mean()),
        "sampling_error": float(column("sampling_error").mean()),
        "points": float(len(rows)),
    }
    return out | {f"{name}.mae": float(np.abs(column(name) - truth).mean()) for name in BASELINES}


def tables(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """What a person reads: errors in points of accuracy, ours beside the baselines, over all tasks and for each."""
    out = []
    for known in KNOWN:
        chosen = [r for r in rows if r["known"] == known]
        lines: list[Row] = []
        for task in (None, *sorted({str(r["task"]) for r in chosen})):
            found = _scores([r for r in chosen if task in (None, r["task"])])
            if found:
                errors = {"ours": 100 * found["mae"]} | {n: 100 * found[f"{n}.mae"] for n in BASELINES}
                noise = {"noise": 100 * found["sampling_error"], "cov90": found["coverage90"], "n": found["points"]}
                lines.append({"task": task or "all", **errors, **noise})
        out.append((f"errors in points, from k <= {known}", lines))
    return out


def measure(table: Table) -> Outcome:
    """All curves with a point at few demonstrations and one at many.

    Raises:
        InputError: there is no such curve.
    """
    rows = evaluate(table)
    if not rows:
        raise InputError(
            f"no curve has a score at {SCORED_FROM} shots or more and one at {KNOWN[-1]} or fewer: nothing can be forecast"
        )
    for known in set(KNOWN) - {r["known"] for r in rows}:
        say(f"no curve has a score at {known} shots or fewer: the forecasts from k <= {known} are left out")
    return Outcome(rows, summarise(rows), tables(rows))


def main() -> None:
    """See the module's docstring."""
    args = arguments(__doc__, data=f"folder of csv files with columns {', '.join(COLUMNS)}")
    run("shots", args, lambda: measure(read(args.data)))


if __name__ == "__main__":
    main()
