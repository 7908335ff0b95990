"""In-context curves: predict the score at 16 to 32 demonstrations from at most 2 (and from at most 8).

``python -m tests.benchmarks.shots --data DIR --json OUT`` reads every csv in DIR (columns task, model, seed, shots, score,
items; an optional column ``chance`` holds the share right by guessing). A curve is one (task, model, seed): forecast from its
own early points alone, scored against its own late points, so the error contains the sampling noise of one evaluation
(``sampling_error``, what a perfect forecaster would still show). The prior is learned from the other tasks only; so is the one
number each baseline needs.

Baselines:
    two_point  a - b exp(-ck) through the first and the last measured k >= 1 (the paper's 1 and 8); two points leave c open,
               so the c that errs least on the other tasks is borrowed: the best two points can do.
    least_squares  a - b exp(-ck) fitted to all measured points over a grid of c.
    last       the last measured score.      mean       the mean of the measured scores.
    default_prior  the same law with the prior of the package, without learning from other tasks.
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orrery.laws import shots
from orrery.laws.posterior import Posterior

Array = NDArray[np.float64]

#: How many shots are known, and from how many on the forecast is scored.
KNOWN = (2, 8)
SCORED_FROM = 16
#: Where a file has no column ``chance``: four options, the commonest.
CHANCE = 0.25
COLUMNS = ("task", "model", "seed", "shots", "score", "items")
SPEEDS = np.geomspace(0.02, 5.0, 40)


@dataclass(frozen=True)
class Table:
    """All curves over one grid of shots; NaN where a curve has no such point."""

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

    Raises:
        ValueError: no csv, a missing column or a cell that is not a number, with file, line and what to write.
    """
    points: dict[tuple[str, str, str], dict[float, list[tuple[float, float]]]] = {}
    chance: dict[str, float] = {}
    files = sorted(folder.glob("*.csv"))
    for file in files:
        with file.open(newline="") as stream:
            reader = csv.DictReader(line for line in stream if not line.startswith("#"))
            if missing := [c for c in COLUMNS if c not in (reader.fieldnames or ())]:
                raise ValueError(f"{file}: column {missing[0]!r} is missing: write {', '.join(COLUMNS)}")
            for number, row in enumerate(reader, 2):
                try:
                    k, score, items = (float(row[c]) for c in ("shots", "score", "items"))
                    chance.setdefault(row["task"], float(row.get("chance") or CHANCE))
                except (TypeError, ValueError):
                    raise ValueError(f"{file}, line {number}: {row} has a cell that is not a number") from None
                curve = points.setdefault((row["task"], row["model"], row["seed"]), {})
                curve.setdefault(k, []).append((score, items))
    if not points:
        raise ValueError(f"{folder} holds no curve: put csv files with the columns {', '.join(COLUMNS)} there")
    names = sorted(points)
    grid = sorted({k for curve in points.values() for k in curve})
    scores = np.full((len(names), len(grid)), np.nan)
    counts = np.ones_like(scores)
    for i, name in enumerate(names):
        for k, seen in points[name].items():
            j = grid.index(k)
            counts[i, j] = sum(n for _, n in seen)
            scores[i, j] = sum(s * n for s, n in seen) / counts[i, j]
    task, model, seed = (list(column) for column in zip(*names, strict=True))
    return Table(task, model, seed, np.array(grid), scores, counts, np.array([chance[t] for t in task]))


def law(train: Table | None, test: Table, known: int) -> tuple[Array, Callable[[int, int], tuple[float, float]]]:
    """Medians (n, m) and the 90 % interval of the score one evaluation will show at (curve, column)."""
    prior = None
    if train is not None and train.task:
        start = shots.RANDOM_DEMONSTRATIONS
        prior = shots.learn_prior(train.shots, train.score, items=train.items, chance=train.chance, start=start)
    seen = np.where(test.shots <= known, test.score, np.nan)
    post = shots.fit(test.shots, seen, items=test.items, chance=test.chance, prior=prior)

    def interval(i: int, j: int) -> tuple[float, float]:
        ahead: Posterior = post.predict(test.shots[j : j + 1], items=int(test.items[i, j]))
        low, high = ahead.interval(0.9)
        return float(low[i, 0]), float(high[i, 0])

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
        late = train.shots >= SCORED_FROM
        return float(np.nanmean(np.abs(through(train, speed) - train.score)[:, late]))

    teaches = bool(train.task) and not np.isnan(train.score[:, train.shots >= SCORED_FROM]).all()
    speed = min(SPEEDS, key=error) if teaches else 0.5
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


def evaluate(table: Table) -> list[dict[str, object]]:
    """One row for each scored point: (task, model, seed, known, shots), truth, every forecast, interval and noise."""
    rows: list[dict[str, object]] = []
    tasks = np.array(table.task)
    for task in sorted(set(table.task)):
        train, test = table.rows(tasks != task), table.rows(tasks == task)
        for known in KNOWN:
            median, interval = law(train, test, known)
            others = {name: forecast(train, test, known) for name, forecast in BASELINES.items()}
            for i, j in np.argwhere(~np.isnan(test.score) & (test.shots >= SCORED_FROM)):
                if not ((test.shots <= known) & ~np.isnan(test.score[i])).any():
                    continue
                truth, low_high = float(test.score[i, j]), interval(i, j)
                smooth = (truth * test.items[i, j] + 0.5) / (test.items[i, j] + 1)
                rows.append(
                    {
                        "task": task,
                        "model": test.model[i],
                        "seed": test.seed[i],
                        "known": known,
                        "shots": float(test.shots[j]),
                        "score": truth,
                        "predicted": round(float(median[i, j]), 5),
                        "lower": round(low_high[0], 5),
                        "upper": round(low_high[1], 5),
                        # Mean absolute deviation of a normal with the binomial's sd.
                        "sampling_error": float(np.sqrt(2 / np.pi * smooth * (1 - smooth) / test.items[i, j])),
                        **{name: round(float(value[i, j]), 5) for name, value in others.items()},
                    }
                )
    return rows


def summarise(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
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


def _scores(rows: Sequence[Mapping[str, object]]) -> dict[str, float]:
    if not rows:
        return {}

    def column(name: str) -> Array:
        return np.array([float(r[name]) for r in rows])  # type: ignore[arg-type]

    truth = column("score")
    out = {
        "mae": float(np.abs(column("predicted") - truth).mean()),
        "coverage90": float(((column("lower") <= truth) & (truth <= column("upper"))).mean()),
        "width90": float((column("upper") - column("lower")).mean()),
        "sampling_error": float(column("sampling_error").mean()),
        "points": float(len(rows)),
    }
    return out | {f"{name}.mae": float(np.abs(column(name) - truth).mean()) for name in BASELINES}


def show(summary: Mapping[str, float]) -> str:
    """The table a person reads: errors in points of accuracy, ours beside the baselines."""
    lines = [
        f"{'known':>6} {'ours':>7} " + " ".join(f"{n:>13}" for n in BASELINES) + f" {'noise':>7} {'cov90':>6} {'n':>5}"
    ]
    for known in KNOWN:
        head = "" if known == KNOWN[0] else f"k{known}."
        if f"{head}mae" not in summary:
            continue
        others = " ".join(f"{100 * summary[f'{head}{n}.mae']:13.2f}" for n in BASELINES)
        noise, cover, points = (summary[f"{head}{m}"] for m in ("sampling_error", "coverage90", "points"))
        lines.append(
            f"k <= {known:<2}{100 * summary[f'{head}mae']:8.2f} {others} {100 * noise:7.2f} {cover:6.3f} {points:5.0f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of csv files")
    parser.add_argument("--json", type=Path, help="where to write the result")
    options = parser.parse_args(arguments)
    try:
        table = read(options.data)
        rows = evaluate(table)
    except ValueError as refusal:
        parser.error(str(refusal))
    summary = summarise(rows)
    print(show(summary))
    if options.json:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        result = {
            "command": "python -m tests.benchmarks.shots --data DIR --json OUT",
            "commit": commit.stdout.strip() or "unknown",
            "machine": f"{platform.machine()} {platform.system()}, Python {platform.python_version()}",
            "seeds": sorted(set(table.seed)),
            "rows": rows,
            "summary": summary,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
