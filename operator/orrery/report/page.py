"""The page: fills the template with the answer, the data and the scripts, so that one file is all there is.

No script runs but the two in ``assets``: the page's Content-Security-Policy names their hashes, so that even a text that
slipped past the escaping could not run. Nothing is loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import date
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from orrery.api import yamltext
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.status import PlanStatus
from orrery.api.task import Direction
from orrery.costs.forecast import requests_over_horizon
from orrery.planning.fleet import fleet_of_answer
from orrery.planning.types import ProbeRecord, ResultRow
from orrery.report import text
from orrery.report.break_even import compare, cost_lines
from orrery.report.curves import curves
from orrery.report.data import payload, script_json


def render(
    plan: AdaptationPlan,
    prices: PriceList,
    status: PlanStatus,
    rows: Sequence[ResultRow],
    records: Sequence[ProbeRecord],
    today: date,
) -> str:
    """The report as one HTML document.

    Args:
        plan: the question.
        prices: the price list it was answered with.
        status: the answer.
        rows: every candidate, in the order the table shows them first.
        records: every probe.
        today: tells how old the prices are; given, so that the same inputs give the same bytes.
    """
    currency, requests = prices.spec.currency, requests_over_horizon(plan.spec.workload)
    lines = cost_lines(rows, plan.spec.objective.goal, requests)
    crossing = compare(lines)
    drawn = curves(plan, rows, records)
    data = payload(plan, currency, status, rows, drawn, lines, crossing, requests)
    manifest = yamltext.write(plan.model_copy(update={"status": None}).to_wire())
    style, plot, script = (asset(name) for name in ("report.css", "uPlot.iife.min.js", "report.js"))
    style = asset("uPlot.min.css") + style
    return Template(asset("report.html")).substitute(
        policy=f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'unsafe-inline'; script-src {_hash(plot)} {_hash(script)}",
        title=escape(f"{_cut(plan.metadata.name)}: adaptation report"),
        name=text.short(f"{plan.metadata.namespace}/{plan.metadata.name}"),
        phase=escape(status.phase),
        date=escape(today.isoformat()),
        candidates=f"{len(rows):,}",
        better="Down" if plan.spec.task.metric.sense is Direction.MINIMIZE else "Up",
        answer=text.answer(plan, status, currency),
        break_even=text.break_even(crossing, requests, currency),
        mix=text.mix(fleet_of_answer(plan, prices, records), plan, currency),
        curves_note=_curves_note(drawn.left_out, drawn.assumed_examples),
        table=text.table(rows, currency),
        measured=text.measured(plan, rows, records, currency),
        inputs=text.inputs(plan, prices, status, manifest, today),
        style=style,
        data=script_json(data),
        plot=plot,
        script=script,
        licence=escape(asset("uPlot.LICENSE")),
    )


@cache
def asset(name: str) -> str:
    """A file of this package's ``assets``."""
    return files("orrery.report").joinpath("assets", name).read_text(encoding="utf-8").strip()


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _cut(name: str) -> str:
    return name if len(name) <= 80 else name[:79] + "…"


def _curves_note(left_out: int, assumed: bool) -> str:
    notes = []
    if left_out:
        notes.append(f"The {left_out:,} least promising pairs of model and strategy are not drawn.")
    if assumed:
        notes.append("No probe has counted the training examples yet: 1,000 are assumed.")
    return f'<p class="note">{" ".join(notes)}</p>' if notes else ""
