"""Confirming an answer: the recommended candidate is run once in full, and its forecast compared with what came of it.

The confirming run has a seed of its own range, so that it is never the measurement that the forecast rests on, is known for
what it is wherever its record turns up, and is shared between plans like any other. It is no evidence: forecasts, the
decision and the budget for probing are what they would be without it, so that predicted and actual stay two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np

from orrery.api.plan import ConfirmBudget, PlanSpec
from orrery.api.probe import Fidelity, Outcome, Parameter, ProbeSpec, Trial, TrialResult, digest, probe_name, trial_key
from orrery.api.status import Condition, Confirmation, ConfirmationCost
from orrery.costs.prices import Prices
from orrery.costs.throughput import WorkKind
from orrery.laws.posterior import Z90, Link, Posterior
from orrery.planning.candidates import Space
from orrery.planning.evidence import IN_FLIGHT, Known
from orrery.planning.forecasts import Clock, Columns, Groups
from orrery.planning.reasons import amount
from orrery.planning.reports import moved, refusal
from orrery.planning.reservation import Purse, deadline, expected, reservation, tightest
from orrery.planning.status import number
from orrery.planning.types import CONFIRMING_SEED, ProbeRecord, ProbeRequest
from orrery.strategies.trials import observed

#: Items that the run is scored on: all there are, as far as a report can tell each of them.
MOST_ITEMS = 8192
#: Longest that it may run, a week.
LONGEST = 604_800


@dataclass(frozen=True)
class Confirmed:
    """What confirming comes to in one step."""

    status: Confirmation
    condition: Condition
    start: ProbeRequest | None = None
    flying: bool = False

    @property
    def busy(self) -> bool:
        """Whether its result is still to come."""
        return self.flying or self.start is not None


def trial_of(spec: PlanSpec, space: Space, known: Known, i: int) -> Trial:
    """Candidate ``i`` in full: every parameter as the grid has it, its whole share of the data, every evaluation item."""
    group = space.groups[space.group[i]]
    there = known.task_facts.evaluation_examples if known.task_facts is not None else 0
    fidelity = Fidelity(evaluation_items=min(MOST_ITEMS, there or spec.probing.evaluation_items))
    pairs = [Parameter(name=k, value=v) for k, v in sorted(group.configuration(int(space.configuration[i])))]
    seed = CONFIRMING_SEED + spec.probing.seed % 2**30
    name = digest([group.plugin.type, [(p.name, p.value) for p in pairs], fidelity.to_wire(), seed])[:10]
    return Trial(name=f"c{name}", strategy=group.plugin.type, parameters=pairs, fidelity=fidelity, seed=seed)


@dataclass(frozen=True)
class Confirming:
    """Everything that one step knows of the answer to confirm."""

    spec: PlanSpec
    space: Space
    known: Known
    columns: Columns
    groups: Groups
    clock: Clock
    prices: Prices
    records: Sequence[ProbeRecord]  #: the confirming ones, of whatever candidate
    out_of_time: bool = False

    def follow_up(self, chosen: int | None, settled: bool) -> Confirmed:
        """What to start and to tell. ``settled``: the plan has an answer, ``chosen``, and nothing else is to be done."""
        if chosen is None:
            return self._told(None, "Unknown", "NothingToConfirm", "no candidate is recommended")
        trial = trial_of(self.spec, self.space, self.known, chosen)
        record = self._record(chosen, trial)
        if record is None:
            if not settled:
                return self._told(chosen, "Unknown", "WaitingForAnswer", "the answer is not settled yet")
            return self._begin(chosen, trial, None)
        if record.state in IN_FLIGHT:
            said = f"{self.space.label(chosen)} runs in full in {record.name}"
            return self._told(chosen, "Unknown", "Confirming", said, record, flying=True)
        result = self._result(record, chosen, trial)
        if isinstance(result, str):
            again = record.retryable and record.attempts <= self.spec.probing.retries and not record.reused
            if again and settled:
                return self._begin(chosen, trial, record)
            said = f"the recommendation stands unconfirmed: {record.name} failed ({result})"
            return self._told(chosen, "False", "ConfirmationFailed", said, record)
        return self._compared(chosen, record, result)

    # ---- the run

    def _begin(self, i: int, trial: Trial, record: ProbeRecord | None) -> Confirmed:
        budget = self.spec.confirm.budget
        assert budget is not None  # the model refuses mode Automatic without one
        if self.out_of_time:
            return self._told(
                i, "Unknown", "OutOfTime", "spec.activeDeadlineSeconds is over: nothing is started", record
            )
        accelerator = self.space.accelerators[self.space.accelerator[i]]
        price = self.prices.per_second(accelerator)
        middle, upper = self._seconds(i, trial)
        least, purse = tightest(middle, LONGEST), self._purse(budget)
        if record is not None:
            time = record.spec.deadline_seconds
            longest = purse.longest(price, accelerator.count)
        else:
            longest = purse.longest(price, accelerator.count)
            time = min(deadline(upper, LONGEST), longest)
        if time < least or time > longest:
            worst = reservation(max(least, time if record is not None else 0), price)
            short = worst > purse.left
            said = (
                f"a full run of {self.space.label(i)} reserves at least {amount(float(worst))} {self.prices.currency} and "
                f"{amount(float(max(purse.left, Decimal(0))))} are left of spec.confirm.budget.maxCost: write at least "
                f"{(purse.spent + worst).normalize():f}"
                if short
                else f"a full run of {self.space.label(i)} needs at least {least * accelerator.count} accelerator-seconds: "
                "write more in spec.confirm.budget.maxAcceleratorSeconds"
            )
            return self._told(i, "False", "ConfirmBudgetTooSmall", said[:1024], record)
        if record is not None:
            spec, attempt, name = record.spec, record.attempts + 1, record.name
        else:
            group = self.space.groups[self.space.group[i]]
            spec = ProbeSpec(
                model=group.model,
                task=self.spec.task,
                trials=[trial],
                accelerator=accelerator.name,
                deadline_seconds=time,
            )
            attempt, name = 1, probe_name(spec)
        cost = expected(middle, price)
        request = ProbeRequest(
            name=name,
            spec=spec,
            attempt=attempt,
            reservation=reservation(spec.deadline_seconds, price),
            expected_cost=cost,
            reason=f"confirms {self.space.label(i)} by a full run for {cost} {self.prices.currency}",
        )
        said = f"{self.space.label(i)} is run in full for about {amount(float(cost))} {self.prices.currency}"
        made = self._told(i, "Unknown", "Confirming", said, record)
        status = made.status.model_copy(update={"reserved": made.status.reserved + request.reservation})
        return Confirmed(status, made.condition, request)

    def _work(self, i: int, trial: Trial) -> tuple[tuple[WorkKind, float, float], ...]:
        """Kind, FLOPs and what its passes cost beside them (``throughput.effort``): of scoring and of training."""
        g = int(self.space.group[i])
        group, j = self.space.groups[g], int(self.space.configuration[i])
        work = group.plugin.work(self.groups.build(g), None, None)
        each = work.request_flops if work.evaluation_flops is None else work.evaluation_flops
        training = group.plugin.training
        kind = WorkKind.of(training) if training is not None else WorkKind.INFERENCE
        return (
            (WorkKind.INFERENCE, float(each[j]) * trial.fidelity.evaluation_items, 0.0),
            (kind, float(work.adaptation_flops[j]), float(work.adaptation_pass_flops[j])),
        )

    def _seconds(self, i: int, trial: Trial) -> tuple[float, float]:
        """Median and 95th percentile of the run, load included."""
        model = self.space.groups[int(self.space.group[i])].model.name
        where = self.space.accelerators[self.space.accelerator[i]].name
        load = self.clock.load_seconds(model, where)
        middle, upper = load + 1.0, 2 * load + 1.0
        for kind, flops, wasted in self._work(i, trial):
            if flops > 0:
                p = self.clock.seconds(model, where, kind, np.array([flops]), np.array([wasted]))
                middle += float(p.median()[0])
                upper += float(np.exp(p.mean[0] + Z90 * p.sd[0]))
        return middle, upper

    def _purse(self, budget: ConfirmBudget) -> Purse:
        limits = self.spec.budget.model_copy(
            update={"max_probe_cost": budget.max_cost, "max_accelerator_seconds": budget.max_accelerator_seconds}
        )
        return Purse.of(self.spec.model_copy(update={"budget": limits}), self.records, confirming=True)

    # ---- its result

    def _record(self, i: int, trial: Trial) -> ProbeRecord | None:
        group = self.space.groups[self.space.group[i]]
        where = self.space.accelerators[self.space.accelerator[i]].name
        key = trial_key(group.model, self.spec.task, trial, where)
        for record in self.records:
            asked = record.spec
            if any(trial_key(asked.model, asked.task, t, asked.accelerator) == key for t in asked.trials):
                return record
        return None

    def _result(self, record: ProbeRecord, i: int, trial: Trial) -> TrialResult | str:
        """The run's result, or why there is none."""
        report = record.report
        if report is None:
            return f"{record.reason or 'Failed'}{': ' + record.message if record.message else ''}"[:600]
        problem = refusal(record.spec, report)
        if problem is not None:
            return problem
        facts, known = report.task_facts, self.known.task_facts
        if facts is not None and known is not None and facts.digest != known.digest:
            return f"DataMismatch: it read data of digest {facts.digest[:12]}, and the forecast rests on {known.digest[:12]}"
        commit = self.known.commits.get(self.space.groups[self.space.group[i]].model.name)
        if None not in (commit, report.model_commit) and report.model_commit != commit:
            return f"RevisionMismatch: {moved(record.spec.model, report, str(commit))}"
        name = next(t.name for t in record.spec.trials if t.seed == trial.seed)
        result = next((r for r in report.trials if r.name == name), None)
        if result is None:
            return (
                f"{report.reason or record.reason or 'ReportIncomplete'}{': ' + report.error if report.error else ''}"
            )
        if result.outcome is not Outcome.MEASURED or result.score is None:
            return f"{result.outcome.value}{': ' + result.message if result.message else ''}"
        return result

    def _compared(self, i: int, record: ProbeRecord, result: TrialResult) -> Confirmed:
        made = self._told(i, "True", "WithinInterval", "", record, result=result)
        told = made.status
        assert told.actual is not None and told.lower is not None and told.upper is not None
        within = told.lower <= told.actual <= told.upper
        said = (
            f"{self.space.label(i)} measured {told.actual} in full on {result.items} items; "
            f"{told.predicted} was predicted, {told.lower} to {told.upper} with 90%"
        )[:1024]
        reason, status = ("WithinInterval", "True") if within else ("OutsideInterval", "False")
        return Confirmed(
            told.model_copy(update={"reason": reason, "message": said}),
            made.condition.model_copy(update={"status": status, "reason": reason, "message": said}),
        )

    def _told(
        self,
        i: int | None,
        truth: Literal["True", "False", "Unknown"],
        reason: str,
        message: str,
        record: ProbeRecord | None = None,
        *,
        flying: bool = False,
        result: TrialResult | None = None,
    ) -> Confirmed:
        own = [r for r in self.records if not r.reused]
        fields: dict[str, object] = {}
        if i is not None:
            trial = trial_of(self.spec, self.space, self.known, i)
            quality = self._quality(i, trial, result)
            low, high = quality.interval(0.9)
            predicted = number(float(quality.median()[0]))
            accelerator = self.space.accelerators[self.space.accelerator[i]]
            ended = record if record is not None and record.state not in IN_FLIGHT and not record.reused else None
            seconds = self._seconds(i, trial)[0]
            fields = {
                "candidate": self.space.label(i),
                "predicted": predicted,
                "lower": number(float(low[0])),
                "upper": number(float(high[0])),
                "cost": ConfirmationCost(
                    predicted=expected(seconds, self.prices.per_second(accelerator)),
                    actual=None if ended is None else ended.cost,
                    predicted_accelerator_seconds=number(seconds * accelerator.count, 4),
                    actual_accelerator_seconds=None if ended is None else number(ended.seconds, 9),
                    flops=number(sum(flops for _, flops, _ in self._work(i, trial)), 4),
                ),
            }
            if result is not None and result.score is not None:
                actual = number(float(result.score))
                fields |= {"actual": actual, "error": actual - predicted, "items": result.items}
        status = Confirmation(
            **fields,
            spent=sum((r.cost for r in own), Decimal(0)),
            reserved=sum((r.reserved for r in own if r.state in IN_FLIGHT), Decimal(0)),
            accelerator_seconds=number(sum(r.seconds for r in own), 9),
            reason=reason,
            message=message[:1024],
        )
        return Confirmed(
            status, Condition(type="Confirmed", status=truth, reason=reason, message=message[:1024]), None, flying
        )

    def _quality(self, i: int, trial: Trial, result: TrialResult | None) -> Posterior:
        """What the run would measure: the forecast, wider by the sampling error of its items."""
        quality = self.columns.quality.take(np.array([i]))
        link = quality.link
        seen = observed(result, link) if result is not None else None
        if seen is not None:
            error = seen[1]
        elif link is Link.LOGIT:
            p = float(np.clip(quality.median()[0], 0.005, 0.995))
            error = float(1 / np.sqrt(trial.fidelity.evaluation_items * p * (1 - p)))
        else:
            error = 0.0
        return Posterior(quality.mean, np.hypot(quality.sd, error), link)


def in_flight(records: Sequence[ProbeRecord]) -> bool:
    """Whether a confirming run, of whatever answer, has not ended."""
    return any(r.confirming and r.state in IN_FLIGHT for r in records)
