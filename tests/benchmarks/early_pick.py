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

import csv
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
from numpy.typing import NDArray
from scipy.stats import spearmanr

from orrery.laws import early
from orrery.laws.posterior import Array
from tests.benchmarks.harness import Outcome, Row, arguments, run

BUDGET = 0.08
_SUB_POOLS, _SUB_POOL = 200, 12
Reached = NDArray[np.int64]


@dataclass(frozen=True)
class Pool:
    """n runs with k checkpoints: everything (n, k) but final accuracy and trained parameters (n,)."""

    names: list[str]
    left_out: int
    accuracy: Array
    parameters: Array
    loss: Array
    valid: Array
    seconds: Array
    elapsed: Array

    def take(self, rows: NDArray[np.int64]) -> Pool:
        arrays = (v[rows] for v in vars(self).values() if isinstance(v, np.ndarray))
        return Pool([self.names[i] for i in rows], self.left_out, *arrays)


#: What a policy gives: score of every run (higher is better) and the checkpoints it paid for.
Policy = Callable[[Pool, int], tuple[Array, Reached]]


def read_pool(folder: Path) -> Pool:
    with (folder / "runs.csv").open(newline="") as file:
        runs = [r for r in csv.DictReader(file) if r["test_acc"]]
    with (folder / "curves.csv").open(newline="") as file:
        points = [p for p in csv.DictReader(file) if p["train time"] and p["valid accuracy"]]
    by_run: dict[str, list[dict[str, str]]] = {r["run"]: [] for r in runs}
    for p in points:
        by_run.get(p["run"], []).append(p)
    length = Counter(len(v) for v in by_run.values()).most_common(1)[0][0]  # others have no common checkpoints
    runs = [r for r in runs if len(by_run[r["run"]]) == length]
    for r in runs:
        by_run[r["run"]].sort(key=lambda p: int(p["step"]))

    def column(name: str) -> Array:
        return np.array([[float(p[name]) for p in by_run[r["run"]]] for r in runs])

    return Pool(
        [r["run"] for r in runs],
        len(by_run) - len(runs),
        np.array([float(r["test_acc"]) for r in runs]),
        np.array([float(r["trainable"]) for r in runs]),
        column("train loss"),
        column("valid accuracy"),
        column("train time"),
        column("elapsed time"),
    )


def ours(pool: Pool, seed: int) -> tuple[Array, Reached]:
    """Everyone's first checkpoint, then ``early.go_on`` until the budget is spent; time is estimated from the first."""
    checkpoints = pool.loss.shape[1]
    first = pool.seconds[:, 0]
    left = BUDGET * checkpoints * first.sum() - first.sum()
    reached = np.ones(len(first), dtype=np.int64)
    while True:
        seen = np.where(np.arange(checkpoints) < reached[:, None], pool.loss, np.nan)
        on = early.go_on(seen, first, left, parameters=pool.parameters)
        if not len(on):
            return -early.forecast(seen, parameters=pool.parameters).mean, reached
        reached[on] += 1
        left -= first[on].sum()


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
        whole = scores(pool, policy, seed)
        parts = [scores(pool.take(s), policy, seed + i) for i, s in enumerate(subsets)]
        regrets = [p["regret"] for p in parts]
        whole |= {
            "regret_subpools": float(np.mean(regrets)),
            "regret_subpools_se": float(np.std(regrets) / np.sqrt(len(regrets))),
            "spearman_subpools": float(np.mean([p["spearman"] for p in parts])),
            "cost_share_subpools": float(np.mean([p["cost_share"] for p in parts])),
        }
        table.append({"policy": name, **whole})
        rows += [{"policy": name, "pool": "all", **whole}]
        rows += [{"policy": name, "pool": i, **p} for i, p in enumerate(parts)]
        prefix = "" if name == "orrery" else f"{name}."
        summary |= {f"{prefix}{k}": v for k, v in whole.items()}
    return Outcome(rows, {"runs": len(pool.names), "runs_left_out": pool.left_out, **summary}, [("early_pick", table)])


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    args = arguments(__doc__, data="folder with runs.csv and curves.csv")
    run("early_pick", args, lambda: measure(read_pool(args.data), args.seed))


if __name__ == "__main__":
    main()
