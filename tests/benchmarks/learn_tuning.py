"""Write the shipped prior of fine-tuned shares, learned from the full grids and the probes that were remembered beside them.

    python -m tests.benchmarks.learn_tuning --data tests/benchmarks/measured

Empirical Bayes: the numbers of ``TuningPrior`` that trainings can tell maximise the marginal likelihood of what was measured
of every (task, model), given its zero-shot score, and a normal prior around the assumed numbers. Two models of a task count half
with and half without the other's proxy, so that the numbers also serve plans where no other model was measured.

The law's unknowns are integrated over one set of quasi-random draws from a wide distribution, reweighted for each prior: the
costly curves are computed once, and the objective is smooth. How far tasks differ (``law_sd``) is not learned: six tasks do not
prove that a seventh is like them (freeing it gives the same likelihood of held-out tasks, and leaves intents, the one task that is
learned, sixteen points off when it is left out).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, ndtri
from scipy.stats import qmc

from orrery.api.models import Architecture
from orrery.api.probe import Method, Trial, TrialResult
from orrery.laws import priors, rectified
from orrery.laws.posterior import Array, Link
from orrery.laws.tuning_prior import ASSUMED, TuningPrior
from orrery.planning.candidates import expand
from orrery.planning.evidence import gather
from orrery.planning.forecasts import Groups
from orrery.planning.types import Facts
from orrery.strategies.fine_tuning import FineTuning, points_of
from orrery.strategies.registry import get, installed
from orrery.strategies.trials import identity, observed, parameters_of
from orrery.strategies.tuning_curves import (
    Draws,
    Points,
    effect_covariance,
    law_scores,
    learning_draws,
    offsets,
    seed_sd,
)
from tests.benchmarks.grids import plan
from tests.benchmarks.predictors import Case, cases

_DRAWS = 4096
#: What the draws come from: (start, logit floor, ln D0, ln beta) and ln need.
_MEAN, _SD = np.array([0.3, -1.8, 5.5, 0.0, 1.0]), np.array([1.8, 1.8, 2.4, 0.6, 1.8])

#: What is learned: field and place in it; sd of the normal around the assumed number, of its ln for standard deviations.
_FREE: dict[tuple[str, int | None], float] = {
    ("law_mean", 1): 1.0,
    ("law_mean", 2): 1.0,
    ("law_mean", 3): 0.3,
    ("need_mean", None): 1.0,
    ("need_sd", None): 0.4,
    ("effect_sd", None): 0.5,
    ("kind_sd", None): 0.5,
    ("own_sd", None): 0.5,
    ("quantized_mean", None): 0.1,
    ("full_mean", None): 0.1,
    ("proxy_mean", None): 0.3,
    ("proxy_sd", None): 0.5,
    ("peer_sd", None): 0.5,
}


@dataclass(frozen=True)
class Measured:
    """One model on one task: m trainings and proxies, the last of them another model's proxy."""

    task: str
    points: Points
    values: Array  #: (m,) link scale
    noise: Array  #: (m,) variance of sampling, and of the seed where something was trained
    zero_shot: tuple[float, float]
    chance: float
    theta: Array  #: (k, 5) draws
    log_weight: Array  #: (k,) of zero-shot, less the density the draws come from
    law: Array  #: (k, m)


def read(data: Path) -> list[Measured]:
    """Every model of every measured task."""
    found = [(case, *_scores(case)) for case in cases(data)]
    out = []
    for case, asked, values, zero_shot in found:
        peers = [(a, v) for c, a, v, _ in found if c.task == case.task and c.model != case.model]
        proxy = next(((x, y) for a, v in peers for x, y in zip(a, v, strict=True) if x[0] is None), None)
        if proxy is not None:
            out.append(_measured(case, [*asked, proxy[0]], [*values, proxy[1]], zero_shot))
    return out


Asked = tuple[FineTuning | None, dict[str, str], float]


def _scores(case: Case) -> tuple[list[Asked], list[tuple[float, float]], tuple[float, float]]:
    """What was trained (None: the proxy, once), its scores, and the zero-shot score."""
    asked: dict[Any, Asked] = {}
    values: dict[Any, tuple[float, float]] = {}
    zero_shot = None
    for row in case.rows:
        trial, result = Trial.model_validate(row["trial"]), TrialResult.model_validate(row["result"])
        score = observed(result, Link.LOGIT)
        strategy = get(trial.strategy) if trial.strategy in installed() else None
        if score is None:
            continue
        if trial.strategy == "ZeroShot":
            zero_shot = score
        elif isinstance(strategy, FineTuning):
            head = trial.fidelity.method is Method.PROXY
            key = "proxy" if head else identity(trial)
            size = float(trial.fidelity.training_examples)
            asked.setdefault(key, (None if head else strategy, parameters_of(trial), size))
            values.setdefault(key, score)
    assert zero_shot is not None
    return list(asked.values()), list(values.values()), zero_shot


def _measured(
    case: Case, asked: Sequence[Asked], scores: Sequence[tuple[float, float]], zero_shot: tuple[float, float]
) -> Measured:
    spec = plan(case.task).spec
    space, known = expand(spec), gather(spec, [], Facts())
    known.task_facts = case.facts
    group = next(g for g in space.groups if g.model.name == case.model)
    chance = Groups(spec, space, known).chance
    head = group.model.architecture is Architecture.ENCODER
    points = points_of(asked)
    unit = ndtri(np.clip(qmc.Sobol(5, seed=0).random(_DRAWS), 1e-6, 1 - 1e-6))
    theta = _MEAN + _SD * unit
    _, limit, again, width, share = learning_draws(head, _DRAWS, 1)
    start = np.full(_DRAWS, zero_shot[0])
    draws = Draws(theta[:, :4], start, theta[:, 4], limit, again, width, share, np.zeros(_DRAWS), np.ones(_DRAWS))
    untuned = rectified.curve(theta[:, :4], np.array([0.0]), Link.LOGIT, chance)[:, 0]
    loose = rectified.ERROR_PRIOR
    off = zero_shot[0] + loose.zero_shot_gap - untuned
    log_weight = -0.5 * off**2 / (loose.zero_shot_sd**2 + zero_shot[1] ** 2) + 0.5 * (unit**2).sum(1)
    values, error = np.array([v for v, _ in scores]), np.array([sd for _, sd in scores])
    noise = error**2 + seed_sd(points) ** 2
    noise[-1] = error[-1] ** 2
    law = law_scores(draws, points, Link.LOGIT, chance)
    name = case.task.removeprefix("bigbench/")
    return Measured(name, points, values, noise, zero_shot, chance, theta, log_weight, law)


def log_likelihood(of: Measured, prior: TuningPrior, *, peer: bool) -> float:
    """ln p(own measurements | zero-shot and, with ``peer``, the other model's proxy), up to a constant."""
    m = len(of.values) - (not peer)
    points, noise = of.points.take(np.arange(m)), of.noise[:m].copy()
    if peer:
        noise[-1] += prior.peer_sd**2
    mean, sd = np.array([*prior.law_mean, prior.need_mean]), np.array([*prior.law_sd, prior.need_sd])
    log_prior = of.log_weight - 0.5 * (((of.theta - mean) / sd) ** 2).sum(1) - np.log(sd).sum()
    gram = effect_covariance(prior, points, points) + np.diag(noise)
    off = of.values[None, :m] - of.law[:, :m] - offsets(prior)[points.kind]
    root = np.linalg.cholesky(gram)
    misfit = (np.linalg.solve(root, off.T) ** 2).sum(0)
    both = float(logsumexp(log_prior - 0.5 * misfit)) - float(np.log(np.diag(root)).sum())
    if not peer:
        return both - float(logsumexp(log_prior))
    alone = log_prior - 0.5 * off[:, -1] ** 2 / gram[-1, -1]
    return both - float(logsumexp(alone)) + 0.5 * float(np.log(gram[-1, -1]))


def learn(measured: Sequence[Measured]) -> TuningPrior:
    """The prior that makes what was measured likeliest."""
    step = np.array(list(_FREE.values()))

    def loss(u: Array) -> float:
        prior = _at(step * u)
        told = sum(0.5 * log_likelihood(m, prior, peer=p) for m in measured for p in (False, True))
        return float(0.5 * (u**2).sum() - told)

    found = minimize(
        loss, np.zeros(len(step)), method="L-BFGS-B", bounds=[(-3, 3)] * len(step), options={"maxiter": 25}
    )
    return _at(step * found.x)


def _at(change: Array) -> TuningPrior:
    fields: dict[str, Any] = {}
    for (name, place), by in zip(_FREE, change.tolist(), strict=True):
        if place is not None:
            values = list(fields.get(name, getattr(ASSUMED, name)))
            values[place] += by
            fields[name] = tuple(values)
        elif name.endswith("_sd"):
            fields[name] = float(getattr(ASSUMED, name) * np.exp(by))
        else:
            fields[name] = getattr(ASSUMED, name) + by
    return replace(ASSUMED, **fields)


def content(data: Path) -> dict[str, Any]:
    """Content of tuning.json, with the likelihood that left-out tasks have under the assumed and the learned numbers."""
    measured = read(data)
    tasks = sorted({m.task for m in measured})
    without = {t: learn([m for m in measured if m.task != t]) for t in tasks}

    def held_out(prior: Iterable[TuningPrior], *, peer: bool) -> float:
        return round(sum(log_likelihood(m, p, peer=peer) for m, p in zip(measured, prior, strict=True)), 1)

    return {
        "command": "python -m tests.benchmarks.learn_tuning --data tests/benchmarks/measured",
        "source": "python -m tests.benchmarks.exhaustive: smollm2-135m-instruct, all-minilm-l6-v2",
        "held_out_log_likelihood": {
            name: {"assumed": held_out([ASSUMED] * len(measured), peer=peer), "learned": held_out(learned, peer=peer)}
            for learned in [[without[m.task] for m in measured]]
            for name, peer in (("alone", False), ("with the other model's proxy", True))
        },
        "tasks": tasks,
        "all": _numbers(learn(measured)),
        "without": {t: _numbers(p) for t, p in without.items()},
    }


def _numbers(prior: TuningPrior) -> dict[str, Any]:
    return {
        k: [round(x, 4) for x in v] if isinstance(v, tuple) else round(float(v), 4) for k, v in asdict(prior).items()
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with grid/ and probes/")
    target = Path(priors.__path__[0]) / "tuning.json"
    target.write_text(json.dumps(content(parser.parse_args().data), indent=1) + "\n")
    print(f"wrote {target.name}")


if __name__ == "__main__":
    main()
