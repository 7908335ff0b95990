"""What the controller knows of the cluster: the newest version of each object that a watch or an own write showed.

Reconciling reads from here, so a thousand plans do not list anything. An own write enters at once, so that what was just
reserved is counted although its watch event has yet to come; an event that is older than what is known is left out. A
periodic comparison with the server's own list repairs whatever a silent watch has missed, and tells how late it was.

Objects are kept as compressed JSON: twenty thousand probes as Python objects would be a gigabyte, and are read rarely. The
first object of each kind is the dictionary that the others are compressed with, since most of it is in all of them.
"""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from sys import intern
from typing import Any

from orrery.controller import wire
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL
from orrery.controller.ledger import Entry, Ledger
from orrery.controller.records import Probe, parse
from orrery.controller.server import BUDGETS, JOBS, PLANS, PODS, PRICE_LISTS, PROBES, Object, Resource

Key = tuple[str, str]  #: (namespace, name); the namespace of a cluster-scoped object is ""
Run = tuple[str, str, str]  #: (namespace, probe, number of the attempt)

KEPT = (PLANS, PROBES, JOBS, PRICE_LISTS, BUDGETS)
WATCHED = (*KEPT, PODS)
_LATE = 10_000  #: uids of objects that are gone, and ends of Pods that are gone, that are remembered
_PARSED = 256  #: probes that are kept parsed, 33 KiB each: those of the plans that move now


def key_of(body: Object) -> Key:
    """Namespace and name; every object of a namespace shares its name, and a probe's is in half a dozen places."""
    meta = body["metadata"]
    return intern(meta.get("namespace") or ""), intern(meta["name"])


@dataclass(frozen=True, slots=True)
class _Kept:
    """An object, packed, with what is asked of it without unpacking."""

    uid: str
    version: str
    created: str
    refers_to: str | None  #: a plan's price list
    packed: bytes

    @classmethod
    def of(cls, body: Object, like: bytes) -> _Kept:
        meta = body["metadata"]
        return cls(
            str(meta.get("uid", "")),
            str(meta.get("resourceVersion", "")),
            intern(str(meta.get("creationTimestamp", ""))),
            _price_list_of(body),
            _packed(_text(body), like),
        )

    def body(self, like: bytes) -> Object:
        found: Object = wire.loads(_unpacked(self.packed, like))
        return found

    def older_than(self, body: Object) -> bool:
        """Whether ``body``, of the same name, is newer: compared as Kubernetes' own clients do."""
        meta = body["metadata"]
        if str(meta.get("uid", "")) != self.uid:
            return str(meta.get("creationTimestamp", "")) >= self.created
        try:
            return int(meta["resourceVersion"]) > int(self.version)
        except (KeyError, ValueError):
            return str(meta.get("resourceVersion")) != self.version


@dataclass(frozen=True, slots=True)
class _Indexed:
    """What is asked of a probe without parsing it again."""

    task: str
    model: str
    payers: tuple[str, ...]
    data: str | None  #: digest of the data that it reported to have read
    commit: str | None  #: of the hub's model that it reported to have loaded

    @classmethod
    def of(cls, probe: Probe) -> _Indexed:
        report = probe.status.report
        facts, commit = (report.task_facts, report.model_commit) if report else (None, None)
        data = intern(facts.digest) if facts else None
        return cls(intern(probe.task_key), probe.model_key, tuple(map(intern, probe.payers)), data, commit)


def _text(body: Object) -> bytes:
    return wire.dumps(slim(body))


#: zlib's window of 8 KiB and its memory: 48 KiB each time it packs, not 256, in each thread that does.
_WINDOW, _MEMORY = 13, 5


def _packed(text: bytes, like: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=_WINDOW, memLevel=_MEMORY, zdict=like)
    return packer.compress(text) + packer.flush()


def _unpacked(packed: bytes, like: bytes) -> bytes:
    return zlib.decompressobj(_WINDOW, zdict=like).decompress(packed)


def slim(body: Object) -> Object:
    """A shallow copy without what nobody reads: managed fields, kubectl's copy of the manifest, a Job's Pod template."""
    found = dict(body)
    meta = dict(found.get("metadata") or {})
    meta.pop("managedFields", None)
    annotations = {
        k: v
        for k, v in (meta.pop("annotations", None) or {}).items()
        if k != "kubectl.kubernetes.io/last-applied-configuration"
    }
    if annotations:
        meta["annotations"] = annotations
    found["metadata"] = meta
    if found.get("kind") == "Job":
        # of a Job only its identity and how it stands is read; its Pod template holds the whole probe spec again
        found["spec"] = {k: v for k, v in (found.get("spec") or {}).items() if k == "suspend"}
    return found


def slim_pod(body: Object) -> Object:
    """How a Pod fares, and nothing else of it."""
    meta, status = body["metadata"], body.get("status") or {}
    return {
        "metadata": {k: meta[k] for k in ("name", "uid", "deletionTimestamp") if k in meta},
        "status": {k: status[k] for k in ("phase", "reason", "conditions", "containerStatuses") if k in status},
    }


class World:
    """Objects by kind and key; every method is safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._objects: dict[str, dict[Key, _Kept]] = {r.kind: {} for r in KEPT}
        self._like: dict[str, bytes] = {}  # by kind, its first object, which stays
        self._probes: OrderedDict[Key, Probe] = OrderedDict()  # parsed, of the version that is kept
        self._indexed: dict[Key, _Indexed] = {}
        self._by_task: dict[Key, set[str]] = defaultdict(set)  # (namespace, task key) -> probes with attempts
        self._by_payer: dict[Key, set[str]] = defaultdict(set)  # (namespace, plan) -> probes
        self._ledger = Ledger()
        self._gone: dict[str, dict[str, None]] = {r.kind: {} for r in KEPT}  # uids, oldest first
        self._pods: OrderedDict[Run, dict[str, bytes]] = OrderedDict()  # by uid, also those that are gone

    def put(self, resource: Resource, body: Object) -> bool:
        """Learn of an object; False when this version or a newer one was known already."""
        key = key_of(body)
        with self._lock:
            if self._is_old(resource, key, body):
                return False
            before = self._probes.get(key) if resource is PROBES else None
            like = self._like.get(resource.kind)
            if like is None:
                like = self._like[resource.kind] = _text(body)
        # what takes long holds nobody up: packing and parsing are done before the world changes
        kept = _Kept.of(body, like)
        probe = parse(slim(body), before) if resource is PROBES else None
        with self._lock:
            if self._is_old(resource, key, body):
                return False
            self._objects[resource.kind][key] = kept
            if resource is PROBES:
                self._index(key, probe)
            return True

    def _is_old(self, resource: Resource, key: Key, body: Object) -> bool:
        if body["metadata"].get("uid", "") in self._gone[resource.kind]:
            return True
        known = self._objects[resource.kind].get(key)
        return known is not None and not known.older_than(body)

    def drop(self, resource: Resource, body: Object) -> bool:
        """Learn that an object is gone; False when that was known. One of the same name that is newer stays."""
        key, uid = key_of(body), body["metadata"].get("uid", "")
        with self._lock:
            gone = self._gone[resource.kind]
            gone[uid] = None
            while len(gone) > _LATE:  # late answers to own writes come within seconds
                gone.pop(next(iter(gone)))
            known = self._objects[resource.kind].get(key)
            if known is None or known.uid != uid:
                return False
            del self._objects[resource.kind][key]
            if resource is PROBES:
                self._index(key, None)
            return True

    def get(self, resource: Resource, key: Key) -> Object | None:
        """The newest version that is known, as a copy."""
        with self._lock:
            known = self._objects[resource.kind].get(key)
        return known.body(self._like[resource.kind]) if known else None

    def version(self, resource: Resource, key: Key) -> str | None:
        """The newest known resourceVersion; None when there is no such object."""
        with self._lock:
            known = self._objects[resource.kind].get(key)
        return known.version if known else None

    def keys(self, resource: Resource) -> list[Key]:
        """Keys of all objects of a kind."""
        with self._lock:
            return list(self._objects[resource.kind])

    # ---- probes

    def probe(self, key: Key) -> Probe | None:
        """A probe, parsed; None when it is not there or not one of ours."""
        with self._lock:
            if key not in self._indexed:
                return None
            found = self._probes.get(key)
            if found is None:
                found = parse(self._objects[PROBES.kind][key].body(self._like[PROBES.kind]))
                self._remember(key, found)
            else:
                self._probes.move_to_end(key)
            return found

    def probes_for(self, namespace: str, plan: str, task: str | None, models: Collection[str] = ()) -> list[Probe]:
        """Probes of a namespace that measured one of these models on a task (by their keys), or that a plan paid for; by name.

        Without ``task`` only the latter. Probes that nobody has begun are left out.
        """
        with self._lock:
            names = set(self._by_payer.get((namespace, plan), ()))
            if task:
                shared = self._by_task.get((namespace, task), ())
                names |= {name for name in shared if self._indexed[namespace, name].model in models}
            found = [self.probe((namespace, name)) for name in sorted(names)]
            return [p for p in found if p is not None]

    def data_digests(self, namespace: str, task: str, but: str) -> list[str]:
        """Digests of the data that the probes of a task, one apart, reported to have read."""
        with self._lock:
            names = self._by_task.get((namespace, task), ())
            return [d for n in names if n != but and (d := self._indexed[namespace, n].data) is not None]

    def model_commits(self, namespace: str, task: str, model: str, but: str) -> list[str]:
        """Commits of a hub's model that the probes of a task, one apart, reported to have loaded."""
        with self._lock:
            found = [self._indexed[namespace, n] for n in self._by_task.get((namespace, task), ()) if n != but]
            return [p.commit for p in found if p.model == model and p.commit is not None]

    def _index(self, key: Key, probe: Probe | None) -> None:
        namespace, name = key
        self._ledger.learn(key, probe)
        self._probes.pop(key, None)
        if old := self._indexed.pop(key, None):
            _discard(self._by_task, (namespace, old.task), name)
            for payer in old.payers:
                _discard(self._by_payer, (namespace, payer), name)
        if probe is not None:
            self._indexed[key] = now = _Indexed.of(probe)
            if probe.status.attempts:
                self._by_task[namespace, now.task].add(name)
            for payer in now.payers:
                self._by_payer[namespace, payer].add(name)
            self._remember(key, probe)

    def _remember(self, key: Key, probe: Probe | None) -> None:
        if probe is not None:
            self._probes[key] = probe
            while len(self._probes) > _PARSED:
                self._probes.popitem(last=False)

    # ---- Pods: only how they ended is kept, also after they are gone, since their end is what is paid for

    def saw_pod(self, body: Object, gone: bool) -> None:
        """Remember how a probe's Pod fares."""
        meta = body["metadata"]
        labels = meta.get("labels") or {}
        run = meta.get("namespace") or "", labels.get(PROBE_LABEL, ""), labels.get(ATTEMPT_LABEL, "")
        text = wire.dumps({**slim_pod(body), **({"gone": True} if gone else {})})
        packed = zlib.compress(text, 1, wbits=_WINDOW)
        with self._lock:
            self._pods.setdefault(run, {})[meta.get("uid", "")] = packed
            while len(self._pods) > _LATE:
                self._pods.popitem(last=False)

    def pods(self, run: Run) -> list[Object]:
        """The Pods of an attempt as they were last seen, those that are gone included."""
        with self._lock:
            found = list(self._pods.get(run, {}).values())
        return [wire.loads(zlib.decompress(p, _WINDOW)) for p in found]

    def forget_pods(self, run: Run) -> None:
        """The attempt's end is written down: its Pods need not be remembered."""
        with self._lock:
            self._pods.pop(run, None)

    # ---- money, by namespace

    def budgets_of(self, namespace: str) -> list[str]:
        """Names of the namespace's budgets."""
        with self._lock:
            return sorted(name for space, name in self._objects[BUDGETS.kind] if space == namespace)

    def attempts_of(self, namespace: str, jobs: Collection[str]) -> dict[str, Entry]:
        """Attempts by these Jobs that a probe knows."""
        with self._lock:
            found = {job: self._ledger.entry(namespace, job) for job in jobs}
        return {job: entry for job, entry in found.items() if entry is not None}

    def open_attempts(self, namespace: str) -> list[Entry]:
        """Attempts in flight."""
        with self._lock:
            return list(self._ledger.open(namespace))

    def orphans(self, namespace: str) -> dict[str, Entry]:
        """Attempts, by Job, that were in flight when their probe was deleted."""
        with self._lock:
            return self._ledger.orphans(namespace)

    def bury(self, namespace: str, job: str) -> None:
        """An orphan has been accounted for."""
        with self._lock:
            self._ledger.bury(namespace, job)

    def lost(self, plan: Key) -> Sequence[Entry]:
        """Attempts that a plan pays for, and that were in flight when their probe was deleted."""
        with self._lock:
            return self._ledger.lost(plan)

    def settle(self, plan: Key, entries: Sequence[Entry]) -> None:
        """A plan has accounted for what it lost, or is gone."""
        with self._lock:
            self._ledger.settle(plan, entries)

    def paid(self, namespace: str, month: str) -> tuple[Decimal, Decimal]:
        """Money and accelerator-seconds of the attempts of a month that have ended."""
        with self._lock:
            return self._ledger.paid(namespace, month)

    # ---- relations

    def plans_for_prices(self, price_list: str) -> list[Key]:
        """Plans that refer to a price list."""
        with self._lock:
            return [k for k, p in self._objects[PLANS.kind].items() if p.refers_to == price_list]


def _discard(index: dict[Key, set[str]], at: Key, name: str) -> None:
    names = index.get(at)
    if names is not None:
        names.discard(name)
        if not names:
            del index[at]


def _price_list_of(plan: Object) -> str | None:
    spec = plan.get("spec")
    pricing: Any = spec.get("pricing") if isinstance(spec, dict) else None
    ref = pricing.get("priceListRef") if isinstance(pricing, dict) else None
    return ref.get("name") if isinstance(ref, dict) else None


def owners_of(body: Object, kind: str) -> list[str]:
    """Names of an object's owners of a kind."""
    refs = body["metadata"].get("ownerReferences") or []
    return [ref["name"] for ref in refs if ref.get("kind") == kind]
