"""Answers to render: a plan of the made-up world driven to its end, the same with hostile texts, and a very large one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.quantities import Interval
from orrery.api.status import PlanStatus
from orrery.planning.types import ProbeRecord, ResultRow
from orrery.report.page import render
from tests.unit.planning.world import World, drive, make_plan, make_prices

TODAY = date(2026, 3, 1)
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&<!--${title}$data" + "x" * 3000


@dataclass(frozen=True)
class Answered:
    plan: AdaptationPlan
    prices: PriceList
    status: PlanStatus
    rows: list[ResultRow]
    records: list[ProbeRecord]

    def page(self, today: date = TODAY) -> str:
        return render(self.plan, self.prices, self.status, self.rows, self.records, today)


def answer(**changes: Any) -> Answered:
    """Two strategies that train and two that do not, on two models."""
    strategies = [
        {"name": "zero-shot", "type": "ZeroShot"},
        {
            "name": "in-context",
            "type": "InContext",
            "grid": [{"name": "shots", "values": ["2", "8"]}, {"name": "retriever", "values": ["bm25"]}],
        },
        {
            "name": "lora",
            "type": "LoRA",
            "grid": [
                {"name": "epochs", "values": ["3"]},
                {"name": "learningRate", "values": ["0.001"]},
                {"name": "rank", "values": ["4", "8"]},
                {"name": "dataPercent", "values": ["25", "100"]},
            ],
        },
    ]
    plan, prices = make_plan(**{"strategies": strategies} | changes), make_prices()
    run = drive(plan, prices, World())
    return Answered(plan, prices, run.last.status, list(run.last.rows), run.records)


def hostile(made: Answered) -> Answered:
    """Every text that someone else may write, written by an enemy; past the API's own patterns, which refuse most of it."""
    metadata = made.plan.metadata.model_copy(update={"name": HOSTILE, "namespace": HOSTILE})
    best = made.status.recommendation
    assert best is not None
    evil = best.model_copy(update={"model": HOSTILE, "strategy": HOSTILE, "message": HOSTILE, "accelerator": HOSTILE})
    rows = [
        replace(r, model=HOSTILE, strategy=HOSTILE, reason=HOSTILE, configuration=((HOSTILE, HOSTILE),), type=HOSTILE)
        for r in made.rows[:5]
    ]
    return replace(
        made,
        plan=made.plan.model_copy(update={"metadata": metadata}),
        prices=made.prices.model_copy(
            update={"spec": made.prices.spec.model_copy(update={"source": HOSTILE, "currency": HOSTILE})}
        ),
        status=made.status.model_copy(update={"recommendation": evil}),
        rows=rows + made.rows[5:],
        records=[
            replace(r, name=f"{HOSTILE}{i}", reason="Failed", message=HOSTILE) for i, r in enumerate(made.records)
        ],
    )


def large(made: Answered, count: int = 10_000) -> Answered:
    """As many candidates as asked: the plan's own, then others with numbers, a configuration and a reason of their own."""
    priced = [r for r in made.rows if r.quality is not None and r.total_cost is not None]
    rows = list(priced)
    for i in range(len(priced), count):
        r = priced[i % len(priced)]
        q, c = r.quality, r.total_cost
        assert q is not None and c is not None
        shrink, dear = 1 - 0.8 * ((i * 7919) % count) / count, 1 + ((i * 104_729) % count) / 100
        rows.append(
            replace(
                r,
                candidate=f"{r.candidate}#{i}",
                configuration=(*r.configuration, ("variant", str(i))),
                quality=Interval(q.median * shrink, q.lower * shrink, q.upper * shrink),
                total_cost=Interval(c.median * dear, c.lower * dear, c.upper * dear),
                status="Rejected",
                measured=False,
                feasible_probability=0.0,
                reason=f"costs {dear:.4f} USD more and is {shrink * 10:.4f} points worse; "
                f"meets 0.8 with {i % 90}%, 90% asked (quality {q.median * shrink:.3f})",
            )
        )
    return replace(made, rows=rows)
