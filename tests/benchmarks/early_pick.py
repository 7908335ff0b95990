"""Choose a fine-tuning configuration from the first per cent of every run: ``early_pick``.

DIR holds ``runs.csv`` (run, trainable, test_acc) and ``curves.csv`` (run, step, train loss, valid accuracy, train time,
elapsed time), as measured for the method comparison of the Hugging Face PEFT project. A policy may look at a run's
checkpoints in order and pays for the training seconds of each. Scored are the share of the training seconds of all runs
it paid for (``cost_share``; ``cost_share_elapsed`` counts start-up and evaluations, too), the Spearman correlation of its
ranking with the final test accuracy, and the regret of its choice in points, over the whole pool and over 200 random
sub-pools of 12 in each of which it starts afresh.

Successive halving and ASHA see train loss (the better signal), or validation accuracy where the name says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import spearmanr

from orrery.laws import early
from orrery.laws.posterior import Array
from tests.benchmarks.harness import Outcome, Row, arguments, run
from tests.benchmarks.tables import InputError, number, read_csv, say

BUDGET = 0.08
#: Shown beside it: a figure that hangs on one threshold is luck.
OTHER_BUDGETS = (0.06, 0.065, 0.07, 0.075, 0.0775, 0.0825, 0.085, 0.09, 0.1, 0.11, 0.12)
#: Numbers of ``laws/early.py`` that were set on runs like these, and are moved to see what hangs on them.
CHOSEN = ("MOMENTUM", "_PER_LOSS", "_PER_PARAMETERS", "_LEAST_SD")
_SUB_POOLS, _SUB_POOL = 200, 12
#: What a checkpoint tells beside its step; the last two may be missing.
_TOLD = ("train loss", "train time", "valid accuracy", "elapsed time")
Reached = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """n runs with k checkpoints: everything (n, k) but final accuracy and trained parameters (n,), NaN where unknown."""

    names: list[str]
    left_out: int
    accuracy: Array
    parameters: Array
    loss: Array
    valid: Array
    seconds: Array
    elapsed: Array
    share: Array  # of a run's steps, up to each checkpoint

    def take(self, rows: NDArray[np.int64]) -> Pool:
        arrays = (v[rows] for v in vars(self).values() if isinstance(v, np.ndarray))
        return Pool([self.names[i] for i in rows], self.left_out, *arrays)


#: What a policy gives: score of every run (higher is better) and the checkpoints it paid for.
Policy = Callable[[Pool, int], tuple[Array, Reached]]


def read_pool(folder: Path) -> Pool:
    """The runs of a folder on one grid of checkpoints, at equal shares of each run's own steps.

    The grid has as many checkpoints as at least half of the runs. A run's k-th is its own checkpoint nearest to that share
    of its steps: its train loss is the mean over the steps since the one before, its seconds are all that were spent until
    then. Runs without a test accuracy, without a loss or with less than half of the grid's checkpoints are left out, and
    said.

    Raises:
        InputError: a file or a column is missing, or fewer than three runs are left.
    """
    runs, points = (
        _table(folder / "runs.csv", "run", "test_acc"),
        _table(folder / "curves.csv", "run", "step", *_TOLD[:2]),
    )
    by_run: dict[str, list[dict[str, str]]] = {}
    for point in points:
        if number(point["step"]) > 0:
            by_run.setdefault(point["run"], []).append(point)
    accuracy, trained = ({r["run"]: number(r.get(c)) for r in runs} for c in ("test_acc", "trainable"))
    if any(a > 1 for a in accuracy.values()):
        raise InputError(f"test_acc is {max(accuracy.values()):g}: write accuracies as shares, .42 for 42 %")
    curves = {name: _curve(by_run.get(name, [])) for name, a in accuracy.items() if a >= 0}
    lengths = sorted(len(c) for c in curves.values() if len(c) >= 2)
    grid = lengths[len(lengths) // 2] if lengths else 0
    kept = [name for name, c in curves.items() if len(c) >= max(2, grid / 2)]
    if left_out := [name for name in accuracy if name not in kept]:
        say(
            f"{len(left_out)} runs left out, without a test accuracy or with fewer than {max(2, grid / 2):g} "
            f"usable checkpoints: {', '.join(left_out)}"
        )
    if len(kept) < 3:
        raise InputError(f"{folder}: {len(kept)} usable runs; a choice and a ranking need three or more")
    written, valid, seconds, elapsed, share = np.stack([_on_grid(curves[name], grid) for name in kept], axis=1)
    return Pool(
        kept,
        len(left_out),
        np.array([accuracy[name] for name in kept]),
        np.array([trained[name] if trained[name] > 0 else np.nan for name in kept]),
        _filled(written),
        valid,
        seconds,
        elapsed,
        share,
    )


def _table(path: Path, *needed: str) -> list[dict[str, str]]:
    columns, rows = read_csv(path)
    if missing := [c for c in needed if c not in columns]:
        raise InputError(f"{path} has no column {missing[0]!r}: write {', '.join(needed)}")
    return rows


def _curve(points: list[dict[str, str]]) -> Array:
    """(k, 5): step, train loss (NaN where not written), validation accuracy, training and elapsed seconds up to there."""
    # Of two rows of one step, the one that tells more: a run's last step is written again at its end.
    told = {number(p["step"]): p for p in sorted(points, key=lambda p: sum(bool(p.get(c)) for c in _TOLD))}
    points = [told[s] for s in sorted(told)]
    step, loss, seconds, valid, elapsed = (np.array([number(p.get(c)) for p in points]) for c in ("step", *_TOLD))
    paid = np.flatnonzero(seconds > 0)
    if not paid.size or not (loss > 0).any():
        return np.empty((0, 5))
    # Seconds that were not noted are those of the run's other steps.
    width = np.diff(step, prepend=0.0)
    seconds = np.where(seconds > 0, seconds, width * seconds[paid].sum() / width[paid].sum()).cumsum()
    elapsed = np.maximum.accumulate(np.where(elapsed > 0, elapsed, seconds))
    latest = np.maximum.accumulate(np.where(np.isfinite(valid), np.arange(len(valid)), -1))
    valid = np.where(latest >= 0, valid[latest], 0.0)
    return np.stack([step, np.where(loss > 0, loss, np.nan), valid, seconds, elapsed], axis=1)


def _on_grid(curve: Array, checkpoints: int) -> Array:
    """(5, checkpoints): train loss, validation accuracy, seconds of each; elapsed seconds and share of steps up to it."""
    share = curve[:, 0] / curve[-1, 0]
    wanted = np.arange(1, checkpoints + 1) / checkpoints
    at = np.abs(share - wanted[:, None]).round(9).argmin(axis=1)
    before = np.minimum(np.concatenate([[0], at[:-1] + 1]), at)
    width = np.diff(share, prepend=0.0) * np.isfinite(curve[:, 1])
    loss = np.full(checkpoints, np.nan)
    for k, (first, last) in enumerate(zip(before, at, strict=True)):
        since = slice(first, last + 1)
        if width[since].any():
            loss[k] = np.average(np.nan_to_num(curve[since, 1]), weights=width[since])
    return np.stack([loss, curve[at, 2], np.diff(curve[at, 3], prepend=0.0), curve[at, 4], share[at]])


def _filled(loss: Array) -> Array:
    """Losses that were not written: before a later one the run's last, moved as the others moved; after its last the worst.

    A run whose losses end has diverged.
    """
    out = loss.copy()
    for k in range(loss.shape[1]):
        missing = np.isnan(loss[:, k])
        if not missing.any():
            continue
        if missing.all():
            out[:, k] = out[:, k - 1] if k else np.nanmedian(loss)
            continue
        typical = np.full(int(missing.sum()), np.nanmedian(loss[:, k]))
        if k:
            typical = out[missing, k - 1] * np.median(loss[~missing, k] / out[~missing, k - 1])
        ended = np.isnan(loss[missing, k:]).all(axis=1)
        out[missing, k] = np.where(ended, max(np.nanmax(loss[:, k]), np.max(typical)), typical)
    return out


def within(budget: float) -> Policy:
    """Everyone's first checkpoint, then ``early.go_on`` until the budget is spent; time is estimated from the first."""

    def policy(pool: Pool, seed: int) -> tuple[Array, Reached]:
        checkpoints = pool.loss.shape[1]
        whole = pool.seconds[:, 0] / pool.share[:, 0]
        each, left = whole / checkpoints, budget * whole.sum() - pool.seconds[:, 0].sum()
        known = np.isfinite(pool.parameters)
        # An unknown count is the typical one: it neither helps nor harms a run.
        typical = np.exp(np.log(pool.parameters[known]).mean()) if known.any() else 1.0
        parameters = np.where(known, pool.parameters, typical)
        reached = np.ones(len(whole), dtype=np.int64)
        while True:
            seen = np.where(np.arange(checkpoints) < reached[:, None], pool.loss, np.nan)
            on = early.go_on(seen, each, left, parameters=parameters)
            if not len(on):
                return -early.forecast(seen, parameters=parameters).mean, reached
            reached[on] += 1
            left -= each[on].sum()

    return policy


ours = within(BUDGET)


def at_tenth(signal: str) -> Policy:
    def policy(pool: Pool, seed: int) -> tuple[Array, Reached]:
        k = max(1, round(pool.loss.shape[1] / 10))
        score = pool.valid[:, k - 1] if signal == "valid" else -pool.loss[:, k - 1]
        return score, np.full(len(score), k)

    return policy


def successive_halving(eta: int, signal: str = "loss") -> Policy:
    """Synchronous: the best 1/eta of a rung get eta times the checkpoints."""

    def policy(pool: Pool, seed: int) -> tuple[Array, Reached]:
        score = pool.valid if signal == "valid" else -pool.loss
        reached = np.ones(len(score), dtype=np.int64)
        alive, k = np.arange(len(score)), 1
        while k < score.shape[1] and len(alive) > 1:
            keep = max(1, len(alive) // eta)
            alive = alive[np.argsort(-score[alive, k - 1], kind="stable")[:keep]]
            k = min(k * eta, score.shape[1])
            reached[alive] = k
        return _by_rung(score, reached), reached

    return policy


def asha(pool: Pool, seed: int) -> tuple[Array, Reached]:
    """Optuna's asynchronous successive halving (reduction factor 4), four runs at a time in random order."""
    study = optuna.create_study(direction="minimize", pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1))
    waiting = list(np.random.default_rng(seed).permutation(len(pool.names)))
    reached = np.zeros(len(pool.names), dtype=np.int64)
    going: list[tuple[int, optuna.Trial]] = []
    while waiting or going:
        while waiting and len(going) < 4:
            going.append((int(waiting.pop()), study.ask()))
        for i, trial in list(going):
            reached[i] += 1
            trial.report(float(pool.loss[i, reached[i] - 1]), step=int(reached[i]))
            done = reached[i] == pool.loss.shape[1]
            if done or trial.should_prune():
                value, state = (float(pool.loss[i, -1]), None) if done else (None, optuna.trial.TrialState.PRUNED)
                study.tell(trial, value, state=state)
                going.remove((i, trial))
    return _by_rung(-pool.loss, reached), reached


def _by_rung(score: Array, reached: Reached) -> Array:
    """Who got further ranks higher; within a rung the last score decides. Ranks, 0 the worst."""
    last = score[np.arange(len(score)), reached - 1]
    ranks = np.empty(len(score))
    ranks[np.lexsort((last, reached))] = np.arange(len(score))
    return ranks


POLICIES: dict[str, Policy] = {
    "orrery": ours,
    "train_loss_10": at_tenth("loss"),
    "valid_10": at_tenth("valid"),
    "sh2": successive_halving(2),
    "sh3": successive_halving(3),
    "sh4": successive_halving(4),
    "sh2_valid": successive_halving(2, "valid"),
    "sh3_valid": successive_halving(3, "valid"),
    "sh4_valid": successive_halving(4, "valid"),
    "asha": asha,
}


def scores(pool: Pool, policy: Policy, seed: int) -> dict[str, float]:
    score, reached = policy(pool, seed)
    rows = np.arange(len(reached))
    paid = np.where(np.arange(pool.seconds.shape[1]) < reached[:, None], pool.seconds, 0.0).sum()
    return {
        "cost_share": float(paid / pool.seconds.sum()),
        "cost_share_elapsed": float(pool.elapsed[rows, reached - 1].sum() / pool.elapsed[:, -1].sum()),
        "spearman": float(spearmanr(score, pool.accuracy)[0]),
        "regret": float(100 * (pool.accuracy.max() - pool.accuracy[np.argmax(score)])),
    }


def measure(pool: Pool, seed: int) -> Outcome:
    size = min(_SUB_POOL, len(pool.names))
    subsets = [np.random.default_rng((seed, i)).choice(len(pool.names), size, replace=False) for i in range(_SUB_POOLS)]
    table: list[Row] = []
    rows: list[Row] = []
    summary: dict[str, float] = {}
    for name, policy in POLICIES.items():
        whole, parts = _everywhere(pool, policy, subsets, seed)
        table.append({"policy": name, **whole})
        rows += [{"policy": name, "pool": "all", **whole}]
        rows += [{"policy": name, "pool": i, **p} for i, p in enumerate(parts)]
        prefix = "" if name == "orrery" else f"{name}."
        summary |= {f"{prefix}{k}": v for k, v in whole.items()}
    others = [
        {"policy": f"orrery within {100 * b:g} %", **_everywhere(pool, within(b), subsets, seed)[0]}
        for b in sorted({*OTHER_BUDGETS, BUDGET})
    ]
    rows += [{**other, "pool": "all"} for other in others]
    chosen: list[Row] = []
    for name in CHOSEN:
        for factor in (0.5, 2.0):
            with mock.patch.object(early, name, factor * getattr(early, name)):
                found = _everywhere(pool, ours, subsets, seed)[0]
            chosen.append({"policy": f"{name} x {factor:g}", **found})
    rows += [{**other, "pool": "all"} for other in chosen]
    tables = [("early_pick", table), ("at other budgets", others), ("with chosen numbers halved and doubled", chosen)]
    counts = {"runs": len(pool.names), "runs_left_out": pool.left_out}
    return Outcome(rows, {**counts, **summary}, tables)


def _everywhere(
    pool: Pool, policy: Policy, subsets: list[NDArray[np.int64]], seed: int
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Scores in the whole pool with means over the sub-pools, and those of each sub-pool."""
    whole = scores(pool, policy, seed)
    parts = [scores(pool.take(s), policy, seed + i) for i, s in enumerate(subsets)]
    regrets = [p["regret"] for p in parts]
    ranked = [p["spearman"] for p in parts if np.isfinite(p["spearman"])]
    whole |= {
        "regret_subpools": float(np.mean(regrets)),
        "regret_subpools_se": float(np.std(regrets) / np.sqrt(len(regrets))),
        "spearman_subpools": float(np.mean(ranked)) if ranked else np.nan,
        "cost_share_subpools": float(np.mean([p["cost_share"] for p in parts])),
    }
    return whole, parts


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    args = arguments(__doc__, data="folder with runs.csv and curves.csv")
    run("early_pick", args, lambda: measure(read_pool(args.data), args.seed))


if __name__ == "__main__":
    main()
