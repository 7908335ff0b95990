"""One run: plans keep coming while interruptions happen, then all is left in peace until every plan is answered."""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from kubernetes import config

from orrery.controller.attempts import condition
from tests.chaos import plans
from tests.chaos.interruptions import Interrupter, pause
from tests.chaos.process import OperatorProcess
from tests.chaos.proxy import Proxy
from tests.chaos.recorder import PLANS, Key, Recorder
from tests.cluster import Cluster, KubeletOptions, Options
from tests.cluster.crds import install_crds
from tests.cluster.programs import REPOSITORY
from tests.cluster.rest import ApiError, Json

#: Plans that are being answered at any time.
ACTIVE = 9
#: Longest that the last plans may take once nothing interrupts any more.
SETTLE_SECONDS = 240.0
#: What the operator is told: a Lease that is short, so that a kill costs seconds, and lists that are frequent.
ENVIRONMENT = {
    "ORRERY_OWN_NAMESPACE": "default",
    "ORRERY_LEASE_SECONDS": "9",
    "ORRERY_RESYNC_SECONDS": "10",
    "ORRERY_WATCH_TIMEOUT_SECONDS": "30",
    "ORRERY_WORKERS": "4",
}


@dataclass
class Result:
    """What came of it."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    overspent: list[str] = field(default_factory=list)
    summary: dict[str, float] = field(default_factory=dict)


@dataclass
class Supply:
    """Keeps ``active`` plans in work until it is told to stop."""

    cluster: Cluster
    recorder: Recorder
    rng: random.Random
    active: int = ACTIVE
    made: list[Key] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Supply:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def open(self) -> list[Json]:
        """Plans without an answer; raises when the server is away."""
        return [plan for plan in self.cluster.rest.get(PLANS, timeout=30)["items"] if not answered(plan)]

    def _run(self) -> None:
        waiting: Json | None = None
        while not self._stop.wait(0.4):  # a list of all plans, which is the server's work too
            with contextlib.suppress(OSError, http.client.HTTPException, ApiError, ValueError):
                if waiting is None and len(self.open()) >= self.active:
                    continue
                waiting = waiting or plans.draw(self.rng, len(self.made))
                namespace, name = waiting["metadata"]["namespace"], waiting["metadata"]["name"]
                self.recorder.budgets[namespace, name] = Decimal(waiting["spec"]["budget"]["maxProbeCost"])
                try:
                    self.cluster.rest.post(_collection(namespace, "adaptationplans"), waiting)
                except ApiError as error:
                    if error.status != 409:  # 409: it had arrived
                        raise
                self.made.append((namespace, name))
                waiting = None


def answered(plan: Json) -> bool:
    """Ready for this very generation: with a recommendation, or with the answer that nothing meets the objective."""
    status = plan.get("status") or {}
    return status.get("observedGeneration") == plan["metadata"]["generation"] and condition(plan, "Ready") is not None


def chaos(folder: Path, seed: int, count: int, *, active: int = ACTIVE, say: Any = print) -> Result:
    """``count`` interruptions drawn by ``seed``; folder: the cluster's and the operator's, with all logs."""
    rng = random.Random(seed)
    kubelet = KubeletOptions(
        entrypoints={"orrery/probe": f"python3 -S -E -P {REPOSITORY / 'tests/chaos/probe.py'}"},
        environment={**KubeletOptions().environment, "ORRERY_CHAOS_SEED": str(seed), "ORRERY_CHAOS_SECONDS": "1.5"},
    )
    options = Options(mode="full", kubelet=False, audit="Metadata", kubelet_options=kubelet)
    with Cluster(folder / "cluster", options) as cluster:
        nodes = [cluster.kubelet(name, kubelet).start(wait=False) for name in ("node-1", "node-2")]
        with config.new_client_from_config(str(cluster.kubeconfig)) as api_client:
            install_crds(api_client, REPOSITORY / "crds")
        for namespace in plans.NAMESPACES:
            cluster.rest.post("/api/v1/namespaces", {"metadata": {"name": namespace}})
        cluster.rest.post("/apis/orrery.dev/v1alpha1/pricelists", plans.price_list())
        proxy = Proxy(cluster.server_url, cluster.root / "pki", seed).start()
        operator = OperatorProcess(folder / "operator", proxy.url, ENVIRONMENT).start()
        recorder = Recorder(cluster.rest).start()
        supply = Supply(cluster, recorder, rng, active).start()
        try:
            interrupter = Interrupter(cluster, operator, proxy, recorder, nodes, random.Random(seed + 1))
            return _run(interrupter, supply, count, say)
        finally:
            operator.kill()
            proxy.stop()


def _run(interrupter: Interrupter, supply: Supply, count: int, say: Any) -> Result:
    cluster, recorder, result = interrupter.cluster, interrupter.recorder, Result()
    begun = time.monotonic()
    _wait_for_work(recorder)
    for number, name in enumerate(interrupter.names(count), 1):
        at = time.monotonic() - begun
        interrupter.operator.keep_alive()
        concerned = interrupter.interrupt(name)
        result.rows.append({"number": number, "seconds": round(at, 2), "interruption": name, "concerned": concerned})
        say(f"{at:7.1f} s  {number:3d}  {name}: {concerned}  ({len(supply.made)} plans)")
        time.sleep(pause(interrupter.rng))
    supply.stop()
    interrupter.proxy.calm()
    interrupter.operator.keep_alive()
    interrupted = time.monotonic() - begun
    result.unanswered = _settle(supply, interrupter.operator)
    recorder.stop()
    if not recorder.reports():
        raise RuntimeError("no probe has reported anything, so nothing could be lost: see the kubelets' logs")
    result.lost = recorder.lost()
    result.duplicated = recorder.duplicated(cluster.audit_log)
    price = Decimal(plans.PRICE_PER_HOUR)
    result.overspent = sorted({*recorder.overspent, *recorder.really_overspent(price)})
    kinds = Counter(row["interruption"] for row in result.rows)
    result.summary = {
        "interruptions": len(result.rows),
        "unanswered": len(result.unanswered),
        "lost": len(result.lost),
        "duplicated": len(result.duplicated),
        "overspent": len(result.overspent),
        "plans": len(supply.made),
        "probes": len(recorder.probes),
        "jobs": sum(len(uids) for uids in recorder.job_uids.values()),
        "reports": recorder.reports(),
        "destroyed": len(recorder.destroyed),
        "samples": recorder.samples,
        "kinds": len(kinds),
        "faults": sum(interrupter.proxy.hits.values()),
        "operators": interrupter.operator.starts,
        "exits": len(interrupter.operator.exits),
        "seconds": round(interrupted, 1),
        "settle_seconds": round(time.monotonic() - begun - interrupted, 1),
    }
    return result


def _wait_for_work(recorder: Recorder, seconds: float = 60) -> None:
    """Until the first Pods run: nothing could be interrupted before."""
    deadline = time.monotonic() + seconds
    while not any(pod.started for pod in list(recorder.pods.values())):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no probe's Pod ran within {seconds:.0f} s: see the operator's log")
        time.sleep(0.1)


def _settle(supply: Supply, operator: OperatorProcess) -> list[str]:
    deadline = time.monotonic() + SETTLE_SECONDS
    left = [f"{namespace}/{name}: never seen" for namespace, name in supply.made]
    while time.monotonic() < deadline:
        operator.keep_alive()
        with contextlib.suppress(OSError, http.client.HTTPException, ApiError, ValueError):
            left = [_why(plan) for plan in supply.open()]
            if not left:
                return []
        time.sleep(0.5)
    return left


def _why(plan: Json) -> str:
    status = plan.get("status") or {}
    told = next((c.get("message", "") for c in status.get("conditions") or [] if c["type"] == "Ready"), "")
    return f"{plan['metadata']['namespace']}/{plan['metadata']['name']}: {status.get('phase')}, {told}"


def _collection(namespace: str, plural: str) -> str:
    return f"/apis/orrery.dev/v1alpha1/namespaces/{namespace}/{plural}"
