"""What the page's script draws, as one compact JSON value: columns rather than rows, names once, five digits
(seven of money, since rivals often differ by a thousandth)."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import Any

from orrery.api.plan import AdaptationPlan
from orrery.api.quantities import Interval
from orrery.api.status import PlanStatus
from orrery.api.task import Direction
from orrery.planning.types import ResultRow
from orrery.report.break_even import BreakEven, CostLine, label, words
from orrery.report.curves import Curve, Curves


def payload(
    plan: AdaptationPlan,
    currency: str,
    status: PlanStatus,
    rows: Sequence[ResultRow],
    drawn: Curves,
    lines: Sequence[CostLine],
    crossing: BreakEven | None,
    requests: float,
) -> dict[str, Any]:
    """Everything the script needs."""
    objective, metric = plan.spec.objective, plan.spec.task.metric
    return {
        "currency": currency,
        "metric": metric.name.value,
        "bounded": metric.bounded,
        "minimize": metric.sense is Direction.MINIMIZE,
        "threshold": None if objective.min_quality is None else float(objective.min_quality),
        "maxCost": None if objective.max_total_cost is None else float(objective.max_total_cost),
        "requests": requests,
        "rows": columns(rows, {point.candidate for point in status.frontier}),
        "learning": [_curve(curve) for curve in drawn.learning],
        "shots": [_curve(curve) for curve in drawn.shots],
        "costs": [
            {"label": label(line.row), "once": _three(line.once), "each": _three(line.per_request)} for line in lines
        ],
        "breakEven": None if crossing is None else _number(crossing.requests),
    }


def script_json(value: Any) -> str:
    """JSON that may stand in a ``<script>``: no text in it can end the element or begin another."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def columns(rows: Sequence[ResultRow], frontier: set[str]) -> dict[str, Any]:
    """Rows as columns; repeated texts as indices into ``names``."""
    index: dict[str, dict[Hashable, int]] = {}

    def code(kind: str, value: Hashable) -> int:
        known = index.setdefault(kind, {})
        return known.setdefault(value, len(known))

    out: dict[str, Any] = {
        "model": [code("model", r.model) for r in rows],
        "strategy": [code("strategy", r.strategy) for r in rows],
        "accelerator": [code("accelerator", r.accelerator) for r in rows],
        "configuration": [code("configuration", words(r)) for r in rows],
        "status": [code("status", r.status) for r in rows],
        "reason": [code("reason", r.reason) for r in rows],
        "quality": [_three(r.quality) for r in rows],
        "cost": [_three(r.total_cost, 7) for r in rows],
        "once": [_number(r.adaptation_cost.median) if r.adaptation_cost else None for r in rows],
        "latency": [_number(r.latency_milliseconds) for r in rows],
        "flops": [_number(flops(r)) for r in rows],
        "hours": [_number(r.accelerator_hours) for r in rows],
        "pass": [_number(r.cost_of_pass, 7) for r in rows],
        "memory": [_number(r.memory_bytes / 2**30) if r.memory_bytes else None for r in rows],
        "measured": [int(r.measured) for r in rows],
        "meets": [_number(r.feasible_probability, 3) for r in rows],
        "frontier": [i for i, r in enumerate(rows) if r.candidate in frontier],
    }
    out["names"] = {kind: list(known) for kind, known in index.items()}
    return out


def flops(row: ResultRow) -> float:
    """Floating-point operations of adapting and serving."""
    return (row.adaptation_flops or 0.0) + (row.serving_flops or 0.0)


def _curve(curve: Curve) -> dict[str, Any]:
    value = asdict(curve)
    for name in ("x", "median", "lower", "upper"):
        value[name] = [_number(v) for v in value[name]]
    for point in value["points"]:
        point["error"] = _number(point.pop("standard_error"))
    return value


def _three(interval: Interval | None, digits: int = 5) -> list[float | None] | None:
    if interval is None:
        return None
    return [_number(v, digits) for v in (interval.median, interval.lower, interval.upper)]


def _number(value: float | None, digits: int = 5) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
