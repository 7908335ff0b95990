"""What is written to probes, and who may write: the part that looking at attempts and starting them have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orrery.api.base import API_VERSION
from orrery.api.plan import AdaptationPlan
from orrery.api.probe import Attempt, ProbeStatus
from orrery.controller import attempts as ended
from orrery.controller.events import Recorder
from orrery.controller.jobs import JobSettings
from orrery.controller.lanes import Lanes
from orrery.controller.metrics import Metrics
from orrery.controller.records import Probe, owner_reference, parse
from orrery.controller.server import PROBES, Conflict, NotFound, Object, Server
from orrery.controller.world import Key, World, key_of

#: Requests that start probes, and that tell how they fare, at a time; of all plans together.
STARTING, TELLING = 2, 8
LANES = STARTING + TELLING


class Fenced(Exception):  # noqa: N818  # reads as what happened
    """This operator no longer holds its Lease: another may be spending, so this one must not."""


class Unusable(Exception):  # noqa: N818  # a state of the plan, told in its status
    """The operator cannot go on with a plan before a person acts; a CamelCase reason and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ProbeStore:
    """Probes on the server and in the world; safe to call from several threads, for one plan at a time each."""

    server: Server
    world: World
    jobs: JobSettings
    metrics: Metrics
    recorder: Recorder
    may_write: Callable[[], bool]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: Jobs, with the plan that pays, that this very process sets money aside for and has not seen yet. Of others nobody knows
    #: whether they were made and deleted since, so those are never made again: one attempt, one Job.
    unmade: dict[Key, str] = field(default_factory=dict)
    #: Pods that a list showed and the watch has not, and since when on the operator's own clock: its watch is to be blamed.
    owed: dict[Key, float] = field(default_factory=dict)
    starting: Lanes = field(default_factory=lambda: Lanes(STARTING, "start"))
    telling: Lanes = field(default_factory=lambda: Lanes(TELLING, "tell"))

    def fence(self) -> None:
        """Raises Fenced unless the Lease is surely held for now."""
        if not self.may_write():
            raise Fenced("the Lease is not held: nothing is written or started")

    def age(self, attempt: Attempt) -> float:
        """Seconds since money was set aside for an attempt."""
        reserved = ended.parse_timestamp(attempt.reserved_at)
        return (self.clock() - reserved).total_seconds() if reserved else float("inf")

    def write_status(self, probe: Probe, after: ProbeStatus) -> Probe:
        """The probe with its new status; raises Conflict when somebody else wrote it, after reading what they wrote."""
        self.fence()
        body = {**probe.body, "apiVersion": API_VERSION, "kind": "AdaptationProbe", "status": after.to_wire()}
        try:
            written = self.server.replace(PROBES, body, "status")
        except Conflict:
            self.world.put(PROBES, self.server.get(PROBES, *key_of(probe.body)))
            raise
        except NotFound:
            self.world.drop(PROBES, probe.body)
            raise
        return self.learn(written)

    def learn(self, body: Object) -> Probe:
        """Take in a probe that the server answered with; raises Unusable when it is not one of ours."""
        # parsed once, by the world; it knows none when somebody has deleted the probe meanwhile
        self.world.put(PROBES, body)
        probe = self.world.probe(key_of(body)) or parse(body)
        if probe is None:
            name = body["metadata"]["name"]
            raise Unusable("ForeignProbe", f"the AdaptationProbe '{name}' is not one that Orrery wrote: delete it")
        return probe

    def share(self, plan: AdaptationPlan, body: Object, probes: Iterable[Probe]) -> bool:
        """Become a further owner of every probe that this answer rests on; whether there was one to become.

        Deleting the plan that paid must not take the measurement away.
        """
        models = {m.source.model_dump_json() for m in plan.spec.models}
        mine = body["metadata"]["uid"]

        def is_new(probe: Probe) -> bool:
            refs = probe.body["metadata"].get("ownerReferences") or []
            return all(r.get("uid") != mine for r in refs) and probe.spec.model.source.model_dump_json() in models

        found = [p for p in probes if is_new(p)]
        self.telling.map(lambda probe: self._own(body, probe), found)
        return bool(found)

    def _own(self, body: Object, probe: Probe) -> None:
        self.fence()
        meta = probe.body["metadata"]
        refs = meta.get("ownerReferences") or []
        owner = owner_reference(body, controller=not any(r.get("controller") for r in refs))
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"], "ownerReferences": [*refs, owner]}}
        try:
            self.world.put(PROBES, self.server.merge(PROBES, *key_of(probe.body), patch))
        except NotFound:
            self.world.drop(PROBES, probe.body)
            raise
        except Conflict:
            self.world.put(PROBES, self.server.get(PROBES, *key_of(probe.body)))
            raise
