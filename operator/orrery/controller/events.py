"""Kubernetes Events: what happened to a plan, for ``kubectl describe``, and in the log, which keeps it for longer.

Best effort: nothing waits for them or rests on them.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import queue
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from orrery.api.base import API_VERSION
from orrery.api.plan import AdaptationPlan
from orrery.api.probe import Attempt
from orrery.api.status import PlanStatus
from orrery.controller.server import EVENTS, Object, Server, ServerError
from orrery.planning.types import ProbeRequest

log = logging.getLogger(__name__)

_REMEMBERED = 10_000
#: Events that wait to be written; more are dropped, since old news is the least worth.
_WAITING = 10_000


@dataclass
class Recorder:
    """Writes Events; the same one (object, reason, message) is written once, whatever is reconciled how often."""

    server: Server
    instance: str = "orrery"
    _told: dict[str, None] = field(default_factory=dict)
    _waiting: queue.Queue[Object | None] | None = field(default=None, init=False)

    def start(self) -> None:
        """From now on ``run`` writes, so that nobody who works on a plan waits for news about it."""
        self._waiting = queue.Queue(_WAITING)

    def run(self) -> None:
        """Write until ``close``; in a thread, after ``start``."""
        while self._waiting is not None and (event := self._waiting.get()) is not None:
            self._write(event)

    def close(self) -> None:
        """``run`` returns after what it has."""
        if self._waiting is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(None)

    def started(self, plan: AdaptationPlan, started: Sequence[tuple[ProbeRequest, int]]) -> None:
        """Probe attempts were started: one Event for all that one look at the plan has started."""
        if not started:
            return
        request, number = started[0]
        message = f"{request.name}, attempt {number}: {request.reason}; {request.reservation} reserved"
        if len(started) > 1:
            total = sum((r.reservation for r, _ in started), Decimal(0))
            message = (
                f"{len(started)} probes, {total} reserved; the first is {message}; the others are "
                f"{', '.join(r.name for r, _ in started[1:])}"
            )
        self._record(_reference(plan), "Normal", "ProbeStarted", message)

    def pending(self, body: Object, probe: str, attempt: Attempt) -> None:
        """A probe waits for something that a person may have to give it."""
        if attempt.message and attempt.reason not in (None, "Pending"):
            self._record(_owner(body), "Warning", "ProbePending", f"{probe}: {attempt.reason}: {attempt.message}")

    def server_lacks(self, body: Object, sentence: str) -> None:
        """The API server accepted something and left a part of it out."""
        self._record(_owner(body), "Warning", "ServerLacksFeature", sentence)

    def attempts_ended(self, body: Object, attempts: Sequence[tuple[str, Attempt]]) -> None:
        """Probe attempts ended: one Event for all that one look found to have succeeded, and one for each failure."""
        succeeded = []
        for probe, attempt in attempts:
            if attempt.phase == "Succeeded":
                succeeded.append((probe, attempt))
                continue
            told = f": {attempt.message}" if attempt.message else ""
            message = f"{probe}, attempt {attempt.number}, cost {attempt.cost}{told}"
            self._record(_owner(body), "Warning", "ProbeFailed", message)
        if succeeded:
            named = [f"{probe}, attempt {attempt.number}, cost {attempt.cost}" for probe, attempt in succeeded]
            message = named[0] if len(named) == 1 else f"{len(named)} probes: {'; '.join(named)}"
            self._record(_owner(body), "Normal", "ProbeSucceeded", message)

    def answered(self, plan: AdaptationPlan, status: PlanStatus, before: Object) -> None:
        """The plan has an answer, or needs a person, as it did not before."""
        if status.phase not in ("Answered", "Infeasible", "Failed", "Stalled"):
            return
        ready = next(c for c in status.conditions if c.type == "Ready")
        message = (status.recommendation and status.recommendation.message) or ready.message
        old = before.get("status") or {}
        told = [c.get("message") for c in old.get("conditions") or [] if c.get("type") == "Ready"]
        told.append((old.get("recommendation") or {}).get("message"))
        if status.phase == old.get("phase") and message in told:
            return
        reason = ready.reason if status.phase == "Stalled" else status.phase
        self._record(_reference(plan), "Normal" if status.phase == "Answered" else "Warning", reason, message)

    def confirmed(self, plan: AdaptationPlan, status: PlanStatus) -> None:
        """A full run of the recommended candidate has ended, as forecast or not."""
        for condition in status.conditions:
            if condition.type == "Confirmed" and condition.status != "Unknown":
                kind = "Normal" if condition.status == "True" else "Warning"
                reason = "Confirmed" if condition.status == "True" else condition.reason
                self._record(_reference(plan), kind, reason, condition.message)

    def stalled(self, body: Object, reason: str, sentence: str) -> None:
        """A person must act."""
        self._record(_owner(body), "Warning", reason, sentence)

    def _record(self, involved: Object, kind: str, reason: str, message: str) -> None:
        identity = hashlib.sha256(f"{involved['uid']}\0{reason}\0{message}".encode()).hexdigest()[:16]
        if identity in self._told:
            return
        self._told[identity] = None
        while len(self._told) > _REMEMBERED:
            self._told.pop(next(iter(self._told)))
        log.info("%s/%s: %s: %s", involved["namespace"], involved["name"], reason, message)
        now = datetime.now(UTC)
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{involved['name'][:200]}.{identity}", "namespace": involved["namespace"]},
            "involvedObject": involved,
            "reason": reason,
            "message": message[:1024],
            "type": kind,
            "action": reason,
            "reportingComponent": "orrery.dev/operator",
            "reportingInstance": self.instance[:128],
            "source": {"component": "orrery"},
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "count": 1,
        }
        if self._waiting is None:
            self._write(event)
            return
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            log.debug("event %s dropped: %d wait already", reason, _WAITING)

    def _write(self, event: Object) -> None:
        try:
            self.server.create(EVENTS, event)
        except ServerError as error:
            log.debug("event %s not written: %s", event["reason"], error)


def _reference(plan: AdaptationPlan) -> Object:
    return _involved(plan.metadata.name, plan.metadata.namespace, plan.metadata.uid)


def _owner(body: Object) -> Object:
    meta = body["metadata"]
    return _involved(meta["name"], meta["namespace"], meta.get("uid", ""))


def _involved(name: str, namespace: str, uid: str) -> Object:
    return {"apiVersion": API_VERSION, "kind": "AdaptationPlan", "name": name, "namespace": namespace, "uid": uid}
