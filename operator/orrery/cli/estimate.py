"""``orrery estimate``: what a plan would do and cost, on paper. Probes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType

from orrery.api.quantities import Interval, format_decimal
from orrery.cli.failures import Exit
from orrery.cli.options import Output
from orrery.cli.prices import notes as price_notes
from orrery.cli.reading import known, read_question
from orrery.cli.screen import (
    WORK,
    configuration,
    console,
    cost,
    exhaustive,
    facts,
    listing,
    quality,
    section,
    work_cells,
    write,
)
from orrery.local.publish import ordered, row_line
from orrery.planning.advance import advance
from orrery.planning.reasons import amount
from orrery.planning.types import ResultRow, Step


def estimate(
    files: Sequence[Path], prices: Sequence[Path], claims: Sequence[str], maps: Sequence[str], output: Output, top: int
) -> Exit:
    """The command: one step of the planner on no measurements."""
    question = read_question(files, prices, claims, maps)
    notes: list[str] = []
    step = advance(question.plan, [], question.prices, known(question, notes.append))
    for note in price_notes(question.plan, question.prices, question.budgets):
        console(stderr=True).print(f"note: {note}", markup=False, soft_wrap=True)
    for note in notes:
        console(stderr=True).print(f"note: the data was not read: {note}", markup=False, soft_wrap=True)
    if any(c.type == "Stalled" and c.status == "True" for c in step.status.conditions):
        console(stderr=True).print(f"error: {step.message}", markup=False, soft_wrap=True)
        return Exit.BAD_INPUT
    write(_document(step, question.prices.spec.currency), output, _table(step, question.plan.metadata.name, top))
    return Exit.NEGATIVE if step.reason == "Infeasible" else Exit.OK


def _document(step: Step, currency: str) -> dict[str, Any]:
    import json

    spend = step.status.spend
    return {
        "currency": currency,
        "reason": step.reason,
        "message": step.message,
        "exhaustiveCost": format_decimal(spend.exhaustive_cost) if spend and spend.exhaustive_cost else None,
        "exhaustiveAcceleratorSeconds": _number(spend.exhaustive_accelerator_seconds) if spend else None,
        "exhaustiveFlops": _number(spend.exhaustive_flops) if spend else None,
        "firstProbes": [
            {
                "name": request.name,
                "model": request.spec.model.name,
                "trials": [trial.to_wire() for trial in request.spec.trials],
                "expectedCost": format_decimal(request.expected_cost),
                "reservedCost": format_decimal(request.reservation),
                "reason": request.reason,
            }
            for request in step.start
        ],
        "candidates": [json.loads(row_line(row)) for row in step.rows],
    }


def _table(step: Step, name: str, top: int) -> Group:
    spend = step.status.spend
    currency = spend.currency if spend else ""
    pairs = len({(row.model, row.strategy) for row in step.rows})
    gated = [row for row in step.rows if row.feasible_probability == 0]
    lines = [
        ("candidates", f"{len(step.rows):,} of {pairs} pairs of model and strategy; {len(gated):,} rejected on paper"),
        (
            "first probes",
            f"{len(step.start)}, expected {_sum(step, 'expected_cost')} {currency}, "
            f"reserved {_sum(step, 'reservation')} {currency}",
        ),
        ("next", step.message),
    ]
    if spend and spend.exhaustive_cost:
        lines.insert(1, ("exhaustive search", f"{exhaustive(spend)} to measure each in full"))
    parts: list[RenderableType] = [f"[bold]{name}[/bold]  estimate, nothing measured", facts(lines)]
    if step.start:
        money = [f"expected {currency}", f"reserved {currency}"]
        probes = listing(
            ["model", *money, "trials", "probe"],
            [
                (
                    [
                        request.spec.model.name,
                        amount(float(request.expected_cost)),
                        amount(float(request.reservation)),
                        ", ".join(_trials(request.spec.trials)),
                        request.name,
                    ],
                    request.reason,
                )
                for request in step.start
            ],
            right=money,
        )
        parts.append(section("would be probed first", probes))
    rows = ordered(step.rows)
    shown = [replace(row, status="open" if row.feasible_probability else "rejected") for row in rows[: top or None]]
    parts.append(
        section(f"candidates before any measurement, {len(shown)} of {len(rows)}", candidates(shown, currency))
    )
    return Group(*parts)


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _trials(trials: Any) -> list[str]:
    counted = Counter(trial.strategy for trial in trials)
    return [f"{count} {strategy}" for strategy, count in sorted(counted.items())]


def _sum(step: Step, field: str) -> str:
    return amount(float(sum(getattr(request, field) for request in step.start)))


def candidates(rows: list[ResultRow], currency: str) -> Any:
    """Candidates with their forecasts and the reason of each."""

    def shown(interval: Interval | None) -> str:
        return quality(interval.median, interval.lower, interval.upper) if interval else "-"

    money = f"cost {currency}"
    entries = []
    for row in rows:
        name = f"{row.model} / {row.strategy}"
        cells = [name, shown(row.quality), cost(row.total_cost)]
        cells += work_cells(row.accelerator_hours, row.adaptation_flops, row.serving_flops)
        entries.append(([*cells, row.status.lower(), configuration(row.configuration)], row.reason))
    columns = ["model / strategy", "quality", money, *WORK, "status", "configuration"]
    return listing(columns, entries, right=[money, *WORK])
