"""Quality, cost, latency and memory of every candidate, as columns; and the gates' verdicts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import ModelFacts
from orrery.api.plan import PlanSpec
from orrery.api.probe import TaskFacts
from orrery.api.task import MetricName, Task, TaskType
from orrery.costs.accelerators import AcceleratorFacts, describe
from orrery.costs.forecast import CostForecasts, forecast_costs, hosted_costs, requests_over_horizon
from orrery.costs.lengths import AnswerLengths
from orrery.costs.prices import Prices
from orrery.costs.serving import hosted_cost, serve, serving_seconds
from orrery.costs.throughput import Observation, Throughput, WorkKind, effort
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior
from orrery.planning.candidates import CandidateGroup, Space
from orrery.planning.evidence import Known
from orrery.planning.gates import Reasons, admitted, gate_context, gate_measured, gate_memory, memory_of
from orrery.strategies.base import Evidence, Group, Sibling
from orrery.strategies.tokens import UNKNOWN_MODEL, answer_lengths

Array = NDArray[np.float64]

#: Extra sd of log seconds when a model's sizes are a guess: from a tenth to ten times.
_UNKNOWN_SIZE_SD = 1.4
#: Work of a model is taken to be this much slower for every probe of it that met its deadline: such a probe reports no
#: speed, and without this the next one would run into the same wall.
_LATE_FACTOR = 2.0


@dataclass(frozen=True)
class Columns:
    """Everything forecast, one entry a candidate (N,)."""

    configured: NDArray[np.intp]  #: which (model, strategy, configuration); the same on every accelerator
    quality: Posterior
    measured: NDArray[np.bool_]
    adaptation: Posterior
    serving: Posterior
    total: Posterior
    latency: Posterior  #: seconds
    adaptation_flops: Array
    serving_flops: Array
    accelerator_hours: Array
    memory: Array
    rejected: Reasons  #: the gates' sentence, or None
    remarks: Mapping[int, Sequence[str]]  #: by group
    hurts: Array  #: P(worse than the model as it is): negative transfer; NaN where nothing is adapted or measured


def link_of(task: Task) -> Link:
    """The scale on which the task's scores are forecast."""
    return Link.LOGIT if task.metric.bounded else Link.LOG


def chance_of(task: Task, facts: TaskFacts | None) -> float:
    """Score of guessing; 0 where nothing can be guessed."""
    if task.metric.name is MetricName.NEGATIVE_LOG_LIKELIHOOD or task.type is TaskType.GENERATION:
        return 0.0
    if facts is not None and facts.chance is not None and 0 <= facts.chance < 1:
        return float(facts.chance)
    return 1.0 / facts.labels if facts is not None and facts.labels > 1 else 0.25


class Groups:
    """The groups of a plan as strategies see them: built once a step, again for a model whose evidence changes."""

    def __init__(self, spec: PlanSpec, space: Space, known: Known) -> None:
        self.spec, self.space, self.known = spec, space, known
        self.link, self.chance = link_of(spec.task), chance_of(spec.task, known.task_facts)

    def build(self, g: int, more: Sequence[Evidence] = ()) -> Group:
        """Group ``g``, with further (imagined) evidence of its model."""
        group = self.space.groups[g]
        name = group.model.name
        evidence = self.known.evidence
        others = [s for s in self._measured if s.model.name != name]
        return Group(
            model=group.model,
            task=self.spec.task,
            probing=self.spec.probing,
            facts=self.known.model_facts.get(name),
            task_facts=self.known.task_facts,
            columns=group.columns,
            size=group.size,
            evidence=[*evidence.get(name, ()), *more],
            link=self.link,
            chance=self.chance,
            siblings=[s for s in others if s.model.family is not None and s.model.family == group.model.family],
            peers=others,
        )

    @cached_property
    def _measured(self) -> list[Sibling]:
        """Every measured model."""
        known = self.known
        return [
            Sibling(m, known.model_facts.get(m.name), tuple(known.evidence[m.name]))
            for m in self.spec.models
            if m.name in known.evidence
        ]


class Clock:
    """Seconds of work: calibrated throughput, and load times as measured or guessed from the model's size."""

    def __init__(self, spec: PlanSpec, known: Known) -> None:
        self.known = known
        self.accelerators: list[AcceleratorFacts] = [describe(a) for a in spec.accelerators]
        self.by_name = {a.name: a for a in self.accelerators}
        self.throughput = Throughput.fit(
            [
                Observation(model, self.by_name[where], kind, flops, seconds, passes, runs)
                for (model, where, kind), (flops, seconds, passes, runs) in sorted(known.work.items())
            ]
        )
        self._pace: dict[tuple[str, str, WorkKind], tuple[float, float]] = {}  # ln seconds a FLOP, and its sd

    def seconds(
        self, model: str, accelerator: str, kind: WorkKind, flops: Array, pass_flops: Array | None = None
    ) -> Posterior:
        """Seconds of each amount of work (n,), wider when the model's size is a guess; no work takes none."""
        key = model, accelerator, kind
        if key not in self._pace:
            one = self.throughput.seconds(model, self.by_name[accelerator], kind, np.ones(1), runs=0.0)
            guess = 0.0 if model in self.known.model_facts else _UNKNOWN_SIZE_SD
            late = min(self.known.late[model, accelerator], 4) * np.log(_LATE_FACTOR)
            self._pace[key] = float(one.mean[0] + late), float(np.hypot(one.sd[0], guess))
        mean, sd = self._pace[key]
        work = np.asarray(flops, dtype=np.float64)
        if pass_flops is not None:
            work = effort(self.by_name[accelerator], work, pass_flops, kind)
        return Posterior(mean + np.log(np.maximum(work, 1e-12)), np.where(work > 0, sd, 0.0), Link.LOG)

    def load_seconds(self, model: str, accelerator: str) -> float:
        """Median of measured loads, else the weights read at 0.5 GB/s after ten seconds of start-up."""
        seen = self.known.load_seconds.get((model, accelerator))
        if seen:
            return statistics.median(seen)
        facts = self.known.model_facts.get(model, UNKNOWN_MODEL)
        return 10.0 + 2.0 * facts.parameters / 0.5e9


def forecast(spec: PlanSpec, space: Space, known: Known, groups: Groups, clock: Clock, prices: Prices) -> Columns:
    """Forecasts of all candidates. Prices must exist (``Prices.per_second`` raises otherwise)."""
    n = len(space)
    names = ("mean", "sd", "a_mean", "a_sd", "s_mean", "s_sd", "t_mean", "t_sd", "l_mean", "l_sd", "a_flops", "s_flops")
    out = {name: np.zeros(n) for name in (*names, "hours", "memory")}
    measured = np.zeros(n, dtype=np.bool_)
    rejected: Reasons = np.full(n, None, dtype=object)
    remarks: dict[int, Sequence[str]] = {}
    hurts = np.full(n, np.nan)
    requests = requests_over_horizon(spec.workload)
    for g, group in enumerate(space.groups):
        view = groups.build(g)
        facts = known.model_facts.get(group.model.name)
        quality = group.plugin.forecast(view)
        said = list(quality.remarks)
        if group.model.name in known.uncertain:
            said.append(f"Its sizes are uncertain, since {known.uncertain[group.model.name]}")
        if said:
            remarks[g] = said
        lengths = answer_lengths(known.evidence.get(group.model.name, ()), group.plugin.type)
        output = lengths.mean if lengths is not None else _float(spec.workload.output_tokens)
        work = group.plugin.work(view, _float(spec.workload.input_tokens), output)
        always = _always_rejected(group, known, gate_context(group, work, facts))
        for a, accelerator in enumerate(clock.accelerators):
            rows = space.rows(g, a)
            out["mean"][rows], out["sd"][rows] = quality.posterior.mean, quality.posterior.sd
            measured[rows] = quality.measured
            if quality.hurts is not None:
                hurts[rows] = quality.hurts
            costs, hours = _costs(spec, group, work, facts, clock, a, prices, lengths)
            for key, p in (("a", costs.adaptation), ("s", costs.serving), ("t", costs.total), ("l", costs.latency)):
                out[f"{key}_mean"][rows], out[f"{key}_sd"][rows] = p.mean, p.sd
            out["a_flops"][rows], out["s_flops"][rows] = work.adaptation_flops, work.request_flops * requests
            out["hours"][rows], out["memory"][rows] = (
                hours,
                memory_of(work, accelerator).needed if facts is not None else 0.0,
            )
            verdicts = (
                always,
                gate_measured(group, work, known.evidence.get(group.model.name, ()), accelerator, facts is not None),
                gate_memory(group, work, facts, accelerator),
            )
            rejected[rows] = _first(verdicts)
    log = {k: Posterior(out[f"{k}_mean"], out[f"{k}_sd"], Link.LOG) for k in ("a", "s", "t", "l")}
    return Columns(
        configured=space.configured,
        quality=Posterior(out["mean"], out["sd"], groups.link),
        measured=measured,
        adaptation=log["a"],
        serving=log["s"],
        total=log["t"],
        latency=log["l"],
        adaptation_flops=out["a_flops"],
        serving_flops=out["s_flops"],
        accelerator_hours=out["hours"],
        memory=out["memory"],
        rejected=rejected,
        remarks=remarks,
        hurts=hurts,
    )


def _costs(
    spec: PlanSpec,
    group: CandidateGroup,
    work: Work,
    facts: ModelFacts | None,
    clock: Clock,
    a: int,
    prices: Prices,
    lengths: AnswerLengths | None,
) -> tuple[CostForecasts, Array]:
    accelerator, model = clock.accelerators[a], group.model.name
    training = group.plugin.training
    kind = WorkKind.of(training) if training is not None else WorkKind.INFERENCE
    adaptation = clock.seconds(model, accelerator.name, kind, work.adaptation_flops, work.adaptation_pass_flops)
    request = clock.seconds(model, accelerator.name, WorkKind.INFERENCE, work.request_flops)
    served = serve(
        work,
        request,
        facts or UNKNOWN_MODEL,
        accelerator,
        spec.workload,
        group.model.precision,
        spec.task.type is TaskType.GENERATION,
        lengths,
    )
    if group.model.hosted_as is not None and training is None:
        price = prices.hosted(model, group.model.hosted_as)
        return hosted_costs(served, hosted_cost(work, price, spec.workload, lengths)), np.zeros(group.size)
    costs = forecast_costs(adaptation, served, prices.per_second(spec.accelerators[a]), spec.workload)
    adapting = np.where(work.adaptation_flops > 0, adaptation.median(), 0.0)
    hours = (adapting + serving_seconds(served, spec.workload).median()) / 3600 * spec.accelerators[a].count
    return costs, hours


def _always_rejected(group: CandidateGroup, known: Known, context: Reasons) -> Reasons:
    """Verdicts that hold on every accelerator."""
    whole = group.refusal or known.lost_models.get(group.model.name)
    if whole is None:
        return context
    reasons: Reasons = np.full(group.size, whole, dtype=object)
    return reasons


def _first(verdicts: Sequence[Reasons]) -> Reasons:
    out = verdicts[0].copy()
    for other in verdicts[1:]:
        empty = admitted(out)
        out[empty] = other[empty]
    return out


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
