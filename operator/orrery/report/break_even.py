"""From how many requests on the dearer adaptation pays for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.api.plan import Goal
from orrery.api.quantities import Interval
from orrery.laws.posterior import Z90
from orrery.planning.reasons import amount
from orrery.planning.types import ResultRow

_DRAWS = 4_000
#: Longest name that is shown whole in a sentence.
_LONG = 120
_RANK = {"Recommended": 0, "Alternative": 1}


@dataclass(frozen=True)
class CostLine:
    """Money of one candidate as a line: paid once, and paid a request, each with its 90 percent interval."""

    row: ResultRow
    once: Interval
    per_request: Interval


@dataclass(frozen=True)
class BreakEven:
    """Where the lines of two candidates cross.

    ``requests`` is None when they never do: the one that is cheaper at the start stays so. ``share`` of the draws from both
    forecasts cross at all; ``lower`` and ``upper`` hold 90 percent of those that do.
    """

    early: CostLine  #: cheaper at the first request
    late: CostLine  #: cheaper after ``requests``
    requests: float | None
    lower: float | None
    upper: float | None
    share: float


def cost_lines(rows: Iterable[ResultRow], goal: Goal, requests: float) -> list[CostLine]:
    """The best candidate of each type of strategy, best first; none where nothing is served or nothing has a price."""
    best: dict[str, ResultRow] = {}
    for row in sorted(rows, key=lambda r: _order(r, goal)):
        if row.adaptation_cost is not None and row.serving_cost is not None and row.quality is not None:
            best.setdefault(row.type, row)
    if requests <= 0:
        return []
    return [CostLine(r, r.adaptation_cost, _per(r.serving_cost, requests)) for r in best.values()]  # type: ignore[arg-type]


def compare(lines: list[CostLine]) -> BreakEven | None:
    """The best candidate that trains weights against the best that does not; None unless both kinds are there."""
    trained = next((line for line in lines if line.row.adaptation_flops), None)
    untrained = next((line for line in lines if not line.row.adaptation_flops), None)
    return None if trained is None or untrained is None else break_even(trained, untrained)


def break_even(a: CostLine, b: CostLine) -> BreakEven:
    """Where ``a`` and ``b`` cost the same: ``(once_b - once_a) / (per_request_a - per_request_b)``.

    Money is log-normal, as the forecasts are. Speeds of the same model on the same accelerator are drawn as one, since it is
    the same number that is not known; everything else apart.
    """
    early, late = (a, b) if (a.once.median, a.per_request.median) <= (b.once.median, b.per_request.median) else (b, a)
    draws = np.random.default_rng(0).standard_normal((4, _DRAWS))
    together = (early.row.model, early.row.accelerator) == (late.row.model, late.row.accelerator)
    first = _draw(early.once, draws[0]), _draw(early.per_request, draws[1])
    second = _draw(late.once, draws[2]), _draw(late.per_request, draws[1] if together else draws[3])
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (second[0] - first[0]) / (first[1] - second[1])
    crossing = at[np.isfinite(at) & (at > 0)]
    gap, slope = late.once.median - early.once.median, early.per_request.median - late.per_request.median
    requests = gap / slope if slope > 1e-9 * early.per_request.median and gap > 0 else None
    if not len(crossing) or requests is None:
        return BreakEven(early, late, requests, None, None, len(crossing) / _DRAWS)
    lower, upper = np.quantile(crossing, [0.05, 0.95])
    return BreakEven(early, late, requests, float(lower), float(upper), len(crossing) / _DRAWS)


def as_document(found: BreakEven) -> dict[str, Any]:
    """For programs; requests are those from which on ``late`` is the cheaper one."""
    return {
        "early": found.early.row.candidate,
        "late": found.late.row.candidate,
        "requests": found.requests,
        "lower": found.lower,
        "upper": found.upper,
        "share": found.share,
    }


def sentences(
    found: BreakEven,
    requests: float,
    currency: str,
    plain: Callable[[str], str] = str,
    strong: Callable[[str], str] = str,
) -> str:
    """From how many requests on the better candidate of one kind is cheaper than that of the other.

    ``plain`` and ``strong`` make what is written fit for where it is shown.
    """
    early, late = found.early, found.late
    names = strong(plain(_cut(label(early.row)))), strong(plain(_cut(label(late.row))))
    if found.requests is None:
        more = amount(max(late.once.median - early.once.median, 0.0))
        text = (
            f"{names[0]} stays cheaper than {names[1]} however many requests come: it costs {more} {plain(currency)} less "
            "at the start and no more a request."
        )
        if found.share > 0.05:
            text += f" Within the uncertainty they cross in {found.share:.0%} of the draws."
    else:
        inside = "within" if found.requests <= requests else "beyond"
        width = (
            f" (90 %: {_count(found.lower)} to {_count(found.upper)})"
            if found.lower is not None and found.upper is not None
            else ""
        )
        text = (
            f"From {strong(f'{_count(found.requests)} requests')}{width} on, {names[1]} is cheaper than {names[0]}; "
            f"that is {inside} the {_count(requests)} requests of the plan."
        )
        if found.share < 0.95:
            text += f" In {1 - found.share:.0%} of the draws they never cross."
    for line in (early, late):
        if line.row.status == "Rejected":
            text += f" {plain(_cut(label(line.row)))} does not meet the objective: {plain(line.row.reason)}."
    return text


def _cut(text: str) -> str:
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def words(row: ResultRow) -> str:
    """A configuration for a person."""
    return ", ".join(f"{name} {value}" for name, value in row.configuration)


def label(row: ResultRow) -> str:
    """A candidate in a few words."""
    return f"{row.model} / {row.strategy}" + (f" ({words(row)})" if row.configuration else "")


def _order(row: ResultRow, goal: Goal) -> tuple[float, ...]:
    """As a person would choose: what meets the objective first, then by what the plan wants, then by money."""
    rank = _RANK.get(row.status, 2)
    money = row.total_cost.median if row.total_cost else float("inf")
    meets = -round(row.feasible_probability, 3) if rank == 2 or goal is Goal.MAXIMIZE_QUALITY else 0.0
    return rank, meets, money


def _per(interval: Interval, requests: float) -> Interval:
    return Interval(interval.median / requests, interval.lower / requests, interval.upper / requests)


def _draw(interval: Interval, normal: NDArray[np.float64]) -> NDArray[np.float64]:
    if interval.median <= 0 or interval.lower <= 0:
        return np.full_like(normal, max(interval.median, 0.0))
    sd = np.log(interval.upper / interval.lower) / (2 * Z90)
    return np.asarray(interval.median * np.exp(sd * normal), dtype=np.float64)
