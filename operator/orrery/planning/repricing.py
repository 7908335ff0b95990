"""What a stored answer becomes when only prices change: decided anew from stored forecasts, without a probe or a fit.

Prices change no quality, no latency and no second of work, so each cost of a stored row is multiplied by the ratio of the
new price to the old one, and ``decide`` is asked again. That is exactly what ``advance`` would answer on the same
measurements (a test holds both together), at a hundredth of its time. Three things need ``advance`` itself, and are refused
with a sentence: tokens of a hosted model, whose cost mixes two prices, limits on latency, whose spread rows do not hold, and
rows of an accelerator whose old price was zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orrery.api.models import Model
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.quantities import Interval
from orrery.costs.forecast import NOTHING, add
from orrery.costs.prices import Prices
from orrery.laws.posterior import Z90, Array, Link, Posterior
from orrery.planning.decision import Decision, decide
from orrery.planning.forecasts import Columns, link_of
from orrery.planning.types import ResultRow


class NeedsAdvance(ValueError):  # noqa: N818  # reads as what happened
    """Stored rows do not tell enough; ``advance`` on the stored measurements does."""


@dataclass(frozen=True)
class Repriced:
    """The answer before and after; candidates by name, None where nothing meets the objective."""

    before: str | None
    after: str | None
    cost_before: float | None  #: expected total of the answer, at the old prices
    cost_after: float | None  #: of the new answer, at the new prices
    kept_cost: float | None  #: of the old answer, at the new prices

    @property
    def changed(self) -> bool:
        """Whether another candidate is recommended."""
        return self.before != self.after


def reprice(plan: AdaptationPlan, rows: Sequence[ResultRow], old: PriceList, new: PriceList) -> Repriced:
    """The answer to ``plan`` under ``new`` from the rows that were decided under ``old``.

    Raises PriceMissing when a list lacks an accelerator of the plan, ValueError for lists in two currencies, and NeedsAdvance.
    """
    ratio = price_ratios(plan, old, new)
    columns = _columns(plan, rows, ratio)
    decision = decide(plan.spec.objective, plan.spec.task.metric, columns)
    before = next((i for i, row in enumerate(rows) if row.status == "Recommended"), None)
    return repriced(rows, before, decision, columns.total.median())


def repriced(rows: Sequence[ResultRow], before: int | None, decision: Decision, totals: Array) -> Repriced:
    """Both answers, from the new decision and the new totals (in the rows' order)."""
    after = decision.chosen
    cost = None if before is None else rows[before].total_cost
    return Repriced(
        None if before is None else rows[before].candidate,
        None if after is None else rows[after].candidate,
        None if cost is None else cost.median,
        None if after is None else float(totals[after]),
        None if before is None else float(totals[before]),
    )


def price_ratios(plan: AdaptationPlan, old: PriceList, new: PriceList) -> dict[str, float]:
    """New over old price of each accelerator of the plan."""
    if old.spec.currency != new.spec.currency:
        raise ValueError(
            f"spec.currency is {old.spec.currency} in '{old.metadata.name}' and {new.spec.currency} in "
            f"'{new.metadata.name}': write both lists in one currency, since nothing is converted"
        )
    before, after = Prices(old), Prices(new)
    ratios = {}
    for accelerator in plan.spec.accelerators:
        paid = before.per_hour(accelerator)
        if not paid:
            raise NeedsAdvance(f"the old price of {accelerator.name} is zero")
        ratios[accelerator.name] = float(after.per_hour(accelerator) / paid)
    if plan.spec.objective.max_latency_milliseconds is not None:
        raise NeedsAdvance("spec.objective.maxLatencyMilliseconds needs the latency's whole distribution")
    for model in plan.spec.models:
        _same_tokens(model, before, after)
    return ratios


def _same_tokens(model: Model, before: Prices, after: Prices) -> None:
    if model.hosted_as is not None and before.hosted(model.name, model.hosted_as) != after.hosted(
        model.name, model.hosted_as
    ):
        raise NeedsAdvance(f"spec.models[{model.name}] is paid for by the token")


def _columns(plan: AdaptationPlan, rows: Sequence[ResultRow], ratio: dict[str, float]) -> Columns:
    hosted = {m.name for m in plan.spec.models if m.hosted_as is not None}
    factors = np.array(
        [1.0 if r.model in hosted and not r.adaptation_flops else ratio.get(r.accelerator, 1.0) for r in rows]
    )
    link = link_of(plan.spec.task)
    quality = _posterior([r.quality for r in rows], link)
    adaptation = _posterior([r.adaptation_cost for r in rows], Link.LOG, factors)
    serving = _posterior([r.serving_cost for r in rows], Link.LOG, factors)
    zeros, nothing = np.zeros(len(rows)), Posterior(np.zeros(len(rows)), np.zeros(len(rows)), Link.LOG)
    numbers: dict[object, int] = {}
    configured = [numbers.setdefault((r.model, r.strategy, r.configuration), len(numbers)) for r in rows]
    return Columns(
        configured=np.array(configured, dtype=np.intp),
        quality=quality,
        measured=np.array([r.measured for r in rows], dtype=np.bool_),
        adaptation=adaptation,
        serving=serving,
        total=add(adaptation, serving),
        latency=nothing,
        adaptation_flops=zeros,
        serving_flops=zeros,
        accelerator_hours=zeros,
        memory=zeros,
        # what the gates refused is refused at any price; a row that merely was improbable has some probability left
        rejected=np.array([r.reason if r.gated else None for r in rows], dtype=object),
        remarks={},
        hurts=np.full(len(rows), np.nan),
    )


def _posterior(intervals: Sequence[Interval | None], link: Link, factors: Array | None = None) -> Posterior:
    """Normals on the link scale whose 90 % intervals these are; nothing costs nothing."""
    values = np.array([[i.median, i.lower, i.upper] if i is not None else [0.0, 0.0, 0.0] for i in intervals])
    if factors is not None:
        values = values * factors[:, None]
    none = values[:, 0] <= 0 if link is Link.LOG else np.zeros(len(values), dtype=np.bool_)
    middle, lower, upper = link.forward(np.maximum(values, NOTHING) if link is Link.LOG else values).T
    mean = np.where(none, np.log(NOTHING), middle)
    return Posterior(mean, np.where(none, 0.0, np.maximum(upper - lower, 0.0) / (2 * Z90)), link)
