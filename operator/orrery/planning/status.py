"""The plan's status and the rows of the results, from a decision. Timestamps and generations are the shells' to stamp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

import orrery
from orrery.api.plan import AdaptationPlan, PlanSpec
from orrery.api.pricelist import PriceList
from orrery.api.probe import digest
from orrery.api.quantities import Interval, money
from orrery.api.sources import HuggingFaceSource
from orrery.api.status import (
    Alternative,
    Choice,
    Condition,
    ConfigurationValue,
    CostForecast,
    FrontierPoint,
    Inputs,
    Progress,
    QualityForecast,
    Recommendation,
    Revision,
    Spend,
)
from orrery.costs.forecast import requests_over_horizon
from orrery.costs.serving import cost_of_pass
from orrery.laws.posterior import Link, Posterior
from orrery.planning.candidates import Space
from orrery.planning.decision import Decision, expected_quality
from orrery.planning.evidence import Known
from orrery.planning.exhaustive import Exhaustive
from orrery.planning.forecasts import Columns
from orrery.planning.reasons import Reasons
from orrery.planning.reservation import Purse
from orrery.planning.types import ProbeRecord, ProbeState, ResultRow

Truth = Literal["True", "False", "Unknown"]
Phase = Literal["Pending", "Probing", "Confirming", "Answered", "Infeasible", "Stalled", "Suspended", "Failed"]
MOST_ALTERNATIVES = 10
#: Below this, money is reported as nothing.
_DUST = 1e-9
#: Above this probability a person should know that adapting makes the model worse.
_LIKELY = 0.5
#: The chance of harm is said from here on: of 168 measured trainings, forecast from zero-shot and a proxy, 66 % of those above
#: it were worse and none of those below (tests/unit/strategies/test_negative_transfer.py).
_WORTH_SAYING = 0.2


@dataclass(frozen=True)
class Verdict:
    """Where the plan stands, before it is written down."""

    reason: str
    message: str
    finished: bool
    stalled: bool = False
    budget_left: bool = True


def number(value: float, digits: int = 6) -> Decimal:
    """A forecast as a decimal of ``digits`` significant digits: the same bytes on every machine, no false precision.

    >>> number(1 / 3), number(0.1 + 0.2, 4), number(1e-13 / 3)
    (Decimal('0.333333'), Decimal('0.3'), Decimal('0E-12'))
    """
    if not np.isfinite(value):
        raise ValueError(f"a forecast is {value}: nothing of it may be written down")
    rounded = Decimal(f"{value:.{digits}g}")
    # at most 12 places: what the API's pattern accepts
    return rounded.quantize(Decimal(1).scaleb(-12)) if rounded.as_tuple().exponent < -12 else rounded  # type: ignore[operator]


def conditions(verdict: Verdict, feasible: bool | None, validated: bool = True) -> list[Condition]:
    """The seven conditions, in a fixed order; kstatus reads Ready, Reconciling and Stalled.

    A suspended plan that rests has no Ready: True would be an answer, and kstatus takes False for in progress.
    """
    done, reason, message = verdict.finished, verdict.reason, verdict.message[:4096]
    stalled = verdict.stalled

    def one(kind: str, truth: bool | None, why: str = reason, text: str = message) -> Condition:
        status: Truth = "Unknown" if truth is None else "True" if truth else "False"
        return Condition(type=kind, status=status, reason=why, message=text)

    fits = {True: "ConstraintsMet", False: "NoCandidateMeetsConstraints", None: "Undecided"}[feasible]
    suspended = reason == "Suspended"
    return [
        *([] if suspended and done else [one("Ready", done and not stalled)]),
        one("Reconciling", not done),
        one("Stalled", stalled),
        one("Validated", validated, "Valid" if validated else reason, "" if validated else message),
        one("ProbesCompleted", None if suspended else done and not stalled),
        one("BudgetAvailable", verdict.budget_left, "WithinBudget" if verdict.budget_left else "BudgetExhausted", ""),
        one("Feasible", feasible if validated else None, fits, message if feasible is False else ""),
    ]


def progress(records: Sequence[ProbeRecord], starting: int, remaining_seconds: float | None) -> Progress:
    """Probes by state; those about to start count as planned."""
    states = [r.state for r in records]
    return Progress(
        planned=len(records) + starting,
        queued=sum(s in (ProbeState.RESERVED, ProbeState.QUEUED) for s in states),
        running=states.count(ProbeState.RUNNING),
        succeeded=states.count(ProbeState.SUCCEEDED),
        failed=states.count(ProbeState.FAILED),
        reused=sum(r.reused for r in records),
        estimated_remaining_seconds=None if remaining_seconds is None else int(np.ceil(remaining_seconds)),
    )


def spend(currency: str, purse: Purse, known: Known | None, total: Exhaustive | None) -> Spend:
    """Money and compute of probing, beside what the exhaustive search would have cost."""
    saved = None
    if total is not None and total.cost > 0:
        saved = number(100.0 * (1.0 - float(purse.spent) / total.cost), 4)
    return Spend(
        currency=currency,
        cost=purse.spent,
        reserved=purse.reserved,
        accelerator_seconds=number(float(purse.seconds_spent), 9),
        flops=number(known.flops) if known is not None else None,
        exhaustive_cost=money(total.cost) if total is not None else None,
        exhaustive_accelerator_seconds=number(total.seconds) if total is not None else None,
        exhaustive_flops=number(total.flops) if total is not None else None,
        saved_percent=saved,
    )


def inputs(plan: AdaptationPlan, price_list: PriceList, known: Known | None) -> Inputs:
    """Digests of everything the answer rests on."""
    return Inputs(
        plan_digest=digest(plan.spec.to_wire())[:16],
        price_digest=digest(price_list.spec.to_wire())[:16],
        data_digest=known.task_facts.digest if known is not None and known.task_facts is not None else None,
        revisions=_revisions(plan.spec, known) if known is not None else [],
        price_date=price_list.spec.date.isoformat(),
        price_source=price_list.spec.source,
        seed=plan.spec.probing.seed,
        image=plan.spec.probe_template.image,
        version=orrery.__version__ if hasattr(orrery, "__version__") else None,
    )


def _revisions(spec: PlanSpec, known: Known) -> list[Revision]:
    """Commits of everything that probes read from the hub: the dataset's, then each model's in the plan's order."""
    read: list[tuple[Literal["Dataset", "Model"], HuggingFaceSource | None, str | None]]
    read = [("Dataset", spec.task.dataset.source.hugging_face, known.task_facts.commit if known.task_facts else None)]
    read += [("Model", m.source.hugging_face, known.commits.get(m.name)) for m in spec.models]
    return [
        Revision(kind=kind, repo=source.repo, revision=source.revision, commit=commit)
        for kind, source, commit in read
        if source is not None and commit is not None
    ]


@dataclass(frozen=True)
class Answer:
    """Writes choices, alternatives, the frontier and the rows of one decision."""

    spec: PlanSpec
    space: Space
    columns: Columns
    decision: Decision
    reasons: Reasons

    def recommendation(self, verdict: Verdict) -> Recommendation | None:
        """The choice, also while probing goes on (what would be recommended now); None when nothing is feasible."""
        i = self.decision.chosen
        if i is None:
            return None
        best = self.decision.best_probability
        return Recommendation(
            **self._choice(i),
            confidence=number(float(np.clip(self.decision.probability[i], 0, 1)), 4),
            best_probability=None if best is None else number(best, 4),
            reason="MeasuredInFull" if self.columns.measured[i] else "Forecast",
            message=(self.reasons.why_chosen(i) + self._remark(i))[:1024],
        )

    def alternatives(self) -> list[Alternative]:
        """The best rival of every pair of model and strategy, then the next best; gated pairs come last."""
        chosen = self.decision.chosen
        ranked = [int(i) for i in self.decision.ranking if i != chosen]
        seen: set[int] = set()
        leaders: list[int] = []
        others: list[int] = []
        for i in ranked:
            g = int(self.space.group[i])
            (others if g in seen else leaders).append(i)
            seen.add(g)
        picked = (leaders + others)[:MOST_ALTERNATIVES]
        gated = [g.first for n, g in enumerate(self.space.groups) if n not in seen and g.refusal is None]
        picked += [i for i in gated if i != chosen][: MOST_ALTERNATIVES - len(picked)]
        return [
            Alternative(**self._choice(i), rejected_because=(self.reasons.rejected_because(i) + self._remark(i))[:1024])
            for i in picked
        ]

    def frontier(self) -> list[FrontierPoint]:
        """Candidates that none beats in both expected quality and cost, cheapest first."""
        quality = expected_quality(self.columns.quality)
        return [
            FrontierPoint(
                candidate=self.space.label(int(i)),
                quality=number(float(quality[i])),
                cost=_money(float(self.columns.total.median()[i])),
            )
            for i in self.decision.frontier
        ]

    def rows(self) -> list[ResultRow]:
        """Every candidate, in the plan's order."""
        c, space = self.columns, self.space
        quality, costs = _intervals(c.quality), [_intervals(p) for p in (c.adaptation, c.serving, c.total)]
        latency = np.exp(np.minimum(c.latency.mean, 50.0)) * 1000.0
        configurations = [[g.configuration(j) for j in range(g.size)] for g in space.groups]
        passed = self._costs_of_pass()
        out = []
        for i in range(len(space)):
            n = int(space.group[i])
            g = space.groups[n]
            gated = c.rejected[i] is not None
            if i == self.decision.chosen:
                status, reason = "Recommended", self.reasons.why_chosen(i)
            else:
                meets = not gated and self.decision.probability[i] >= float(self.spec.objective.confidence)
                status, reason = "Alternative" if meets else "Rejected", self.reasons.rejected_because(i)
            out.append(
                ResultRow(
                    candidate=space.label(i),
                    model=g.model.name,
                    strategy=g.strategy.name,
                    type=g.plugin.type,
                    configuration=configurations[n][int(space.configuration[i])],
                    accelerator=space.accelerators[space.accelerator[i]].name,
                    quality=None if g.refusal is not None else quality[i],
                    adaptation_cost=costs[0][i],
                    serving_cost=costs[1][i],
                    total_cost=costs[2][i],
                    latency_milliseconds=float(latency[i]),
                    adaptation_flops=float(c.adaptation_flops[i]),
                    serving_flops=float(c.serving_flops[i]),
                    memory_bytes=float(c.memory[i]) or None,
                    measured=bool(c.measured[i]),
                    feasible_probability=float(self.decision.probability[i]),
                    status=status,
                    reason=reason + self._remark(i),
                    gated=gated,
                    accelerator_hours=float(c.accelerator_hours[i]),
                    cost_of_pass=passed[i],
                )
            )
        return out

    def _costs_of_pass(self) -> list[float | None]:
        """Money per right answer of every candidate, adaptation spread over the horizon's requests."""
        requests = requests_over_horizon(self.spec.workload)
        if requests <= 0 or self.columns.quality.link is not Link.LOGIT:
            return [None] * len(self.space)
        quality, total = expected_quality(self.columns.quality), self.columns.total.median()
        return [cost_of_pass(float(t) / requests, float(q)) for t, q in zip(total, quality, strict=True)]

    def _cost_of_pass(self, i: int) -> Decimal | None:
        """Money per right answer of one candidate; None where nothing is ever right, and for unbounded metrics."""
        one = np.array([i])
        requests = requests_over_horizon(self.spec.workload)
        if requests <= 0 or self.columns.quality.link is not Link.LOGIT:
            return None
        total = float(self.columns.total.median()[i])
        value = cost_of_pass(total / requests, float(expected_quality(self.columns.quality.take(one))[0]))
        return number(value) if np.isfinite(value) else None

    def _choice(self, i: int) -> dict[str, object]:
        c, g = self.columns, self.space.groups[self.space.group[i]]
        one = np.array([i])
        quality = _intervals(c.quality.take(one))[0]
        adaptation, serving, total = (_intervals(p.take(one))[0] for p in (c.adaptation, c.serving, c.total))
        choice = Choice(
            model=g.model.name,
            strategy=g.strategy.name,
            configuration=[
                ConfigurationValue(name=k, value=v) for k, v in g.configuration(int(self.space.configuration[i]))
            ],
            accelerator=self.space.accelerators[self.space.accelerator[i]].name,
            quality=QualityForecast(
                predicted=number(quality.median), lower=number(quality.lower), upper=number(quality.upper)
            ),
            cost=CostForecast(
                adaptation=_money(adaptation.median),
                serving=_money(serving.median),
                total=_money(total.median),
                lower=_money(total.lower),
                upper=_money(total.upper),
                adaptation_flops=number(float(c.adaptation_flops[i])),
                serving_flops=number(float(c.serving_flops[i])),
                accelerator_hours=number(float(c.accelerator_hours[i])),
                cost_of_pass=self._cost_of_pass(i),
            ),
            latency_milliseconds=number(float(np.exp(c.latency.mean[i])) * 1000.0, 4),
            measured=bool(c.measured[i]),
        )
        return {name: getattr(choice, name) for name in Choice.model_fields}

    def _remark(self, i: int) -> str:
        """What should be known beyond the decision: that adapting likely hurts, and what the strategy says of its kind."""
        hurts = self.columns.hurts[i]
        worse = "Likely worse" if hurts > _LIKELY else "Worse"
        said = [f"{worse} than the model as it is, with probability {hurts:.0%}"] if hurts > _WORTH_SAYING else []
        said += self.columns.remarks.get(int(self.space.group[i]), ())
        return "".join(f". {sentence}" for sentence in said)


def _intervals(p: Posterior) -> list[Interval]:
    lower, upper = p.interval(0.9)
    return [
        Interval(_clean(m), _clean(lo), _clean(hi))
        for m, lo, hi in zip(p.median().tolist(), lower.tolist(), upper.tolist(), strict=True)
    ]


def _clean(value: float) -> float:
    return 0.0 if abs(value) < _DUST else value


def _money(value: float) -> Decimal:
    return money(min(_clean(value), 1e11))
