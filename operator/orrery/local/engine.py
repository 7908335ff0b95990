"""The loop: read what is known, ask ``advance`` what follows, start it, wait, and again.

Every turn starts from the state folder, so there is nothing to restore after a crash: a run that was killed and one that
begins are the same. The order of writing is what makes that true. Money is reserved on disk before a process exists; the
process holds its attempt's lock from before it exists; its end is written by its shepherd, not by this program. What is
found half done is therefore either still running (it is waited for, since it is paid for) or over (it is settled).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from subprocess import Popen
from typing import Protocol

from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.costs.prices import Prices
from orrery.local import processes
from orrery.local.attempts import probing_seconds, timestamp
from orrery.local.files import StateError, only_run
from orrery.local.publish import check_inputs, publish, write_inputs
from orrery.local.reuse import copy_measurements
from orrery.local.store import REPORT, SPEC, AttemptFolder, Store
from orrery.planning.evidence import obsolete
from orrery.planning.reports import left_to_do
from orrery.planning.types import Facts, ProbeRecord, ProbeRequest, Step, is_confirming

Advance = Callable[[AdaptationPlan, Sequence[ProbeRecord], PriceList, Facts], Step]


class Observer(Protocol):
    """Is told what happens, for the screen."""

    def step(self, step: Step, records: Sequence[ProbeRecord]) -> None:
        """Something was decided."""

    def started(self, request: ProbeRequest, attempt: AttemptFolder) -> None:
        """A probe was started."""

    def adopted(self, attempt: AttemptFolder) -> None:
        """A probe of an earlier run is still running, and is waited for."""

    def ended(self, attempt: AttemptFolder) -> None:
        """A probe's cost and outcome are known."""

    def reused(self, trials: int) -> None:
        """Measurements of other plans were taken over."""

    def waiting(self) -> None:
        """Called some times a second while probes run."""


@dataclass
class Stop:
    """Whether the run was asked to end: once, with time for last reports; twice, at once."""

    asked: int = 0

    def ask(self, *_: object) -> None:
        """Also a signal handler."""
        self.asked += 1


@dataclass(frozen=True)
class Settings:
    """How this machine runs probes.

    ``command`` gives the command line of a probe from its spec and where the report is to be written. ``reuse`` is a root
    of other plans' state folders. ``memory_bytes`` bounds a probe's address space; off by default, since torch reserves
    far more than it uses.
    """

    state: Path
    command: Callable[[Path, Path], Sequence[str]]
    reuse: Path | None = None
    grace_seconds: float = 5.0
    memory_bytes: int | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    poll_seconds: float = 0.05


@dataclass(frozen=True)
class Answer:
    """How a run ended, with the last step."""

    step: Step
    records: Sequence[ProbeRecord]
    interrupted: bool = False
    out_of_time: bool = False


def run(
    plan: AdaptationPlan,
    prices: PriceList,
    facts: Facts,
    settings: Settings,
    advance: Advance,
    observer: Observer,
    stop: Stop,
) -> Answer:
    """Answer the plan, as far as its budget and time reach.

    Raises StateBusy when another run has the state folder and StateError when it cannot be read.
    """
    with only_run(settings.state):
        return _Run(plan, prices, facts, settings, advance, observer, stop).to_the_end()


def without_starts(step: Step, records: Sequence[ProbeRecord]) -> Step:
    """The step of a run that is ending: what it would have started is not, and no money is set aside for it."""
    spend = step.status.spend
    if spend is not None:
        held = sum((record.reserved for record in records if not record.confirming), Decimal(0))
        spend = spend.model_copy(update={"reserved": held})
    confirmation = step.status.confirmation
    if confirmation is not None:
        held = sum((record.reserved for record in records if record.confirming), Decimal(0))
        confirmation = confirmation.model_copy(update={"reserved": held})
    told = step.status.model_copy(update={"spend": spend, "confirmation": confirmation})
    return replace(step, start=(), status=told)


class _Run:
    def __init__(
        self,
        plan: AdaptationPlan,
        prices: PriceList,
        facts: Facts,
        settings: Settings,
        advance: Advance,
        observer: Observer,
        stop: Stop,
    ) -> None:
        self.plan, self.prices, self.facts, self.settings = plan, prices, facts, settings
        self.advance, self.observer, self.stop = advance, observer, stop
        self.store = Store(settings.state, facts.task.digest if facts.task else None)
        self.children: dict[Path, Popen[bytes]] = {}

    def to_the_end(self) -> Answer:
        check_inputs(self.settings.state, self.plan, self.prices)
        write_inputs(self.settings.state, self.plan, self.prices)
        if self.settings.reuse is not None and (
            trials := copy_measurements(self.store, self.settings.reuse, self.plan)
        ):
            self.observer.reused(trials)
        for attempt in self._in_flight():
            if processes.alive(attempt.folder):
                self.observer.adopted(attempt)
        while True:
            for ended in self.store.settle_ended(time.time(), frozenset(self.children)):
                self._reap(ended.folder)
                self.observer.ended(ended)
            records = self.store.records()
            running = self._in_flight()
            self._end_obsolete(records, running)
            out_of_time = self._out_of_time()
            facts = replace(self.facts, out_of_time=out_of_time)
            step = self.advance(*self._question(records, out_of_time), self.prices, facts)
            ending = bool(self.stop.asked) or out_of_time
            if ending:
                step = without_starts(step, records)
            publish(self.settings.state, self.plan, step, time.time())
            self.observer.step(step, records)
            if (step.finished or ending) and not running:
                interrupted = bool(self.stop.asked) and not step.finished
                return Answer(step, records, interrupted, out_of_time)
            if not ending:
                running += [self._start(request, records) for request in step.start]
            if not running:
                raise StateError(
                    f"the planner neither started a probe nor finished ({step.reason}: {step.message}); please report "
                    f"this with the folder {self.settings.state}"
                )
            self._wait(running)

    def _end_obsolete(self, records: Sequence[ProbeRecord], running: Sequence[AttemptFolder]) -> None:
        """What an earlier run started and the plan, edited since, does not ask for; saying it again does no harm."""
        names = {record.name for record in obsolete(self.plan.spec, records)}
        for attempt in running:
            if attempt.probe in names:
                processes.terminate(attempt.folder)

    def _in_flight(self) -> list[AttemptFolder]:
        return [attempt for attempt in self.store.all_attempts() if attempt.in_flight]

    def _question(
        self, records: Sequence[ProbeRecord], out_of_time: bool
    ) -> tuple[AdaptationPlan, Sequence[ProbeRecord]]:
        """The plan to ask about: out of time, the same with nothing more to be started, so that it answers as it can."""
        if not out_of_time:
            return self.plan, records
        asked = max(1, sum(not record.reused for record in records))
        probing = self.plan.spec.probing.model_copy(update={"max_probes": asked, "retries": 0})
        spec = self.plan.spec.model_copy(update={"probing": probing})
        return self.plan.model_copy(update={"spec": spec}), [replace(record, retryable=False) for record in records]

    def _out_of_time(self) -> bool:
        limit = self.plan.spec.active_deadline_seconds
        if limit is None:
            return False
        return probing_seconds((a.record for a in self.store.all_attempts()), time.time()) >= limit

    def _start(self, request: ProbeRequest, records: Sequence[ProbeRecord]) -> AttemptFolder:
        self._within_budget(request)
        earlier = next((record for record in records if record.name == request.name), None)
        spec = left_to_do(request.spec, earlier.report if earlier else None) or request.spec
        accelerator = next(a for a in self.plan.spec.accelerators if a.name == spec.accelerator)
        attempt = self.store.reserve(
            request, spec, Prices(self.prices).per_hour(accelerator), accelerator.count, timestamp(time.time())
        )
        threads = accelerator.count if accelerator.resource is None else 1
        self.children[attempt.folder] = processes.start(
            attempt.folder,
            self.settings.command((attempt.folder / SPEC).resolve(), (attempt.folder / REPORT).resolve()),
            deadline_seconds=spec.deadline_seconds,
            grace_seconds=self.settings.grace_seconds,
            memory_bytes=self.settings.memory_bytes,
            environment=processes.probe_environment(threads, self.settings.environment),
        )
        self.observer.started(request, attempt)
        return attempt

    def _within_budget(self, request: ProbeRequest) -> None:
        """The budgets are the planner's to keep; here they are checked once more, where the money is about to be spent."""
        confirming, budgets = is_confirming(request.spec), self.plan.spec
        cap, field = budgets.budget.max_probe_cost, "spec.budget.maxProbeCost"
        if confirming:
            cap = budgets.confirm.budget.max_cost if budgets.confirm.budget is not None else Decimal(0)
            field = "spec.confirm.budget.maxCost"
        spent = sum(
            (
                a.record.cost if a.record.ended else a.record.reserved
                for a in self.store.all_attempts()
                if is_confirming(self.store.spec(a.folder / SPEC)) is confirming
            ),
            Decimal(0),
        )
        if spent + request.reservation > cap:
            raise StateError(
                f"the planner asked for {request.name} with {request.reservation} on top of {spent}, beyond "
                f"{field} {cap}; nothing was started, please report this"
            )

    def _wait(self, running: Sequence[AttemptFolder]) -> None:
        """Until one of the probes has ended. When the run is to end, until all have, after telling them so."""
        told = 0
        since = time.monotonic()
        while True:
            alive = [attempt for attempt in running if processes.alive(attempt.folder)]
            ending = self.stop.asked > 0 or self._out_of_time_since(since)
            if not alive or (len(alive) < len(running) and not ending):
                return
            if ending and told < max(1, min(self.stop.asked, 2)):
                # A shepherd that has not begun yet cannot be told: it is told on a later turn.
                if all((attempt.folder / "started.json").exists() for attempt in alive):
                    told = max(1, min(self.stop.asked, 2))
                for attempt in alive:
                    processes.terminate(attempt.folder, at_once=self.stop.asked > 1)
            self.observer.waiting()
            time.sleep(self.settings.poll_seconds)

    def _out_of_time_since(self, since: float) -> bool:
        # Reading every record many times a second is not needed where there is no limit, or it cannot have come yet.
        return self.plan.spec.active_deadline_seconds is not None and (
            time.monotonic() - since >= self.plan.spec.active_deadline_seconds or self._out_of_time()
        )

    def _reap(self, folder: Path) -> None:
        if child := self.children.pop(folder, None):
            child.wait()
