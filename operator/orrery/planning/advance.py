"""One step of a plan: what is known, what to start, whether it is finished, and why. Pure and deterministic."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from orrery.api.plan import AdaptationPlan, ConfirmMode, OnExceeded, PlanSpec
from orrery.api.pricelist import PriceList
from orrery.api.probe import Outcome
from orrery.api.status import PlanStatus
from orrery.costs.prices import Prices
from orrery.planning import status
from orrery.planning.candidates import InvalidPlan, Space, expand
from orrery.planning.confirm import Confirmed, Confirming, in_flight
from orrery.planning.decision import Decision, decide
from orrery.planning.designers import registry
from orrery.planning.designers.base import Design
from orrery.planning.designers.scene import Scene
from orrery.planning.evidence import IN_FLIGHT, Known, gather, obsolete
from orrery.planning.exhaustive import Exhaustive, exhaustive
from orrery.planning.forecasts import Clock, Columns, Groups, forecast
from orrery.planning.reasons import Reasons, amount
from orrery.planning.reservation import Purse, reservation
from orrery.planning.status import Answer, Verdict
from orrery.planning.types import Facts, ProbeRecord, ProbeRequest, Step


@dataclass(frozen=True)
class Situation:
    """Everything one step computes, in the order it is computed; ``estimate`` and ``explain`` read it too."""

    space: Space
    known: Known
    columns: Columns
    decision: Decision
    exhaustive: Exhaustive


def advance(
    plan: AdaptationPlan, measurements: Sequence[ProbeRecord], prices: PriceList, facts: Facts | None = None
) -> Step:
    """What follows for a plan from everything measured so far.

    Args:
        plan: the question.
        measurements: every probe that was ever started for it, or that another plan shares with it; in any order.
        prices: the price list the plan refers to.
        facts: sizes and data that the shell could read without measuring.

    Returns:
        The probes to start now and the status; never raises for what a person wrote, but stalls with a sentence.
    """
    facts = facts or Facts()
    records = sorted(measurements, key=lambda r: r.name)
    searching = [r for r in records if not r.confirming]
    purse = Purse.of(plan.spec, searching)
    try:
        situation, groups, clock, table = _assess(plan.spec, records, prices, facts)
    except InvalidPlan as problem:
        return _invalid(plan, prices, records, purse, str(problem))
    known = situation.known
    ending = {r.name for r in obsolete(plan.spec, records)}
    flying = any(r.state in IN_FLIGHT and r.name not in ending for r in searching)

    start, design, unaffordable = _search(plan.spec, situation, groups, clock, table, purse)
    verdict = _verdict(plan.spec, situation, purse, searching, start, design, unaffordable, flying, table.currency)
    # what is so far the best, or all that could be had before a person acts, is no answer
    answered = verdict.finished and not ending and not verdict.stalled and verdict.reason != "Suspended"
    feasible = situation.decision.chosen is not None if answered else None
    confirmed: Confirmed | None = None
    if plan.spec.confirm.mode is ConfirmMode.AUTOMATIC:
        chosen = None if verdict.stalled else situation.decision.chosen
        confirming = Confirming(
            plan.spec,
            situation.space,
            known,
            situation.columns,
            groups,
            clock,
            table,
            [r for r in records if r.confirming],
            facts.out_of_time,
        )
        confirmed = confirming.follow_up(chosen, verdict.finished and not plan.spec.suspend)
        if confirmed.start is not None:
            start.append(confirmed.start)
        if confirmed.busy and verdict.finished:
            verdict = Verdict("Confirming", confirmed.status.message, False, budget_left=verdict.budget_left)
    verdict = _patient(plan.spec, verdict, ending, records)
    reasons = Reasons.of(
        plan.spec.objective, plan.spec.task.metric, situation.columns, situation.decision, table.currency
    )
    answer = Answer(plan.spec, situation.space, situation.columns, situation.decision, reasons)
    stated = PlanStatus(
        phase=_phase(verdict, feasible, bool(records or start)),
        conditions=status.conditions(verdict, feasible) + ([confirmed.condition] if confirmed is not None else []),
        progress=status.progress(records, sum(r.attempt == 1 for r in start), _remaining(design, verdict)),
        spend=status.spend(table.currency, purse, known, situation.exhaustive),
        confirmation=confirmed.status if confirmed is not None else None,
        recommendation=None if verdict.stalled else answer.recommendation(verdict),
        alternatives=answer.alternatives(),
        frontier=answer.frontier(),
        inputs=status.inputs(plan, prices, known),
    )
    return Step(tuple(start), verdict.finished, verdict.reason, verdict.message, stated, tuple(answer.rows()))


def assess(
    plan: AdaptationPlan, measurements: Sequence[ProbeRecord], prices: PriceList, facts: Facts | None = None
) -> Situation:
    """Candidates, forecasts and the decision without choosing probes; raises InvalidPlan."""
    return _assess(plan.spec, sorted(measurements, key=lambda r: r.name), prices, facts or Facts())[0]


def _assess(
    spec: PlanSpec, records: Sequence[ProbeRecord], prices: PriceList, facts: Facts
) -> tuple[Situation, Groups, Clock, Prices]:
    table = Prices(prices)
    faults = table.missing(spec)
    try:
        space = expand(spec)
    except InvalidPlan as problem:
        raise InvalidPlan(*problem.sentences, *faults) from None
    if faults:
        raise InvalidPlan(*faults)
    known = gather(spec, records, facts)
    groups, clock = Groups(spec, space, known), Clock(spec, known)
    columns = forecast(spec, space, known, groups, clock, table)
    decision = decide(spec.objective, spec.task.metric, columns)
    total = exhaustive(spec, space, groups, clock, table, columns)
    return Situation(space, known, columns, decision, total), groups, clock, table


def _search(
    spec: PlanSpec, situation: Situation, groups: Groups, clock: Clock, prices: Prices, purse: Purse
) -> tuple[list[ProbeRequest], Design | None, Decimal | None]:
    """Probes to start now, retries first; the design they are from, and the least that a probe would reserve where none is affordable."""
    known = situation.known
    if spec.suspend or known.data_problem is not None or not len(situation.decision.ranking):
        return [], None, None
    retries, unaffordable = _retry(spec, known, purse, prices)
    scene = Scene(
        spec,
        situation.space,
        known,
        groups,
        clock,
        prices,
        situation.columns,
        situation.decision,
        situation.exhaustive.cost,
        known.flops / max(situation.exhaustive.flops, 1.0),
    )
    design = registry.get(spec.probing.designer).design(scene, purse)
    return [*retries, *design.start], design, design.unaffordable if unaffordable is None else unaffordable


def _patient(spec: PlanSpec, verdict: Verdict, ending: Collection[str], records: Sequence[ProbeRecord]) -> Verdict:
    """The verdict, held back while something runs: nothing is over before what is paid for has ended."""
    if ending and verdict.finished:  # what it does not use of its money comes back
        said = f"waiting for the end of {', '.join(sorted(ending))}, which measures what the plan asked before its edit"
        verdict = Verdict("Suspended" if spec.suspend else "Probing", said, False)
    if in_flight(records) and verdict.finished:  # of an earlier answer
        verdict = replace(verdict, finished=False)
    return verdict


def _retry(spec: PlanSpec, known: Known, purse: Purse, prices: Prices) -> tuple[list[ProbeRequest], Decimal | None]:
    """Further attempts of probes that failed without a measurement, as far as budget and parallelism allow."""
    requests: list[ProbeRequest] = []
    unaffordable: Decimal | None = None
    accelerators = {a.name: a for a in spec.accelerators}
    for record in known.retry:
        accelerator = accelerators.get(record.spec.accelerator)
        model = next((m.name for m in spec.models if m.source == record.spec.model.source), None)
        if accelerator is None or model is None:
            continue
        known.in_flight += [(model, record.spec.accelerator, t) for t in record.spec.trials]
        worst = reservation(record.spec.deadline_seconds, prices.per_second(accelerator))
        seconds = record.spec.deadline_seconds * accelerator.count
        if purse.slots < 1:
            continue
        if not purse.affords(worst, seconds):
            unaffordable = worst if unaffordable is None else min(unaffordable, worst)
            continue
        purse.take(worst, seconds, new=False)
        requests.append(
            ProbeRequest(
                name=record.name,
                spec=record.spec,
                attempt=record.attempts + 1,
                reservation=worst,
                expected_cost=worst / 3,
                reason=f"attempt {record.attempts + 1} of {spec.probing.retries + 1}: "
                f"{record.reason or 'the last one brought no usable report'}",
            )
        )
    return requests, unaffordable


def _verdict(
    spec: PlanSpec,
    situation: Situation,
    purse: Purse,
    records: Sequence[ProbeRecord],
    start: Sequence[ProbeRequest],
    design: Design | None,
    unaffordable: Decimal | None,
    flying: bool,
    currency: str,
) -> Verdict:
    decision, known = situation.decision, situation.known
    busy = flying or bool(start)
    if known.data_problem is not None:
        return Verdict("InvalidData", known.data_problem, not flying, stalled=not flying)
    if spec.suspend:
        return Verdict("Suspended", "spec.suspend is true: nothing new is started", not flying)
    if not len(decision.ranking):
        reason = next((str(r) for r in situation.columns.rejected if r is not None), "nothing can be adapted")
        outcomes = {e.result.outcome for found in known.evidence.values() for e in found}
        # a candidate that did not fit is an answer; probes that all failed are not
        if known.last_failure is not None and outcomes <= {Outcome.FAILED}:
            return Verdict("ProbesFailed", known.last_failure or reason, not busy, stalled=not busy)
        return Verdict("Infeasible", f"every candidate is rejected on paper; the first: {reason}", not busy)
    if busy:
        count = len(start)
        return Verdict("Probing", start[0].reason if count else "waiting for running probes", False)
    wanted = bool(design and design.wanted) or bool(known.retry)
    evidence = any(e.result.score is not None for found in known.evidence.values() for e in found)
    if wanted and unaffordable is not None:
        return _exhausted(spec, purse, records, unaffordable, currency, evidence, known.last_failure)
    if not evidence and known.last_failure is not None:
        return Verdict("ProbesFailed", f"no probe brought a measurement; the last: {known.last_failure}", True, True)
    if wanted and purse.probes_left < 1:
        said = f"all {spec.probing.max_probes} probes of spec.probing.maxProbes were used"
        if not evidence:  # for what the plan asked before it was edited
            said += ", and none of them measured what the plan asks now: write a larger number"
        return Verdict("ProbesExhausted", said, True, stalled=not evidence)
    if decision.chosen is None:
        nearest = decision.nearest
        said = ""
        if nearest is not None:
            reasons = Reasons.of(spec.objective, spec.task.metric, situation.columns, decision, currency)
            said = f"; nearest is {situation.space.label(nearest)}, which {reasons.rejected_because(nearest)}"
        return Verdict("Infeasible", f"no candidate meets the objective{said}"[:1000], True)
    return Verdict("AnswerSettled", design.settled if design is not None else "nothing is left to probe", True)


def _exhausted(
    spec: PlanSpec,
    purse: Purse,
    records: Sequence[ProbeRecord],
    unaffordable: Decimal,
    currency: str,
    evidence: bool,
    failure: str | None,
) -> Verdict:
    """Without ``evidence`` there is nothing to recommend, whatever the plan says; ``failure`` is the last one, if any."""
    left = amount(float(max(purse.left, Decimal(0))))
    if not records:
        message = (
            f"spec.budget.maxProbeCost is {spec.budget.max_probe_cost} {currency} and the cheapest useful probe reserves "
            f"{amount(float(unaffordable))}: write at least {unaffordable.normalize():f}"
        )
        if purse.seconds_left is not None and unaffordable <= purse.left:
            message = (
                f"spec.budget.maxAcceleratorSeconds is {purse.seconds_limit}, less than the deadline of the cheapest "
                "useful probe: write more"
            )
        return Verdict("BudgetExhausted", message, True, stalled=True, budget_left=False)
    message = (
        f"{left} {currency} are left of the budget and the next useful probe reserves {amount(float(unaffordable))}"
    )
    failed = spec.budget.on_exceeded is OnExceeded.FAIL or not evidence
    if not evidence:
        message += "; no probe brought a measurement of what the plan asks"
        message += f", the last: {failure}" if failure is not None else ""
    return Verdict("BudgetExhausted", message, True, stalled=failed, budget_left=False)


def _phase(verdict: Verdict, feasible: bool | None, begun: bool) -> status.Phase:
    if verdict.stalled:
        return "Failed" if verdict.reason == "BudgetExhausted" else "Stalled"
    if verdict.reason == "Suspended":
        return "Suspended"
    if verdict.reason == "Confirming":
        return "Confirming"
    if not verdict.finished:
        return "Probing" if begun else "Pending"
    return "Answered" if feasible else "Infeasible"


def _remaining(design: Design | None, verdict: Verdict) -> float | None:
    if verdict.finished:
        return 0.0
    return design.expected_seconds if design is not None and design.start else None


def _invalid(
    plan: AdaptationPlan, prices: PriceList, records: Sequence[ProbeRecord], purse: Purse, sentence: str
) -> Step:
    flying = any(r.state in IN_FLIGHT for r in records)
    verdict = Verdict("InvalidPlan", sentence, not flying, stalled=True)
    stated = PlanStatus(
        phase="Stalled",
        conditions=status.conditions(verdict, None, validated=False),
        progress=status.progress(records, 0, None),
        spend=status.spend(prices.spec.currency, purse, None, None),
        inputs=status.inputs(plan, prices, None),
    )
    return Step((), not flying, "InvalidPlan", sentence, stated, ())
