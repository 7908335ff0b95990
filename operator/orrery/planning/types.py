"""What goes into ``advance`` and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from orrery.api.models import ModelFacts
from orrery.api.probe import ProbeSpec, Report, TaskFacts
from orrery.api.quantities import Interval
from orrery.api.status import PlanStatus

#: Seeds of confirming runs begin here, past all that ``probing.seed`` and its repetitions can be; below 2^32.
CONFIRMING_SEED = 2**31 + 16


def is_confirming(spec: ProbeSpec) -> bool:
    """Whether a probe confirms an answer rather than looks for one."""
    return all(trial.seed >= CONFIRMING_SEED for trial in spec.trials)


class ProbeState(StrEnum):
    """Where a probe's latest attempt stands."""

    RESERVED = "Reserved"  #: money set aside, not yet started
    QUEUED = "Queued"  #: waiting for capacity
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"  #: a complete report
    FAILED = "Failed"  #: the latest attempt ended without a complete report; its partial report counts
    INTERRUPTED = "Interrupted"  #: likewise, and not by its own doing: preempted, deleted, or its plan's time was over


@dataclass(frozen=True)
class ProbeRecord:
    """A probe as the shell finds it in the world: what was asked, what it cost so far, what it reported.

    ``cost`` is money already spent on finished attempts, at the prices of the day they ran; ``reserved`` the worst case of
    the attempt in flight. A record that another plan paid for (``reused``) costs this plan nothing.
    """

    name: str
    spec: ProbeSpec
    state: ProbeState
    attempts: int
    cost: Decimal
    reserved: Decimal
    seconds: float  #: accelerator-seconds of finished attempts
    report: Report | None = None
    reused: bool = False
    retryable: bool = True  #: whether the last failure may go away when tried again
    reason: str = ""
    message: str = ""

    @property
    def confirming(self) -> bool:
        """Whether it confirms an answer: it is no evidence, and has a budget of its own."""
        return is_confirming(self.spec)


@dataclass(frozen=True)
class ProbeRequest:
    """A probe attempt to start now, with the money to set aside first."""

    name: str
    spec: ProbeSpec
    attempt: int  #: 1 for the first
    reservation: Decimal  #: deadline x price: the worst case
    expected_cost: Decimal
    reason: str  #: why this one: for the event and the table


@dataclass(frozen=True)
class Facts:
    """What the shell knows without measuring: sizes by model name, and the data if it could read it."""

    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    task: TaskFacts | None = None
    uncertain: Mapping[str, str] = field(default_factory=dict)  #: by model name, why its sizes are
    out_of_time: bool = False  #: the plan may not probe any longer


@dataclass(frozen=True)
class ResultRow:
    """One candidate with everything known of it; all rows go to the results object, none is dropped."""

    candidate: str
    model: str
    strategy: str
    type: str
    configuration: tuple[tuple[str, str], ...]
    accelerator: str
    quality: Interval | None
    adaptation_cost: Interval | None
    serving_cost: Interval | None
    total_cost: Interval | None
    latency_milliseconds: float | None
    adaptation_flops: float | None
    serving_flops: float | None
    memory_bytes: float | None
    measured: bool
    feasible_probability: float
    status: str  #: Recommended, Alternative, Rejected
    reason: str  #: a sentence with its arithmetic
    gated: bool = False  #: refused on paper or by what probes ran into, at any price
    accelerator_hours: float | None = None  #: adapting and serving over the horizon
    cost_of_pass: float | None = None  #: expected money per right answer over the horizon (bounded metrics)


@dataclass(frozen=True)
class Step:
    """What follows from what is known: deterministic, the same inputs give the same bytes."""

    start: Sequence[ProbeRequest]  #: attempts to start now, best first; never more than budget and parallelism allow
    finished: bool  #: nothing is to be started any more, and nothing is running
    reason: (
        str  #: CamelCase: Probing, AnswerSettled, BudgetExhausted, ProbesExhausted, Infeasible, Suspended, InvalidPlan
    )
    message: str
    status: PlanStatus  #: without timestamps and observedGeneration, which shells stamp
    rows: Sequence[ResultRow]
