"""How attempts fare: look at their Jobs and Pods, and write down what became of them.

A report is copied to the probe before anything is concluded from it. What several probes of a plan need is asked and written
side by side; they are judged one after another, in the order of their names, so that equal worlds give equal verdicts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from orrery.api.probe import Attempt, ProbeStatus
from orrery.controller import attempts as ended
from orrery.controller.attempts import Accelerated
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL
from orrery.controller.probe_store import ProbeStore
from orrery.controller.records import Probe
from orrery.controller.server import JOBS, PLANS, PODS, WORKLOADS, NotFound, Object, Refused
from orrery.controller.world import key_of
from orrery.planning.reports import merge

#: How long a Job may go without having finished before one looks how its Pod fares.
PENDING_SECONDS = 3.0
#: How often one looks again.
LOOK_SECONDS = 15.0
#: A reservation without a Job is given back after this long: a request that was sent to make it can no longer arrive.
VOID_SECONDS = 90.0

_PROBE_PHASES = {
    "Reserved": "Pending",
    "Queued": "Queued",
    "Running": "Running",
    "Succeeded": "Succeeded",
    "Failed": "Failed",
}


@dataclass(frozen=True)
class _Sight:
    """What was found of an attempt that is open; ``seen`` when that says already how it stands."""

    probe: Probe
    attempt: Attempt
    job: Object | None = None
    pods: tuple[Object, ...] = ()
    queue_says: str | None = None
    again: float = PENDING_SECONDS
    seen: ended.Seen | None = None
    judged: bool = True  #: whether there is enough to say how it stands


@dataclass(frozen=True)
class Observing(ProbeStore):
    """Brings the attempts of probes up to date with the cluster."""

    def observe(self, plan: Object, probes: Iterable[Probe]) -> float | None:
        """Bring attempts in flight up to date with their Jobs; seconds until one wants to be looked at again.

        A shared probe is its payer's to look at, as long as there is that plan: two would only get into each other's way.
        """
        namespace, name = key_of(plan)
        due = []
        for probe in probes:
            last = probe.status.attempts[-1] if probe.status.attempts else None
            if last is None or last.cost is not None:
                continue
            if last.paid_by in (name, None) or self.world.version(PLANS, (namespace, last.paid_by)) is None:
                due.append((probe, last))
        if not due:
            return None
        sights = self.telling.map(lambda pair: self._find(plan, *pair), due)
        changed = []
        digests: dict[str, list[str]] = {}
        for sight in sights:
            found = sight.seen or self._judge(plan, sight, digests)
            if found is not None and found.attempt != sight.attempt:
                changed.append((sight.probe, found))
            elif found is not None and found.ended:
                self.world.forget_pods((namespace, sight.probe.name, str(sight.attempt.number)))
        try:
            self.telling.map(lambda pair: self._write(plan, *pair), changed)
        finally:
            self.recorder.ended(plan, [(p.name, f.attempt) for p, f in changed if f.ended and self._is_told(plan, p)])
        return min(sight.again for sight in sights)
