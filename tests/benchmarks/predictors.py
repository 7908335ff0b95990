"""Predictors on measured grids: forecast the full trainings from zero-shot, the proxy and what trained on less.

    python -m tests.benchmarks.predictors --data tests/benchmarks/measured --json OUT

Every builtin task whose exhaustive grid is in DIR, and each model of it, is a case. Known
are zero-shot, the proxies, and every training on at most ``SHARES`` of the data; forecast is every training on all of it. Nothing
is run. Per predictor (``probing.predictor``; ``EnsembleWithoutProxy`` does not see the proxies): mean |error| in points, share inside the 90 % interval (widened by the truth's own
sampling error), and rank correlation over a case's configurations.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from scipy.stats import pearsonr, spearmanr

from orrery.api.probe import Fidelity, Method, Outcome, TaskFacts, Trial, TrialResult
from orrery.planning.candidates import PREDICTORS, expand
from orrery.planning.evidence import gather
from orrery.planning.forecasts import Groups
from orrery.planning.types import Facts
from orrery.strategies.base import Evidence
from tests.benchmarks import harness
from tests.benchmarks.grids import TASKS, plan

NAMES = (PREDICTORS[0], "EnsembleWithoutProxy", *PREDICTORS[1:])
SHARES = (0.05, 0.3)  #: of the training examples that may have been trained on


@dataclass(frozen=True)
class Case:
    """One model on one task."""

    task: str
    model: str
    rows: list[dict[str, Any]]
    facts: TaskFacts
    kernel: list[str]  #: of the model on the task, as ``tests.benchmarks.kernels`` keeps it; may be empty


def cases(data: Path) -> Iterator[Case]:
    """Every model of every task that was measured in full."""
    kept = data / "kernels.json"
    kernels = json.loads(kept.read_text()) if kept.exists() else {}
    for task in TASKS:
        name = f"{task.rpartition('/')[2]}.json"
        if not (data / "grid" / name).exists():
            continue
        grid = json.loads((data / "grid" / name).read_text())
        probes = data / "probes" / name
        more = json.loads(probes.read_text())["rows"] if probes.exists() else {}
        rows = [*grid["rows"].values(), *more.values()]
        for model in sorted({r["model"] for r in rows}):
            yield Case(
                task,
                model,
                [r for r in rows if r["model"] == model],
                TaskFacts.model_validate(grid["task_facts"]),
                kernels.get(task, {}).get(model, {}).get("kernel", []),
            )


def score(
    case: Case, predictor: str, share: float, tell: list[tuple[str, float, float]] | None = None
) -> dict[str, Any] | None:
    """One predictor's figures on one case; None when nothing is left to forecast.

    ``tell`` receives (trial, what the forecast was off by on the link scale, score) of every whole training.
    """
    blind = predictor == "EnsembleWithoutProxy"
    spec = plan(case.task, probing={"evaluationItems": 200, "predictor": PREDICTORS[0] if blind else predictor}).spec
    space, known = expand(spec), gather(spec, [], Facts())
    known.task_facts = case.facts
    most = share * case.facts.train_examples
    truth: dict[str, TrialResult] = {}
    for row in case.rows:
        trial, result = Trial.model_validate(row["trial"]), TrialResult.model_validate(row["result"])
        n = trial.fidelity.training_examples
        if blind and trial.fidelity.method is Method.PROXY:
            continue
        trained = trial.strategy not in ("ZeroShot", "InContext") and trial.fidelity.method is Method.DIRECT
        if not trained or n <= most:
            known.evidence.setdefault(case.model, []).append(Evidence(trial, result, "cpu"))
        elif n == case.facts.train_examples and result.score is not None:
            truth[trial.name] = result
    if case.kernel:
        fidelity = Fidelity(method=Method.KERNEL, training_examples=32, evaluation_items=1)
        asked = Trial(name="kernel", strategy="LoRA", fidelity=fidelity)
        modes = TrialResult(name="kernel", outcome=Outcome.MEASURED, kernel=[Decimal(v) for v in case.kernel])
        known.evidence[case.model].append(Evidence(asked, modes, "cpu"))
    errors, inside, told, was = [], [], [], []
    groups = Groups(spec, space, known)
    names = {r["candidate"]: r["trial"]["name"] for r in case.rows if "candidate" in r}
    for g, group in enumerate(space.groups):
        if group.model.name != case.model or group.plugin.training is None or group.refusal is not None:
            continue
        post = group.plugin.forecast(groups.build(g)).posterior
        for i in range(group.size):
            found = truth.get(names.get(space.label(group.first + i), ""))
            if found is None or found.score is None:
                continue
            real, guess = float(found.score), float(post.median()[i])
            sampling = 1 / max(found.items * guess * (1 - guess), 0.5)
            z = (float(post.link.forward(np.clip(real, 0.5 / found.items, 1 - 0.5 / found.items))) - post.mean[i]) / (
                post.sd[i] ** 2 + sampling
            ) ** 0.5
            errors.append(100 * abs(real - guess))
            inside.append(abs(z) <= 1.645)
            told.append(guess)
            was.append(real)
            if tell is not None:
                tell.append((found.name, z * (post.sd[i] ** 2 + sampling) ** 0.5, real))
    if len(errors) < 2:
        return None
    order = float(spearmanr(told, was).statistic) if len(set(told)) > 1 else 0.0
    return {
        "task": case.task.rpartition("/")[2],
        "model": case.model,
        "share": share,
        "predictor": predictor,
        "mae": fmean(errors),
        "coverage90": fmean(inside),
        "spearman": order if np.isfinite(order) else 0.0,
        "n": len(errors),
    }


def _configuration(trial: Trial) -> tuple[str, str]:
    return trial.strategy, ",".join(sorted(f"{p.name}={p.value}" for p in trial.parameters))


def _losses_on_little(case: Case) -> dict[tuple[str, str], float]:
    """ln train loss at the end of the trainings on at most the larger of ``SHARES``, by configuration."""
    losses = {}
    for row in case.rows:
        trial, result = Trial.model_validate(row["trial"]), TrialResult.model_validate(row["result"])
        little = 0 < trial.fidelity.training_examples <= SHARES[-1] * case.facts.train_examples
        if little and trial.fidelity.method is Method.DIRECT and result.train_loss:
            last = [float(v) for v in result.train_loss][-len(result.train_loss) // 4 :]
            losses[_configuration(trial)] = float(np.log(max(fmean(last), 1e-6)))
    return losses


def train_loss(data: Path) -> dict[str, float]:
    """What the train loss of cheap trainings adds to the ensemble."""
    pooled = []
    for case in cases(data):
        told: list[tuple[str, float, float]] = []
        score(case, PREDICTORS[0], SHARES[-1], told)
        losses = _losses_on_little(case)
        whole = {r["trial"]["name"]: _configuration(Trial.model_validate(r["trial"])) for r in case.rows}
        found = [(losses[whole[name]], *rest) for name, *rest in told if whole[name] in losses]
        if len(found) >= 3:
            pooled.append(np.array(found) - np.mean(found, axis=0))
    table = np.concatenate(pooled)
    loss, off, final = table.T
    return {
        "train_loss.with_residual": float(pearsonr(loss, off).statistic),
        "train_loss.with_score": float(pearsonr(loss, final).statistic),
        "train_loss.n": float(len(table)),
    }


def measure(data: Path) -> harness.Outcome:
    """All cases and predictors."""
    rows = [
        row
        for case in cases(data)
        for share in SHARES
        for predictor in NAMES
        if (row := score(case, predictor, share)) is not None
    ]
    summary: dict[str, float] = {}
    table = []
    for predictor in NAMES:
        for share in SHARES:
            mine = [r for r in rows if r["predictor"] == predictor and r["share"] == share]
            if not mine:
                continue
            means = {k: fmean(r[k] for r in mine) for k in ("mae", "coverage90", "spearman")}
            table.append({"predictor": predictor, "share": share, **means, "cases": len(mine)})
            summary |= {f"{predictor}.{share:g}.{k}": v for k, v in means.items()}
    return harness.Outcome(rows, summary | train_loss(data), [("predictors", table)])


def main() -> None:
    """See the module's docstring."""
    args = harness.arguments(__doc__, data="folder with grid/ and probes/, such as tests/benchmarks/measured")
    harness.run("predictors", args, lambda: measure(args.data))


if __name__ == "__main__":
    main()
