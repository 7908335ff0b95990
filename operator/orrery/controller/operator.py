"""The running operator: workers that reconcile, a resync that trusts no watch, and a clock that says when one has died.

Kopf only watches, and the mirrors beside it. What they see is put into the world and wakes plans; they decide nothing, return
nothing and write nothing, so there is no handler state in annotations, no finalizer, and no edge that could be missed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orrery.controller.budgets import ACCOUNTS
from orrery.controller.lease import Fence
from orrery.controller.metrics import Metrics
from orrery.controller.mirror import MANAGED, MIRRORED, Mirror
from orrery.controller.probe_store import Fenced
from orrery.controller.reconcile import Reconciler
from orrery.controller.server import (
    BUDGETS,
    JOBS,
    PLANS,
    PODS,
    PRICE_LISTS,
    PROBES,
    Conflict,
    NotFound,
    Object,
    Refused,
    Resource,
    Server,
    ServerError,
)
from orrery.controller.work_queue import WorkQueue
from orrery.controller.world import KEPT, WATCHED, Key, World, key_of, owners_of

log = logging.getLogger(__name__)

#: A change that a list shows and the watch has not within this time means that the watch is dead.
WATCH_GRACE_SECONDS = 30.0
#: Comparing with lists leaves at least four times as long free as it takes, its rests included: with forty thousand objects it
#: is a minute's work.
_FREE = 4.0
#: Between two times that free memory is given back to the system.
TRIM_SECONDS = 15.0
#: Between two looks at a plan.
PAUSE_SECONDS = 0.2


@dataclass
class Operator:
    """Everything between the watches and the API server; ``start`` it once."""

    server: Server
    world: World
    metrics: Metrics
    reconciler: Reconciler
    fence: Fence
    namespace: str | None
    workers: int
    resync_seconds: float
    clock: Callable[[], float] = time.monotonic
    watch_timeout_seconds: int = 240
    queue: WorkQueue[Key] = field(default_factory=lambda: WorkQueue(pause=PAUSE_SECONDS), init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)
    _overdue: dict[tuple[str, Key], float] = field(default_factory=dict, init=False)
    _resynced: float = field(default=0.0, init=False)
    _resync_took: float = field(default=0.0, init=False)
    _synced_term: int = field(default=-1, init=False)

    def start(self) -> None:
        """Start the Lease's thread, the workers, the resync and the mirrors."""
        self._resynced = self.clock()
        self.reconciler.recorder.start()
        targets = [
            ("lease", self.fence.run),
            ("resync", self._keep_synced),
            ("events", self.reconciler.recorder.run),
        ]
        targets += [(f"watch-{resource.plural}", self._mirror(resource).run) for resource in MIRRORED]
        targets += [(f"worker-{i}", self._work) for i in range(self.workers)]
        for name, target in targets:
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def _mirror(self, resource: Resource) -> Mirror:
        return Mirror(
            *(self.server, self.world, resource, self.namespace, self.saw, self.watch_timeout_seconds, self._stopped)
        )

    def stop(self) -> None:
        """Finish what is being written, then give up the Lease."""
        self._stopped.set()
        self.queue.close()
        for thread in self._threads:
            if thread.name.startswith("worker"):
                thread.join(timeout=15)
        self.reconciler.recorder.close()
        self.fence.release()

    # ---- what the watches show

    def saw(self, resource: Resource, body: Object, deleted: bool) -> None:
        """A watch event: remember the object, wake the plans it concerns. Quick and without I/O."""
        self.metrics.watched(resource.plural)
        if resource is PODS:  # its Job's end wakes the plan
            self.world.saw_pod(body, gone=deleted)
            self.reconciler.probing.owed.pop(key_of(body), None)
            return
        if resource is JOBS:
            self.reconciler.probing.unmade.pop(key_of(body), None)
        news = True
        if deleted:
            self.world.drop(resource, body)
        else:
            news = self.world.put(resource, body)
        # after the world has it, so that a list that is compared at this moment finds it there or is corrected here
        self._overdue.pop((resource.kind, key_of(body)), None)
        # our own write is no news; of a probe, though, plans but the one that wrote it are still to be told, and of a budget
        # those that wait for it
        if news or resource in (PROBES, BUDGETS):
            self._wake(resource, body, None if news else _payer(body))

    def _wake(self, resource: Resource, body: Object, but: str | None = None) -> None:
        namespace, name = key_of(body)
        if resource is PLANS:
            self.queue.wake((namespace, name))
        elif resource is PRICE_LISTS:
            plans = self.world.plans_for_prices(name)
            if not plans or self.world.version(PRICE_LISTS, ("", name)) is None:
                self.metrics.forget_prices(name)
            for key in plans:
                self.queue.wake(key)
        elif resource is BUDGETS:
            self.queue.wake((namespace, ACCOUNTS))
            for key in self.reconciler.budgets.fitting(namespace):
                self.queue.wake(key)
        elif resource is PROBES:
            if self.world.budgets_of(namespace):
                self.queue.wake((namespace, ACCOUNTS))
            for plan in owners_of(body, "AdaptationPlan"):
                if plan != but:
                    self.queue.wake((namespace, plan))
        elif resource is JOBS:
            for owner in owners_of(body, "AdaptationProbe"):
                probe = self.world.get(PROBES, (namespace, owner))
                for plan in owners_of(probe, "AdaptationPlan") if probe else []:
                    self.queue.wake((namespace, plan))

    # ---- work

    def leading(self) -> bool:
        """Whether the Lease is held and everything was read since it was acquired.

        What a predecessor reserved in its last second is on the server before it is on any watch of ours: a plan that is
        looked at before that is known could spend its money twice.
        """
        return self.fence.may_write() and self._synced_term == self.fence.term

    def _work(self) -> None:
        while not self._stopped.is_set():
            if not self.leading():
                self._stopped.wait(0.1)
                continue
            taken = self.queue.take(timeout=1.0)
            if taken is None:
                continue
            key, woken = taken
            self.queue.done(key, failed=not self.look_at(key))
            self.metrics.wake.observe(max(0.0, self.clock() - woken))

    def look_at(self, key: Key) -> bool:
        """Reconcile one plan; False when it is to come back soon. Never raises: one plan must not stop the others."""
        begun = self.clock()
        try:
            again = self.reconciler(key)
            if again is not None:
                self.queue.wake_after(key, again)
            return True
        except Conflict:
            self.metrics.errors.labels("Conflict").inc()
        except Fenced as error:
            log.warning("%s/%s: %s", *key, error)
            self.metrics.errors.labels("Fenced").inc()
        except NotFound as error:
            log.info("%s/%s: something it needs is gone: %s", *key, error)
            self.metrics.errors.labels("NotFound").inc()
        except Refused as error:
            log.error("%s/%s: the API server refused a write: %s", *key, error)
            self.metrics.errors.labels("Refused").inc()
        except ServerError as error:
            log.warning("%s/%s: %s", *key, error)
            self.metrics.errors.labels("ServerError").inc()
        except Exception:
            log.exception("%s/%s: reconcile failed", *key)
            self.metrics.errors.labels("Exception").inc()
        finally:
            self.metrics.reconcile.observe(max(0.0, self.clock() - begun))
        return False

    # ---- trust no watch

    def _keep_synced(self) -> None:
        trimmed = self.clock()
        while not self._stopped.wait(0.1):
            if self.clock() - trimmed >= TRIM_SECONDS:
                _give_back()
                trimmed = self.clock()
            term = self.fence.term
            due = self.clock() - self._resynced >= self._between_resyncs()
            try:
                if self.fence.may_write() and self._synced_term != term:
                    self._take_over(term)
                elif due:
                    self.resync()
            except ServerError as error:
                log.warning("listing: %s", error)
                self._stopped.wait(1.0)
            except Exception:
                log.exception("listing failed")
                self._stopped.wait(1.0)

    def _take_over(self, term: int) -> None:
        self.reconciler.minor = self.server.version()[1]
        self.resync(first=True)
        self._synced_term = term
        for key in self.world.keys(PLANS):
            self.queue.wake(key)
        for namespace in {namespace for namespace, _ in self.world.keys(BUDGETS)}:
            self.queue.wake((namespace, ACCOUNTS))
        log.info("the Lease is held and %d plans are known", len(self.world.keys(PLANS)))

    def resync(self, first: bool = False) -> None:
        """Compare with full lists; take in what the watches missed, wake its plans, and remember since when it was missed.

        At first everything is missed, and no watch is to blame.
        """
        begun = self.clock()
        for resource in KEPT:
            selector = MANAGED if resource is JOBS else None
            namespace = self.namespace if resource.namespaced else None
            before, listed = self.world.keys(resource), set()
            # page by page: all of them would fill the memory
            for body in self.server.list(resource, namespace, selector, gently=not first):
                listed.add(key_of(body))
                self._correct(resource, body, self.world.put, first)
            for key in before:
                if key not in listed and (known := self.world.get(resource, key)) is not None:
                    self._check_gone(resource, known)
        self._resynced = self.clock()
        self._resync_took = self._resynced - begun

    def _between_resyncs(self) -> float:
        return max(self.resync_seconds, _FREE * self._resync_took)

    def _correct(
        self, resource: Resource, body: Object, learn: Callable[[Resource, Object], bool], first: bool = False
    ) -> None:
        """Take in what a list showed; if it is news, the watch has missed it, unless it shows it soon."""
        at = (resource.kind, key_of(body))
        suspected = not first and at not in self._overdue
        if suspected:
            self._overdue[at] = self.clock()
        if not learn(resource, body):
            if suspected:
                self._overdue.pop(at, None)  # the watch was quicker
            return
        if not first:
            self.metrics.repaired.labels(resource.plural).inc()
        self._wake(resource, body)

    def _check_gone(self, resource: Resource, body: Object) -> None:
        """An object that is not in the list may have been made after it: ask for it before believing that it is gone."""
        namespace, name = key_of(body)
        try:
            self.world.put(resource, self.server.get(resource, namespace or None, name))
        except NotFound:
            self._correct(resource, body, self.world.drop)

    # ---- is it alive

    def overdue(self) -> dict[str, float]:
        """By resource, for how many seconds its watch has owed the oldest change that a list showed."""
        now, found = self.clock(), dict.fromkeys((resource.plural for resource in WATCHED), 0.0)
        plural = {resource.kind: resource.plural for resource in WATCHED}
        for kind, _, since in self._owed():
            found[plural[kind]] = max(found[plural[kind]], now - since)
        return found

    def _owed(self) -> list[tuple[str, Key, float]]:
        """What lists showed and no watch yet, by kind and key, and since when; of Pods, which nobody keeps, where it is felt."""
        kept = [(kind, key, since) for (kind, key), since in list(self._overdue.items())]
        return kept + [(PODS.kind, key, since) for key, since in list(self.reconciler.probing.owed.items())]

    def problems(self) -> list[str]:
        """Why this process should be restarted; empty when it is well. Read by the liveness endpoint."""
        now = self.clock()
        found = [
            f"the watch of {kind} has been silent about {'/'.join(key)} for {now - since:.0f} s"
            for kind, key, since in self._owed()
            if now - since > WATCH_GRACE_SECONDS
        ]
        if now - self._resynced > 3 * self._between_resyncs() + WATCH_GRACE_SECONDS:
            found.append(f"no list has succeeded for {now - self._resynced:.0f} s")
        dead = [t.name for t in self._threads if not t.is_alive()]
        if dead and not self._stopped.is_set():
            found.append(f"the threads {', '.join(dead)} have died")
        return found


def _payer(probe: Object) -> str | None:
    """The plan that pays for a probe's last attempt, and alone writes how it fares."""
    attempts = (probe.get("status") or {}).get("attempts") or []
    return attempts[-1].get("paidBy") if attempts else None


def _give_back() -> None:
    """Free memory back to the system: glibc keeps what a turn needed for the next, and the holes between add up."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
