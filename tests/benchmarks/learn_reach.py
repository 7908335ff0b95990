"""How far laws are off beyond what was seen: writes operator/orrery/laws/priors/reach.json, and says what it covers.

    python -m tests.benchmarks.learn_reach --data DIR --grids tests/benchmarks/measured

DIR holds one csv a task of loss curves (arXiv 2402.02314); ``measured`` the fully measured grids of the builtin tasks. From one to
six measured sizes of a curve every later one is forecast by the rectified law, and the number is the link-scale sd for each factor e
beyond the last size, added to the law's own, at which the 90 % intervals hold as many as they should.

Losses: DIR holds few tasks, and a task's number comes from the others alone. Each of them is forecast by a prior learned from half of its
model families on the other half, and 95 % are asked for: models of one task go together, and another task is one draw more.
Shares: all other tasks together, and 90 %.

Printed: coverage of the 90 % intervals of every law by name and their width (mean ln of upper / lower), the task's own number left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.api.probe import Method, Trial, TrialResult
from orrery.laws.curve_laws import BUILTIN, curve_law
from orrery.laws.empirical_bayes import learn_prior
from orrery.laws.posterior import Z90, Array, Link
from orrery.laws.reach import reference
from orrery.laws.rectified import ERROR_PRIOR
from tests.benchmarks.curves import Task, read_tasks
from tests.benchmarks.grids import TASKS

SIZES = (1, 2, 3, 4, 6)  #: measured sizes that a forecast starts from
REACHES = (4, 32, 256)  #: of the table
#: A share is measured with noise, and another seed scores otherwise.
_SEED_SD = 0.15


def windows(task: Task) -> Iterator[tuple[int, slice]]:
    """Runs of ``SIZES`` neighbouring sizes that leave a later one."""
    for k in SIZES:
        for end in range(k, len(task.sizes)):
            yield k, slice(end - k, end)


def learned(errors: Array, sd: Array, ahead: Array, wanted: float) -> float:
    """The number at which ``wanted`` of the errors lie within the 90 % interval."""
    low, high = 0.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        held = np.mean(np.abs(errors) <= Z90 * np.hypot(sd, middle * ahead))
        low, high = (middle, high) if held < wanted else (low, middle)
    return high if high > 1e-6 else 0.0


def loss_errors(task: Task) -> Array:
    """(error, sd, ln reach) of the rectified law on a task it has a prior from, of the other half of the families."""
    names = sorted(set(task.families))
    half = np.array([names.index(f) % 2 for f in task.families])
    found = []
    for side in (0, 1):
        mine = task.losses[half == side]
        prior = learn_prior(task.sizes, task.losses[half != side], link=Link.LOG)
        for k, seen in windows(task):
            later = task.sizes[seen.stop :]
            noise = np.zeros((len(mine), k))
            p = reference(
                task.sizes[seen], mine[:, seen], later, link=Link.LOG, noise_sd=noise, chance=0.0, prior=prior
            )
            ahead = np.log(later / task.sizes[seen.stop - 1])
            error = np.log(mine[:, seen.stop :]) - p.mean
            found.append(np.stack([error, p.sd, np.broadcast_to(ahead, error.shape)], -1).reshape(-1, 3))
    table = np.concatenate(found)
    return np.asarray(table[np.isfinite(table).all(axis=1)])


def grid_curves(measured: Path, name: str) -> tuple[Array, Array, Array, float]:
    """Sizes (m,), shares and sampling errors on the logit scale (n, m) of one task's configurations, and the chance."""
    rows: list[dict[str, Any]] = []
    for part in ("grid", "probes"):
        file = measured / part / f"{name}.json"
        rows += json.loads(file.read_text())["rows"].values() if file.exists() else []
    found: dict[tuple[str, ...], dict[int, tuple[float, int]]] = {}
    for row in rows:
        trial, result = Trial.model_validate(row["trial"]), TrialResult.model_validate(row["result"])
        examples = trial.fidelity.training_examples
        if trial.fidelity.method is Method.DIRECT and examples and result.score is not None:
            said = sorted(f"{p.name}={p.value}" for p in trial.parameters if p.name != "dataPercent")
            curve = found.setdefault((row["model"], trial.strategy, *said), {})
            curve[examples] = float(result.score), result.items
    sizes = sorted({n for curve in found.values() for n in curve})
    score, items = np.full((len(found), len(sizes)), np.nan), np.ones((len(found), len(sizes)))
    for i, curve in enumerate(found.values()):
        for n, value in curve.items():
            score[i, sizes.index(n)], items[i, sizes.index(n)] = value
    labels = json.loads((measured / "grid" / f"{name}.json").read_text())["task_facts"].get("labels") or 0
    p = np.where(np.isfinite(score), score, 0.5)
    noise = np.hypot(1 / np.sqrt(items * p * (1 - p) + 0.5), _SEED_SD)
    return np.array(sizes, dtype=np.float64), score, noise, 1.0 / labels if labels else 0.0


def share_errors(measured: Path, name: str) -> Array:
    """The same for a builtin task's grid, its truth's own noise in the sd."""
    sizes, score, noise, chance = grid_curves(measured, name)
    found = []
    for end in range(1, len(sizes)):
        seen = np.isfinite(score[:, :end])
        rows = seen.any(axis=1) & np.isfinite(score[:, end:]).any(axis=1)
        if not rows.any():
            continue
        y, errors = score[rows], noise[rows]
        known = {"link": Link.LOGIT, "noise_sd": errors[:, :end], "chance": chance, "prior": ERROR_PRIOR}
        p = reference(sizes[:end], y[:, :end], sizes[end:], **known)  # type: ignore[arg-type]
        last = np.where(seen[rows], sizes[:end], 0).max(axis=1, keepdims=True)
        truth = Link.LOGIT.forward(np.clip(np.nan_to_num(y[:, end:], nan=0.5), 0.005, 0.995))
        off = np.where(np.isfinite(y[:, end:]), truth - p.mean, np.nan)
        found.append(np.stack([off, np.hypot(p.sd, errors[:, end:]), np.log(sizes[end:] / last)], -1))
    table = np.concatenate([f.reshape(-1, 3) for f in found])
    return np.asarray(table[np.isfinite(table).all(axis=1)])


def numbers(errors: dict[str, Array], wanted: float) -> dict[str, Any]:
    """One block of reach.json."""

    def from_tasks(tasks: list[str]) -> float:
        error, sd, ahead = np.concatenate([errors[t] for t in tasks]).T
        return round(learned(error, sd, ahead, wanted), 4)

    names = list(errors)
    return {"all": from_tasks(names), "without": {t: from_tasks([u for u in names if u != t]) for t in names}}


def table(tasks: list[Task]) -> Iterator[str]:
    """Coverage and width of every law, by task, sizes and reach."""
    for task in tasks:
        for k in SIZES:
            for reach in REACHES:
                yield f"{task.name} {k} sizes, {reach} x: " + ", ".join(
                    f"{name} {held:.2f} ({width:.2f})"
                    for name in BUILTIN
                    for held, width in [_covered(task, name, k, reach)]
                )


def _covered(task: Task, name: str, k: int, reach: int) -> tuple[float, float]:
    law, held, width = curve_law(name, task=task.name), [], []
    for end in range(k, len(task.sizes)):
        goals: NDArray[np.intp] = np.flatnonzero(np.isclose(task.sizes, task.sizes[end - 1] * reach))
        if not len(goals):
            continue
        y, truth = task.losses[:, end - k : end], task.losses[:, goals[0]]
        p = law(
            task.sizes[end - k : end],
            y,
            task.sizes[goals[0]],
            link=Link.LOG,
            noise_sd=np.zeros(y.shape),
            chance=0.0,
        )
        low, high = (v[:, 0] for v in p.interval(0.9))
        held.append(np.mean((low <= truth) & (truth <= high)))
        width.append(np.mean(np.log(high / low)))
    return float(np.mean(held)), float(np.mean(width))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of loss curves")
    parser.add_argument("--grids", type=Path, required=True, help="folder with grid/ and probes/")
    args = parser.parse_args()
    tasks = read_tasks(args.data)
    builtin = [t.rpartition("/")[2] for t in TASKS]
    measured = [t for t in builtin if (args.grids / "grid" / f"{t}.json").exists()]
    content = {
        "command": "python -m tests.benchmarks.learn_reach --data DIR --grids tests/benchmarks/measured",
        "losses": numbers({t.name: loss_errors(t) for t in tasks}, 0.95),
        "shares": numbers({t: share_errors(args.grids, t) for t in measured}, 0.9),
    }
    text = json.dumps(content, indent=1) + "\n"
    Path(str(resources.files("orrery.laws.priors") / "reach.json")).write_text(text)
    print(text)
    for line in table(tasks):
        print(line)


if __name__ == "__main__":
    main()
