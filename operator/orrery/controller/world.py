"""What the controller knows of the cluster: the newest version of each object that a watch or an own write showed.

Reconciling reads from here, so a thousand plans do not list anything. An own write enters at once, so that what was just
reserved is counted although its watch event has yet to come; an event that is older than what is known is left out. A
periodic comparison with the server's own list repairs whatever a silent watch has missed, and tells how late it was.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orrery.controller.records import Probe, parse
from orrery.controller.server import JOBS, PLANS, PRICE_LISTS, PROBES, Object, Resource

Key = tuple[str, str]  #: (namespace, name); the namespace of a cluster-scoped object is ""

KEPT = (PLANS, PROBES, JOBS, PRICE_LISTS)


def key_of(body: Object) -> Key:
    """Namespace and name."""
    meta = body["metadata"]
    return meta.get("namespace") or "", meta["name"]


def _newer(a: Object, b: Object) -> bool:
    """Whether ``a`` is newer than ``b``, an object of the same name: compared as Kubernetes' own clients do."""
    x, y = a["metadata"], b["metadata"]
    if x.get("uid") != y.get("uid"):
        return str(x.get("creationTimestamp", "")) >= str(y.get("creationTimestamp", ""))
    try:
        return int(x["resourceVersion"]) >= int(y["resourceVersion"])
    except (KeyError, ValueError):
        return True


@dataclass(frozen=True)
class Slimmer:
    """Takes from an object what nobody reads, before it is kept: most of the memory at a thousand plans."""

    def __call__(self, body: Object) -> Object:
        """A shallow copy without managed fields and kubectl's copy of the manifest."""
        slim = dict(body)
        meta = dict(slim.get("metadata") or {})
        meta.pop("managedFields", None)
        annotations = {
            k: v
            for k, v in (meta.get("annotations") or {}).items()
            if k != "kubectl.kubernetes.io/last-applied-configuration"
        }
        if annotations:
            meta["annotations"] = annotations
        else:
            meta.pop("annotations", None)
        slim["metadata"] = meta
        if slim.get("kind") == "Job":
            # of a Job only its identity and how it stands is read; its Pod template holds the whole probe spec again
            slim["spec"] = {k: v for k, v in (slim.get("spec") or {}).items() if k in ("suspend", "podFailurePolicy")}
        return slim


class World:
    """Objects by kind and key; every method is safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._objects: dict[str, dict[Key, Object]] = {r.kind: {} for r in KEPT}
        self._probes: dict[Key, Probe] = {}
        self._by_task: dict[Key, set[str]] = defaultdict(set)  # (namespace, task key) -> probes
        self._by_payer: dict[Key, set[str]] = defaultdict(set)  # (namespace, plan) -> probes
        self._gone: dict[str, dict[str, None]] = {r.kind: {} for r in KEPT}  # uids, oldest first
        self._slim = Slimmer()

    def put(self, resource: Resource, body: Object) -> bool:
        """Learn of an object; False when something newer was known already."""
        key, uid = key_of(body), body["metadata"].get("uid", "")
        with self._lock:
            if uid in self._gone[resource.kind]:
                return False
            known = self._objects[resource.kind].get(key)
            if known is not None and not _newer(body, known):
                return False
            self._objects[resource.kind][key] = self._slim(body)
            if resource is PROBES:
                self._index(key, parse(self._objects[resource.kind][key]))
            return True

    def drop(self, resource: Resource, body: Object) -> None:
        """Learn that an object is gone; one of the same name that is newer stays."""
        key, uid = key_of(body), body["metadata"].get("uid", "")
        with self._lock:
            gone = self._gone[resource.kind]
            gone[uid] = None
            while len(gone) > 10_000:  # late answers to own writes come within seconds
                gone.pop(next(iter(gone)))
            known = self._objects[resource.kind].get(key)
            if known is not None and known["metadata"].get("uid", "") == uid:
                del self._objects[resource.kind][key]
                if resource is PROBES:
                    self._index(key, None)

    def get(self, resource: Resource, key: Key) -> Object | None:
        """The newest version that is known."""
        with self._lock:
            return self._objects[resource.kind].get(key)

    def keys(self, resource: Resource) -> list[Key]:
        """Keys of all objects of a kind."""
        with self._lock:
            return list(self._objects[resource.kind])

    def all(self, resource: Resource) -> list[Object]:
        """All objects of a kind."""
        with self._lock:
            return list(self._objects[resource.kind].values())

    def probe(self, key: Key) -> Probe | None:
        """A probe, parsed; None when it is not there or not one of ours."""
        with self._lock:
            return self._probes.get(key)

    def probes_for(self, namespace: str, plan: str, task: str | None) -> list[Probe]:
        """Probes of a namespace that measured a task (by its key) or that a plan paid for."""
        with self._lock:
            names = (
                self._by_task[namespace, task] | self._by_payer[namespace, plan]
                if task
                else self._by_payer[namespace, plan]
            )
            return [self._probes[namespace, name] for name in sorted(names)]

    def _index(self, key: Key, probe: Probe | None) -> None:
        namespace, name = key
        if old := self._probes.pop(key, None):
            self._by_task[namespace, old.task_key].discard(name)
            for payer in old.payers:
                self._by_payer[namespace, payer].discard(name)
        if probe is not None:
            self._probes[key] = probe
            self._by_task[namespace, probe.task_key].add(name)
            for payer in probe.payers:
                self._by_payer[namespace, payer].add(name)

    def plans_for_prices(self, price_list: str) -> list[Key]:
        """Plans that refer to a price list."""
        with self._lock:
            return [k for k, p in self._objects[PLANS.kind].items() if _price_list_of(p) == price_list]

    def compare(self, resource: Resource, listed: Iterable[Object]) -> tuple[list[Object], list[Object]]:
        """Against a full list from the server: (objects whose newest version is not known here, objects known and gone)."""
        with self._lock:
            known = dict(self._objects[resource.kind])
        missed, seen = [], set()
        for body in listed:
            key = key_of(body)
            seen.add(key)
            mine = known.get(key)
            theirs = body["metadata"].get("resourceVersion")
            if mine is None or (mine["metadata"].get("resourceVersion") != theirs and _newer(body, mine)):
                missed.append(body)
        return missed, [body for key, body in known.items() if key not in seen]


def _price_list_of(plan: Object) -> str | None:
    pricing: Any = (plan.get("spec") or {}).get("pricing") or {}
    ref = pricing.get("priceListRef") if isinstance(pricing, dict) else None
    return ref.get("name") if isinstance(ref, dict) else None


def owners_of(body: Object, kind: str) -> list[str]:
    """Names of an object's owners of a kind."""
    refs = body["metadata"].get("ownerReferences") or []
    return [ref["name"] for ref in refs if ref.get("kind") == kind]
