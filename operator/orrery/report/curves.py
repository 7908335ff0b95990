"""Quality over training examples and over demonstrations: what was measured, and the forecast between and beyond.

The rows of an answer hold the forecast at the grid's values only, which is often one point. Here the same strategies are
asked again, with the same measurements, at every size between, so that the band that is drawn is the one that decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from orrery.api.plan import AdaptationPlan, GridAxis, PlanSpec, StrategySpec
from orrery.planning.candidates import InvalidPlan, expand
from orrery.planning.evidence import Known, gather
from orrery.planning.forecasts import Groups
from orrery.planning.types import Facts, ProbeRecord, ResultRow
from orrery.strategies.trials import direct, parameters_of

#: Pairs of model and strategy that are drawn; a page with a thousand curves shows none.
MOST_PAIRS = 24
_PERCENTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100)
_SHOTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Point:
    """One measured score. ``same``: of the very configuration that the curve is drawn for."""

    x: float
    score: float
    standard_error: float | None
    items: int
    configuration: str
    same: bool


@dataclass(frozen=True)
class Curve:
    """Forecast of one configuration along an axis (lists of one length), and what was measured of its strategy."""

    model: str
    strategy: str
    configuration: str
    x: list[float]
    median: list[float]
    lower: list[float]
    upper: list[float]
    points: list[Point]


@dataclass(frozen=True)
class Curves:
    """All curves of a plan. ``assumed_examples``: no probe has counted the training examples, so the sizes are assumed."""

    learning: list[Curve]
    shots: list[Curve]
    left_out: int
    assumed_examples: bool


def curves(plan: AdaptationPlan, rows: Sequence[ResultRow], records: Sequence[ProbeRecord]) -> Curves:
    """Learning and shots curves of the most promising configuration of each pair of model and strategy."""
    known = gather(plan.spec, records, Facts())
    leaders = _leaders(rows)
    out = Curves([], [], max(0, len(leaders) - MOST_PAIRS), known.task_facts is None)
    for row in leaders[:MOST_PAIRS]:
        names = dict(row.configuration)
        for parameter, kept in (("dataPercent", out.learning), ("shots", out.shots)):
            if parameter in names and (curve := _curve(plan.spec, known, row, parameter)) is not None:
                kept.append(curve)
    return out


def _leaders(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The likeliest candidate of each pair, recommended pairs first."""
    best: dict[tuple[str, str], ResultRow] = {}
    for row in rows:
        if row.quality is None:
            continue
        pair = row.model, row.strategy
        if pair not in best or _merit(row) > _merit(best[pair]):
            best[pair] = row
    return sorted(best.values(), key=_merit, reverse=True)


def _merit(row: ResultRow) -> tuple[bool, bool, float]:
    return row.status == "Recommended", row.measured, row.feasible_probability


def _curve(spec: PlanSpec, known: Known, row: ResultRow, parameter: str) -> Curve | None:
    asked = {name: (value,) for name, value in row.configuration}
    largest = max(int(v) for r in spec.strategies if r.name == row.strategy for v in _values(r, parameter, row))
    along = [n for n in _PERCENTS if n <= 100] if parameter == "dataPercent" else [n for n in _SHOTS if n <= largest]
    along = sorted({*along, int(dict(row.configuration)[parameter])})
    grid = [GridAxis(name=name, values=list(values)) for name, values in asked.items() if name != parameter]
    grid.append(GridAxis(name=parameter, values=[str(n) for n in along]))
    dense = spec.model_copy(
        update={
            "strategies": [StrategySpec(name=row.strategy, type=row.type, grid=grid)],
            "accelerators": spec.accelerators[:1],
            "exclude": [],
        }
    )
    try:
        space = expand(dense)
    except InvalidPlan:
        return None
    g = next((i for i, group in enumerate(space.groups) if group.model.name == row.model), None)
    if g is None or space.groups[g].refusal is not None:
        return None
    posterior = space.groups[g].plugin.forecast(Groups(dense, space, known).build(g)).posterior
    lower, upper = posterior.interval(0.9)
    examples = known.task_facts.train_examples if known.task_facts is not None else 1000
    at = np.array([float(v) for v in space.groups[g].columns[parameter]])
    x = np.maximum(np.floor(at * examples / 100.0), 1.0) if parameter == "dataPercent" else at
    order = np.argsort(x, kind="stable")
    return Curve(
        row.model,
        row.strategy,
        _words((k, v) for k, v in row.configuration if k != parameter),
        x[order].tolist(),
        posterior.median()[order].tolist(),
        lower[order].tolist(),
        upper[order].tolist(),
        _points(known, row, parameter),
    )


def _values(strategy: StrategySpec, parameter: str, row: ResultRow) -> list[str]:
    axis = next((a for a in strategy.grid if a.name == parameter), None)
    return axis.values if axis is not None else [dict(row.configuration)[parameter]]


def _points(known: Known, row: ResultRow, parameter: str) -> list[Point]:
    """Every direct measurement of the row's strategy on its model, and zero-shot as no demonstrations."""
    mine = {k: v for k, v in row.configuration if k != parameter and k != "dataPercent"}
    found = []
    types = [row.type] if parameter == "dataPercent" else [row.type, "ZeroShot"]
    for kind in types:
        for e in direct(known.evidence.get(row.model, ()), kind):
            values = parameters_of(e.trial)
            if kind == "ZeroShot":
                x, same = 0.0, values.get("calibration", "none") == mine.get("calibration", "none")
            elif parameter == "dataPercent":
                x, same = float(e.trial.fidelity.training_examples), mine.items() <= values.items()
            else:
                x, same = float(values.get(parameter, 0)), mine.items() <= values.items()
            if e.result.score is None or (parameter == "dataPercent" and x <= 0):
                continue
            error = e.result.standard_error
            words = _words((k, v) for k, v in values.items() if k != parameter)
            found.append(
                Point(x, float(e.result.score), None if error is None else float(error), e.result.items, words, same)
            )
    return sorted(found, key=lambda p: (p.x, p.configuration))


def _words(pairs: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pairs)
