"""What each part of the forecaster is worth, and what lost against it: ``rectified_ablation``.

The cells of ``rectified``, forecast by the shipped model and by it with one part changed:

- ``no_pull``: who is behind does not speed up (kappa = 0: smoothed lines);
- ``flat_pull``: every pull of the grid is as likely as none;
- ``no_step``: no odd run may shift a curve;
- ``unadapted``: the rectified law's prior is that of the other tasks, whatever this task's curves have in common;
- ``line_course``: the course of the task is the line through its last three averages instead of the rectified law;
- ``blend_half``: half of it, half every curve's own rectified fit, on log losses;
- ``family``, ``size``: measured models lean on their family or size as unmeasured ones do, as far as the evidence says so;
- ``held_back``: the average of five laws (ours, rectified, power, accept-then-stop, last two points), each weighted by the
  inverse square of its error on the largest seen size, forecast from the sizes up to a quarter of it;
- ``slopes``: deviations by ridge regression on the last three slopes and the level, learned on the other tasks in DIR;
- ``stacked``: corrected by accept-then-stop, the last two points and the power law, with weights learned on this task: every
  seen size forecast from all that are smaller;
- ``bagged``: mean over twelve bootstraps of the models that the shared numbers are learned from;
- ``zero_shot``, ``model_size``, ``family_effect``: what is left over on the other tasks, regressed on zero-shot loss or size,
  or averaged by family, is added;
- ``gaussian_process``: deviations by a line and a Matern process over log sizes, its four numbers averaged by evidence.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from orrery.laws import accept_then_stop, catch_up, pooled, power, priors, rectified
from orrery.laws.empirical_bayes import adapt
from orrery.laws.posterior import Array, Link
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.rectified import BUDGETS, pearson, relative_accuracy, seen


@dataclass(frozen=True)
class Cell:
    """Log losses (n, m) at doublings 0 ... m - 1, the doubling asked for, and every curve's own rectified fit.

    ``own`` is under the prior moved by the task's curves, ``unadapted`` under that of the other tasks.
    """

    task: Task
    z: Array
    goal: float
    own: Array
    unadapted: Array
    mean_pull: float
    others: list[Task]
    budget: int

    def deviations(
        self,
        pulls: Array = catch_up.PULLS,
        step: float = catch_up.STEP_PROBABILITY,
        mean_pull: float | None = None,
        no_pull: float = catch_up.NO_PULL,
    ) -> tuple[Array, Array]:
        count = self.z.shape[1]
        apart = self.z - self.own[:, :count].mean(axis=0)
        found = catch_up.forecast(
            np.arange(float(count)),
            apart,
            np.zeros_like(apart),
            np.array([self.goal]),
            pulls=pulls,
            mean_pull=mean_pull or self.mean_pull,
            no_pull=no_pull,
            step_probability=step,
        )
        return found.mean[:, 0], found.variance[:, 0]

    @property
    def course(self) -> float:
        return float(self.own[:, -1].mean())


def cell(task: Task, others: list[Task], budget: int, seed: int) -> Cell:
    s = seen(task, budget, seed)
    prior = priors.shipped_pooled_prior(Link.LOG, task=s.task, seen=s.fingerprints)
    x, y = np.append(0.0, s.sizes), np.column_stack([s.zero_shot, s.losses])
    own, unadapted = (
        rectified.fit(x, y, link=Link.LOG, prior=law, seed=seed).predict(np.append(s.sizes, s.target)).mean
        for law in (adapt(prior.law, x, y, link=Link.LOG, seed=seed), prior.law)
    )
    goal = float(np.log2(s.target / s.sizes[0]))
    return Cell(task, np.log(s.losses), goal, own, unadapted, prior.mean_pull, others, budget)


def shipped(c: Cell) -> Array:
    return np.asarray(c.course + c.deviations()[0])


def line_course(c: Cell) -> Array:
    mean = c.z.mean(axis=0)
    ahead = c.goal - (c.z.shape[1] - 1)
    return np.asarray(mean[-1] + ahead * (mean[-1] - mean[-3]) / 2 + c.deviations()[0])


def leaning(feature: Callable[[Task], Array]) -> Callable[[Cell], Array]:
    """Gaussian-process smoothing of the deviations over a feature, its strengths averaged by evidence."""

    def forecast(c: Cell) -> Array:
        d, variance = c.deviations()
        similar = feature(c.task)
        logs, means = [], []
        for own in (0.02, 0.05, 0.1, 0.2, 0.4):
            for shared in (0.0, 0.03, 0.06, 0.12, 0.25):
                k = own**2 * np.eye(len(d)) + shared**2 * similar
                root = np.linalg.cholesky(k + np.diag(variance))
                white = np.linalg.solve(root, d)
                logs.append(-0.5 * white @ white - np.log(np.diag(root)).sum())
                means.append(k @ np.linalg.solve(root.T, white))
        weight = np.exp(np.array(logs) - max(logs))
        return np.asarray(c.course + weight @ np.array(means) / weight.sum())

    return forecast


def families(task: Task) -> Array:
    names = np.array(task.families)
    return np.asarray(names[:, None] == names, dtype=np.float64)


def sizes(task: Task) -> Array:
    logs = np.log(task.parameters)
    scaled = (logs - logs.mean()) / logs.std()
    return np.asarray(np.outer(scaled, scaled))


def held_back(c: Cell) -> Array:
    def laws(part: Task, budget: float) -> Array:
        s = seen(part, budget, 0)
        link, at = Link.LOG, [s.target]
        prior = priors.shipped_pooled_prior(link, task=c.task.name, seen=priors.fingerprints(c.task.losses))
        return np.stack(
            [
                p.mean[:, 0]
                for p in (
                    pooled.forecast(s.sizes, s.losses, at, link=link, prior=prior),
                    rectified.fit(s.sizes, s.losses, link=link, prior=prior.law).predict(at),
                    power.fit(s.sizes, s.losses, link=link).predict(at),
                    accept_then_stop.fit(s.sizes, s.losses, link=link).predict(at),
                    accept_then_stop.last_points(s.sizes, s.losses, link=link).predict(at),
                )
            ]
        )

    count = c.z.shape[1]
    early = replace(c.task, sizes=c.task.sizes[:count], losses=c.task.losses[:, :count])
    error = np.abs(laws(early, 4) - c.z[:, -1]).mean(axis=1)
    weight = error**-2 / (error**-2).sum()
    return np.asarray(weight @ laws(c.task, c.task.sizes[-1] / c.task.sizes[count - 1]))


def slopes(c: Cell) -> Array:
    """Future fall a doubling, as deviation from its mean over models, by ridge on slopes and level of the other tasks."""

    def features(z: Array, last: int) -> Array:
        f = np.column_stack([*(z[:, last - i - 1] - z[:, last - i] for i in range(3)), z[:, last]])
        return np.asarray(f - f.mean(axis=0))

    last, ahead = c.z.shape[1] - 1, round(c.goal) - c.z.shape[1] + 1
    x = np.vstack([features(np.log(t.losses), last) for t in c.others])
    falls = [(np.log(t.losses)[:, last] - np.log(t.losses)[:, last + ahead]) / ahead for t in c.others]
    y = np.concatenate([f - f.mean() for f in falls])
    scale = x.std(axis=0)
    weight = np.linalg.solve((x / scale).T @ (x / scale) + 0.1 * len(y) * np.eye(4), (x / scale).T @ y)
    return np.asarray(c.course + c.z[:, -1] - c.z[:, -1].mean() - ahead * (features(c.z, last) / scale) @ weight)


def apart(values: Array) -> Array:
    """Differences from the mean over models."""
    return np.asarray(values - values.mean(axis=0))


def _lines(sizes: Array, losses: Array, at: float) -> Array:
    """Forecasts (n, 3) of the laws that correct ours in ``stacked``."""
    fits = (
        accept_then_stop.fit(sizes, losses, link=Link.LOG),
        accept_then_stop.last_points(sizes, losses, link=Link.LOG),
        power.fit(sizes, losses, link=Link.LOG),
    )
    return np.concatenate([f.predict([at]).mean for f in fits], axis=1)


def stacked(c: Cell) -> Array:
    sizes, losses = c.task.sizes[: c.z.shape[1]], np.exp(c.z)
    rows, goals = [], []
    for known in range(3, len(sizes)):
        ours = pooled.forecast(sizes[:known], losses[:, :known], sizes[known:], link=Link.LOG).mean
        for j, goal in enumerate(sizes[known:]):
            rows.append(apart(_lines(sizes[:known], losses[:, :known], goal)) - apart(ours[:, [j]]))
            goals.append(apart(c.z[:, known + j]) - apart(ours[:, j]))
    forecast = shipped(c)
    if not rows:
        return forecast
    x, y = np.vstack(rows), np.concatenate(goals)
    weight = np.linalg.solve(x.T @ x + len(y) * x.var() * np.eye(x.shape[1]), x.T @ y)
    lines = _lines(sizes, losses, c.task.sizes[-1])
    return np.asarray(forecast + (apart(lines) - apart(forecast)[:, None]) @ weight)


def bagged(c: Cell) -> Array:
    total, count = np.zeros((2, len(c.z)))
    for seed in range(12):
        rows = np.unique(np.random.default_rng(seed).integers(0, len(c.z), len(c.z)))
        part = replace(c, z=c.z[rows], own=c.own[rows])
        total[rows] += shipped(part)
        count[rows] += 1
    return np.where(count > 0, total / np.maximum(count, 1), shipped(c))


def left_over(c: Cell) -> tuple[list[Task], list[Array]]:
    """What forecasts of the other tasks from the same budget miss, as differences between models."""
    found = [shipped(cell(t, [], c.budget, 0)) for t in c.others]
    return c.others, [apart(np.log(t.losses[:, -1]) - f) for t, f in zip(c.others, found, strict=True)]


def regressed(feature: Callable[[Task], Array]) -> Callable[[Cell], Array]:
    def scaled(task: Task) -> Array:
        return np.asarray(apart(feature(task)) / feature(task).std())

    def forecast(c: Cell) -> Array:
        x, y = (
            np.concatenate(v) for v in zip(*[(scaled(t), r) for t, r in zip(*left_over(c), strict=True)], strict=True)
        )
        return np.asarray(shipped(c) + scaled(c.task) * (x @ y) / (2 * len(y)))

    return forecast


def family_effect(c: Cell) -> Array:
    told: dict[str, list[float]] = {}
    for task, missed in zip(*left_over(c), strict=True):
        for name, value in zip(task.families, missed, strict=True):
            told.setdefault(name, []).append(value)
    return np.asarray(shipped(c) + [sum(told.get(f, [])) / (len(told.get(f, [])) + 3) for f in c.task.families])


def gaussian_process(c: Cell) -> Array:
    x = np.append(np.arange(float(c.z.shape[1])), c.goal)
    far, d = np.abs(x[:, None] - x) * np.sqrt(3), apart(c.z)
    logs, means = [], []
    for line, sd, length, noise in itertools.product(
        (0.01, 0.03, 0.1), (0.01, 0.03, 0.1, 0.3), (2, 4, 8, 16), (0.004, 0.01, 0.02)
    ):
        k = 0.4**2 + line**2 * np.outer(x, x) + sd**2 * (1 + far / length) * np.exp(-far / length)
        seen = k[:-1, :-1] + noise**2 * np.eye(len(x) - 1)
        root = np.linalg.cholesky(seen)
        white = np.linalg.solve(root, d.T)
        logs.append(-0.5 * (white**2).sum() - len(d) * np.log(np.diag(root)).sum())
        means.append(k[-1, :-1] @ np.linalg.solve(seen, d.T))
    weight = np.exp(np.array(logs) - max(logs))
    return np.asarray(c.course + weight @ np.array(means) / weight.sum())


#: Variants that learn from other tasks with the same sizes in DIR.
FROM_OTHERS = ("slopes", "zero_shot", "model_size", "family_effect")
VARIANTS: dict[str, Callable[[Cell], Array]] = {
    "shipped": shipped,
    "no_pull": lambda c: c.course + c.deviations(pulls=np.zeros(1))[0],
    "flat_pull": lambda c: c.course + c.deviations(mean_pull=np.inf, no_pull=1 / len(catch_up.PULLS))[0],
    "unadapted": lambda c: c.unadapted[:, -1].mean() + c.deviations()[0],
    "no_step": lambda c: c.course + c.deviations(step=0.0)[0],
    "line_course": line_course,
    "blend_half": lambda c: (shipped(c) + c.own[:, -1]) / 2,
    "family": leaning(families),
    "size": leaning(sizes),
    "held_back": held_back,
    "slopes": slopes,
    "stacked": stacked,
    "bagged": bagged,
    "zero_shot": regressed(lambda t: np.log(t.zero_shot)),
    "model_size": regressed(lambda t: np.log(t.parameters)),
    "family_effect": family_effect,
    "gaussian_process": gaussian_process,
}


def measure(tasks: list[Task], seed: int) -> Outcome:
    rows: list[Row] = []
    for task in tasks:
        others = [t for t in tasks if t is not task and np.array_equal(t.sizes, task.sizes)]
        truth = task.losses[:, -1]
        for budget in BUDGETS:
            c = cell(task, others, budget, seed)
            for name, variant in VARIANTS.items():
                if name in FROM_OTHERS and not others:
                    continue
                forecast = np.exp(variant(c))
                scores = {
                    "pearcorr": float(pearson(forecast, truth)),
                    "relacc": relative_accuracy(forecast, truth),
                    "abs_ln_error": float(np.abs(np.log(forecast / truth)).mean()),
                }
                rows.append({"task": task.name, "budget": budget, "variant": name, **scores})
    table, summary = [], {}
    for name in dict.fromkeys(r["variant"] for r in rows):
        line: Row = {"variant": name}
        for task_name in (None, *(t.name for t in tasks)):
            chosen = [r for r in rows if r["variant"] == name and task_name in (None, r["task"])]
            for metric in ("pearcorr", "relacc", "abs_ln_error"):
                key = f"{task_name + '.' if task_name else ''}{metric}"
                line[key] = summary[f"{name}.{key}"] = float(np.mean([r[metric] for r in chosen]))
        table.append(line)
    return Outcome(rows, summary, [("rectified_ablation", table)])


def main() -> None:
    args = arguments(__doc__, data="folder with one csv a task")
    run("rectified_ablation", args, lambda: measure(read_tasks(args.data), args.seed))


if __name__ == "__main__":
    main()
