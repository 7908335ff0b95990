"""A Lease so that two operators never both spend.

Kopf's peering is a priority, not a lock, and a Deployment with ``Recreate`` may still overlap when a node hangs. Whoever holds
the Lease may write; the fence closes on this side before it can open on the other: we stop after ``renew_deadline`` without a
successful renewal, others take over only after ``duration``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orrery.controller.server import LEASES, Conflict, NotFound, Object, Server, ServerError

log = logging.getLogger(__name__)


@dataclass
class Fence:
    """Holds (or waits for) one Lease in a thread of its own."""

    server: Server
    namespace: str
    identity: str
    name: str = "orrery-operator"
    duration: float = 30.0
    renew_deadline: float = 20.0
    period: float = 5.0
    clock: Callable[[], float] = time.monotonic
    on_renewed: Callable[[Object], None] = lambda lease: None
    term: int = field(default=0, init=False)  #: counts the times it was acquired, so that one can tell that it was lost
    _held_until: float = field(default=float("-inf"), init=False)
    _seen: tuple[str, float] = field(default=("", 0.0), init=False)
    _holder: str = field(default="", init=False)  #: who held it when last told
    _stop: threading.Event = field(default_factory=threading.Event, init=False)

    def may_write(self) -> bool:
        """Whether the Lease is surely ours for now."""
        return self.clock() < self._held_until

    def run(self) -> None:
        """Acquire and renew until ``release``; call in a thread."""
        while not self._stop.is_set():
            self.attempt()
            self._stop.wait(self.period)

    def attempt(self) -> bool:
        """One try to acquire or renew; True when it is held afterwards."""
        begun = self.clock()
        try:
            lease = self._read()
            if lease is None:
                lease = self.server.create(LEASES, self._manifest(None))
            elif self._may_take(lease):
                lease = self.server.replace(LEASES, self._manifest(lease))
            else:
                self._held_until = float("-inf")
                self._stand_by(str(lease["spec"]["holderIdentity"]))
                return False
        except Conflict:
            self._held_until = float("-inf")  # somebody else wrote it: read it again before anything is spent
            return False
        except ServerError as error:
            log.warning("the Lease %s/%s was not renewed: %s", self.namespace, self.name, error)
            return self.may_write()
        # counted from before the request: the other side counts from when it sees the renewal, which is later
        if not self.may_write():
            self.term += 1
            self._holder = self.identity
        self._held_until = begun + self.renew_deadline
        self.on_renewed(lease)
        return True

    def release(self) -> None:
        """Give the Lease up, so that a successor need not wait."""
        self._stop.set()
        held = self.may_write()
        self._held_until = float("-inf")
        if not held:
            return
        try:
            lease = self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
                lease["spec"]["holderIdentity"] = ""
                self.server.replace(LEASES, lease)
        except ServerError as error:
            log.info("the Lease was not released: %s", error)

    def _stand_by(self, holder: str) -> None:
        if holder != self._holder:
            log.info("%s holds the Lease %s/%s: this operator stands by", holder, self.namespace, self.name)
            self._holder = holder

    def _read(self) -> Object | None:
        try:
            return self.server.get(LEASES, self.namespace, self.name)
        except NotFound:
            return None

    def _may_take(self, lease: Object) -> bool:
        """Ours, given up, or unchanged for its whole duration on our own clock: clocks of two nodes are never compared."""
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self.identity):
            return True
        version = str(lease["metadata"].get("resourceVersion"))
        if self._seen[0] != version:
            self._seen = (version, self.clock())
            return False
        return self.clock() - self._seen[1] > float(spec.get("leaseDurationSeconds") or self.duration)

    def _manifest(self, before: Object | None) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (before or {}).get("spec") or {}
        mine = old.get("holderIdentity") == self.identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": (before or {}).get("metadata") or {"name": self.name, "namespace": self.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": int(self.duration),
                "acquireTime": old.get("acquireTime") if mine else now,
                "renewTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if mine or before is None else 1),
            },
        }
