"""The answer as it is written: the results ConfigMap, the status, Events and metrics; each only when it says something new."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal

from orrery.api.base import API_VERSION
from orrery.api.plan import AdaptationPlan
from orrery.api.status import PlanStatus
from orrery.controller import attempts as ended
from orrery.controller import results, status
from orrery.controller.probe_store import ProbeStore, Unusable
from orrery.controller.server import CONFIG_MAPS, PLANS, Conflict, NotFound, Object
from orrery.controller.world import Key, key_of
from orrery.planning.types import Step

#: Rows are written at most this often while probes run; always when they have ended.
RESULTS_SECONDS = 10.0
#: What is remembered of a ConfigMap is believed this long.
REMEMBERED_SECONDS = 300.0


@dataclass
class Publisher:
    """Writes what a look at a plan found; safe to call from several threads, for one plan at a time each."""

    store: ProbeStore
    _written: dict[Key, tuple[str, str, float]] = field(default_factory=dict, init=False)  # uid, digest, when

    def answer(self, plan: AdaptationPlan, body: Object, step: Step) -> float | None:
        """Write a step's rows and status; seconds after which the rows are to be written, when that was done a moment ago."""
        wanted = step.status
        pending = self._rows(plan, body, step) if step.rows else None
        self.status(plan, body, wanted)
        self.store.recorder.answered(plan, wanted, body)
        self.store.recorder.confirmed(plan, wanted)
        return pending

    def status(self, plan: AdaptationPlan, body: Object, wanted: PlanStatus) -> None:
        """Write the status and its metrics."""
        wanted = _with_error(body, wanted)
        self._write_status(body, wanted)
        self.store.metrics.plan(plan, wanted)

    def stall(self, body: Object, reason: str, sentence: str) -> None:
        """Write that a person must act; what was answered and spent before stays."""
        try:
            before = PlanStatus.model_validate(body.get("status") or {})
        except ValueError:
            before = None
        told = status.failure(reason, sentence[:4000], before)
        self._write_status(body, told)
        self.store.metrics.stalled(key_of(body), told)
        self.store.recorder.stalled(body, reason, sentence)

    def stands(self, body: Object) -> bool:
        """Whether the rows are where the status says, as far as is known or, after a while, as the server says."""
        key, now = key_of(body), time.monotonic()
        name, known = (body.get("status") or {}).get("resultsRef"), self._written.get(key)
        if not name or known is None or now - known[2] < REMEMBERED_SECONDS:
            return True
        try:
            there = self.store.server.get(CONFIG_MAPS, key[0], name)["metadata"]
        except NotFound:
            there = {}
        if (there.get("annotations") or {}).get(results.DIGEST) != known[1]:
            del self._written[key]
            return False
        self._written[key] = (*known[:2], now)
        return True

    def forget(self, key: Key) -> None:
        """The plan is gone."""
        self._written.pop(key, None)

    def _rows(self, plan: AdaptationPlan, body: Object, step: Step) -> float | None:
        key, uid, now = key_of(body), body["metadata"]["uid"], time.monotonic()
        lines = results.lines(step.rows)
        rendered = results.rendered(plan, step, self.store.jobs)
        digest = results.digest_of(lines, rendered)
        known = self._written.get(key)
        ours = known is not None and known[0] == uid
        if known is not None and ours:
            if known[1] == digest and now - known[2] < REMEMBERED_SECONDS:
                return None
            if not step.finished and now - known[2] < RESULTS_SECONDS:
                return RESULTS_SECONDS - (now - known[2])
        self.store.fence()
        manifest = results.build(body, lines, rendered)
        if known is not None and ours and known[1] != digest:
            try:
                self.store.server.replace(CONFIG_MAPS, manifest)
            except NotFound:
                self.store.server.create(CONFIG_MAPS, manifest)
        else:
            self._settle_rows(manifest, digest, likely=bool((body.get("status") or {}).get("resultsRef")))
        self._written[key] = (uid, digest, now)
        return None

    def _settle_rows(self, manifest: Object, digest: str, likely: bool) -> None:
        """Nothing is remembered of the ConfigMap: see whether it is there, ours, and as it should be."""
        meta, server = manifest["metadata"], self.store.server
        if not likely:
            try:
                server.create(CONFIG_MAPS, manifest)
                return
            except Conflict:
                pass
        try:
            found = server.get(CONFIG_MAPS, meta["namespace"], meta["name"])
        except NotFound:
            server.create(CONFIG_MAPS, manifest)
            return
        had = found["metadata"]
        if (had.get("labels") or {}).get("app.kubernetes.io/managed-by") != "orrery":
            raise Unusable(
                "ForeignConfigMap",
                f"the ConfigMap '{meta['name']}', which would hold the results, is somebody else's: delete it, or give the "
                "plan another name",
            )
        same_owner = had.get("ownerReferences") == meta["ownerReferences"]
        if not same_owner or (had.get("annotations") or {}).get(results.DIGEST) != digest:
            server.replace(CONFIG_MAPS, manifest)

    def _write_status(self, body: Object, wanted: PlanStatus) -> None:
        """Write the status unless it says so already; ``body`` is brought up to date."""
        before = body.get("status") or {}
        now = ended.timestamp(self.store.clock())
        after = status.stamped(wanted, before, int(body["metadata"].get("generation", 1)), now)
        if after == before:
            return
        self.store.fence()
        full = {**body, "apiVersion": API_VERSION, "kind": "AdaptationPlan", "status": after}
        try:
            written = self.store.server.replace(PLANS, full, "status")
        except Conflict:
            self.store.world.put(PLANS, self.store.server.get(PLANS, *key_of(body)))
            raise
        self.store.world.put(PLANS, written)
        body["metadata"] = {**body["metadata"], "resourceVersion": written["metadata"]["resourceVersion"]}


def _with_error(body: Object, wanted: PlanStatus) -> PlanStatus:
    return wanted.model_copy(update={"prediction_error": prediction_error(body.get("status") or {}, wanted)})


def prediction_error(before: Object, now: PlanStatus) -> Decimal | None:
    """Measured minus predicted quality, once the candidate that was recommended by forecast was measured; then it stays.

    None when another is recommended, and when the forecast was of other data.
    """
    old, best = before.get("recommendation"), now.recommendation
    if not old or best is None or not best.measured:
        return None
    after = best.to_wire()
    if any(old.get(k) != after.get(k) for k in ("model", "strategy", "configuration", "accelerator")):
        return None
    data = (before.get("inputs") or {}).get("dataDigest"), now.inputs.data_digest if now.inputs else None
    if None not in data and data[0] != data[1]:
        return None
    if old.get("measured"):
        known = before.get("predictionError")
        return None if known is None else Decimal(str(known))
    return Decimal(after["quality"]["predicted"]) - Decimal(old["quality"]["predicted"])
