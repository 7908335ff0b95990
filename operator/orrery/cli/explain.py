"""``orrery explain``: the reasons behind an answer, from the state folder or the cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.quantities import format_decimal
from orrery.api.status import PlanStatus
from orrery.cli import fleet
from orrery.cli.answers import of_cluster, of_state
from orrery.cli.estimate import candidates
from orrery.cli.failures import Exit
from orrery.cli.options import Output
from orrery.cli.screen import (
    answer,
    configuration,
    console,
    cost,
    facts,
    figure,
    listing,
    operations,
    quality,
    section,
    write,
)
from orrery.costs.forecast import requests_over_horizon
from orrery.local.publish import ordered, row_line
from orrery.planning.fleet import fleet_of_answer
from orrery.planning.reasons import amount, chance
from orrery.planning.types import ProbeRecord, ResultRow
from orrery.report.break_even import as_document, compare, cost_lines, sentences


def explain(where: Path, candidate: str | None, state: Path | None, output: Output) -> Exit:
    """The command: what the state folder says of the answer, or of one candidate."""
    return show(*of_state(where, state), candidate, output)


def show(
    plan: AdaptationPlan,
    prices: PriceList,
    status: PlanStatus,
    rows: list[ResultRow],
    records: list[ProbeRecord],
    candidate: str | None,
    output: Output,
) -> Exit:
    """The answer with all it rests on, or the candidates that ``candidate`` names."""
    currency = status.spend.currency if status.spend else ""
    if candidate is None:
        document = plan.model_copy(update={"status": status}).to_wire()
        document["measurements"] = [m for record in records for m in _measurements(record)]
        budget = f"{amount(float(plan.spec.budget.max_probe_cost))} {currency}"
        message = next((c.message for c in status.conditions if c.type in ("Ready", "Reconciling")), "")
        parts: list[RenderableType] = [
            answer(
                f"{plan.metadata.namespace}/{plan.metadata.name}",
                status,
                plan.spec.workload.horizon_days,
                budget,
                message,
            ),
            section("probes", _probes(records, currency)),
            section("measured", _measured(records)),
            section(f"all {len(rows)} candidates", candidates(ordered(rows), currency)),
        ]
        requests = requests_over_horizon(plan.spec.workload)
        if (crossing := compare(cost_lines(rows, plan.spec.objective.goal, requests))) is not None:
            document["breakEven"] = as_document(crossing)
            parts.append(section("break-even", Text(sentences(crossing, requests, currency))))
        if (mix := fleet_of_answer(plan, prices, records)) is not None:
            document["fleet"] = fleet.as_document(mix, plan, currency)
            parts.append(section("cheapest mix of accelerators", fleet.as_table(mix, plan, currency)))
        write(document, output, Group(*parts))
        return Exit.OK
    found = match(rows, candidate)
    if not found:
        console(stderr=True).print(
            f"error: '{candidate}' matches no candidate: write one of\n  "
            + "\n  ".join(r.candidate for r in ordered(rows)[:20]),
            markup=False,
        )
        return Exit.BAD_INPUT
    near = [r for r in records if r.spec.model.name in {row.model for row in found}]
    measurements = [m for record in near for m in _measurements(record)]
    if len(found) > 1:
        documents = [json.loads(row_line(row)) for row in ordered(found)]
        parts = [
            section(f"{len(found)} candidates of {len(rows)}", candidates(ordered(found), currency)),
            section("measured on their models", _measured(near)),
        ]
        write({"candidates": documents, "measurements": measurements}, output, Group(*parts))
    else:
        write(
            {"candidate": json.loads(row_line(found[0])), "measurements": measurements},
            output,
            _one(found[0], near, currency),
        )
    return Exit.OK


def match(rows: list[ResultRow], words: str) -> list[ResultRow]:
    """The candidates that the words name: by the whole name, else by its parts, else by anything in it."""
    asked = words.lower().split()
    ways: tuple[Callable[[str], bool], ...] = (
        lambda name: name == words.lower(),
        lambda name: set(asked) <= set(re.split(r"[/(),@]", name)),
        lambda name: all(word in name for word in asked),
    )
    for fits in ways:
        if found := [row for row in rows if fits(row.candidate.lower())]:
            return found
    return []


def _one(row: ResultRow, records: list[ProbeRecord], currency: str) -> Group:
    q = row.quality
    basis = "measured in full" if row.measured else "forecast, 90 % interval"
    lines = [
        ("status", row.status),
        ("why", row.reason),
        ("configuration", configuration(row.configuration)),
        ("quality", f"{quality(q.median, q.lower, q.upper)}, {basis}" if q else "not forecast"),
        ("meets objective", f"with {chance(row.feasible_probability)}"),
        ("adaptation", f"{cost(row.adaptation_cost)} {currency}, {operations(row.adaptation_flops)}"),
        ("serving", f"{cost(row.serving_cost)} {currency}, {operations(row.serving_flops)}"),
        ("total", f"{cost(row.total_cost)} {currency}"),
    ]
    if row.accelerator_hours is not None:
        lines.append(("accelerator time", f"{figure(row.accelerator_hours)} hours over the horizon"))
    if row.cost_of_pass is not None:
        lines.append(("cost of pass", f"{figure(row.cost_of_pass)} {currency} per right answer"))
    if row.latency_milliseconds is not None:
        lines.append(("latency", f"{figure(row.latency_milliseconds)} ms a request"))
    if row.memory_bytes:
        lines.append(("memory", f"{row.memory_bytes / 2**30:.2f} GiB"))
    title = f"measured on {row.model}, which its forecast rests on"
    return Group(f"[bold]{row.candidate}[/bold]", facts(lines), section(title, _measured(records)))


def _probes(records: list[ProbeRecord], currency: str) -> RenderableType:
    entries = []
    for record in records:
        state = "reused" if record.reused else record.state.value.lower()
        cells = [record.name, record.spec.model.name, state, str(record.attempts), f"{record.seconds:.1f}"]
        remark = "" if record.reason in ("", "Completed", "Reused") else f"{record.reason}: {record.message}"
        entries.append(([*cells, format_decimal(record.cost)], remark))
    numbers = ["attempts", "seconds", currency or "cost"]
    return listing(["probe", "model", "state", *numbers], entries, right=numbers)


def _measurements(record: ProbeRecord) -> list[dict[str, Any]]:
    if record.report is None:
        return []
    trials = {trial.name: trial for trial in record.spec.trials}
    return [
        {
            "probe": record.name,
            "model": record.spec.model.name,
            "trial": trials[result.name].to_wire(),
            "result": result.to_wire(),
        }
        for result in record.report.trials
    ]


def _measured(records: list[ProbeRecord]) -> RenderableType:
    rows = []
    for record in records:
        for entry in _measurements(record):
            trial, result = entry["trial"], entry["result"]
            fidelity = trial["fidelity"]
            error = f" ± {figure(float(result['standardError']))}" if "standardError" in result else ""
            score = f"{float(result['score']):.3f}{error}" if "score" in result else result.get("message", "")
            how = fidelity["method"]
            if "schedulePercent" in fidelity:  # stopped before there was a score
                how = f"first {fidelity['schedulePercent']} % of the steps"
                score = f"train loss {result['trainLoss'][-1]}" if result.get("trainLoss") else score
            if fidelity["trainingExamples"]:
                how += f", {fidelity['trainingExamples']} examples"
            pairs = configuration((p["name"], p["value"]) for p in trial["parameters"])
            rows.append([entry["model"], trial["strategy"], how, score, str(result["items"]), result["outcome"], pairs])
    columns = ["model", "strategy", "how", "score", "items", "outcome", "configuration"]
    return listing(columns, [(row, "") for row in rows], right=["items"])


def explain_in_cluster(name: str, namespace: str | None, candidate: str | None, output: Output) -> Exit:
    """The same of a plan in the cluster that KUBECONFIG names; without ``namespace`` in that of its context."""
    return show(*of_cluster(name, namespace), candidate, output)
