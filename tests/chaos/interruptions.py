"""What interrupts, each with how often it is drawn. An interruption returns a word for the record and leaves nothing broken for good."""

from __future__ import annotations

import contextlib
import http.client
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.process import OperatorProcess
from tests.chaos.proxy import Proxy
from tests.chaos.recorder import Recorder
from tests.cluster import Cluster
from tests.cluster.cluster import KubeletHandle
from tests.cluster.rest import ApiError, Json

SELECTOR = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dorrery"


@dataclass
class Interrupter:
    """Draws interruptions and does them."""

    cluster: Cluster
    operator: OperatorProcess
    proxy: Proxy
    recorder: Recorder
    nodes: list[KubeletHandle]
    rng: random.Random

    def names(self, count: int) -> list[str]:
        """``count`` names of interruptions; every kind is among them once there are as many as kinds."""
        kinds = [name for name, _, _ in KINDS]
        self.rng.shuffle(kinds)
        drawn = self.rng.choices(kinds, [next(w for n, w, _ in KINDS if n == k) for k in kinds], k=count)
        chosen = (kinds + drawn)[:count]
        self.rng.shuffle(chosen)
        return chosen

    def interrupt(self, name: str) -> str:
        """Do it; gives what it concerned."""
        return next(act for kind, _, act in KINDS if kind == name)(self)

    # ---- processes

    def operator_killed(self) -> str:
        self.operator.kill()
        time.sleep(self.rng.choice([0.0, 0.0, 1.0]))
        self.operator.start()
        return "at once"

    def operator_killed_and_job_deleted(self) -> str:
        """Nobody is there to see that the Job ever was."""
        self.operator.kill()
        told = self.job_deleted()
        self.operator.start()
        return told

    def operator_frozen(self) -> str:
        """Often for longer than its Lease; then it goes on with what it believed before."""
        seconds = self.rng.uniform(1.0, 6.0)
        self.operator.freeze()
        time.sleep(seconds)
        self.operator.thaw()
        return f"{seconds:.1f} s"

    def apiserver_restarted(self) -> str:
        graceful = self.rng.random() < 0.5
        away = self.cluster.restart_apiserver(self.rng.uniform(0, 1.5), graceful)
        return f"{away:.1f} s, {'SIGTERM' if graceful else 'SIGKILL'}"

    def etcd_paused(self) -> str:
        seconds = self.rng.uniform(0.5, 4.0)
        self.cluster.pause_etcd(seconds)
        return f"{seconds:.1f} s"

    def node_gone(self) -> str:
        """With every container on it and its Node object; a new one of that name comes two seconds later."""
        node = self.rng.choice(self.nodes)
        for pod in self._list("/api/v1/pods"):
            if pod["spec"].get("nodeName") == node.node:
                self._spoil(pod["metadata"]["namespace"], (pod["metadata"].get("labels") or {}).get("job-name", ""))
        node.kill(forget=True)
        time.sleep(2.0)
        node.start(wait=False)
        return node.node

    # ---- objects

    def job_deleted(self) -> str:
        return self._delete("/apis/batch/v1", "jobs", lambda job: str(job["metadata"]["name"]))

    def pod_deleted(self) -> str:
        return self._delete("/api/v1", "pods", lambda pod: str(pod["metadata"]["labels"].get("job-name", "")))

    def _delete(self, group: str, plural: str, job_of: Callable[[Json], str]) -> str:
        deadline = time.monotonic() + 5
        flying: list[Json] = []
        while not flying and time.monotonic() < deadline:
            flying = [
                item
                for item in self._list(f"{group}/{plural}?{SELECTOR}")
                if not self.recorder.holds(item["metadata"]["namespace"], job_of(item))
            ]
            time.sleep(0.1)
        if not flying:
            return "none in flight"
        # half of the time the youngest, whose attempt may not be known to have a Job yet
        flying.sort(key=lambda i: (str(i["metadata"]["creationTimestamp"]), str(i["metadata"]["name"])))
        item = flying[-1] if self.rng.random() < 0.5 else self.rng.choice(flying)
        namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
        self._spoil(namespace, job_of(item))
        grace = self.rng.choice([0, 5])
        options = {"propagationPolicy": "Background", **({"gracePeriodSeconds": grace} if plural == "pods" else {})}
        with contextlib.suppress(ApiError, OSError, http.client.HTTPException):
            self.cluster.rest.delete(f"{group}/namespaces/{namespace}/{plural}/{name}", options)
        return f"{namespace}/{name}"

    def _spoil(self, namespace: str, job: str) -> None:
        if job and not self.recorder.holds(namespace, job):
            self.recorder.destroyed.add((namespace, job))

    def _list(self, path: str) -> list[Json]:
        with contextlib.suppress(ApiError, OSError, http.client.HTTPException):
            return list(self.cluster.rest.get(path)["items"])
        return []

    # ---- the wire

    def watches_cut(self) -> str:
        self.proxy.cut_watches()
        return "all"

    def watches_silent(self) -> str:
        seconds = self.rng.uniform(1, 5)
        self.proxy.silence_watches(seconds)
        return f"{seconds:.1f} s"

    def faults(self, fault: str) -> str:
        seconds, share = self.rng.uniform(0.5, 2.5), self.rng.choice([0.2, 0.5, 1.0])
        self.proxy.fail(fault, seconds, share)
        if fault == "410":  # a watch meets it when it is renewed
            self.proxy.cut_watches()
        return f"{share:.0%} for {seconds:.1f} s"


def _fault(name: str) -> Callable[[Interrupter], str]:
    return lambda interrupter: interrupter.faults(name)


Act = Callable[[Interrupter], str]
#: Name, weight, what is done.
KINDS: tuple[tuple[str, int, Act], ...] = (
    ("operator killed", 14, Interrupter.operator_killed),
    ("operator killed, Job deleted", 6, Interrupter.operator_killed_and_job_deleted),
    ("operator frozen", 4, Interrupter.operator_frozen),
    ("API server restarted", 3, Interrupter.apiserver_restarted),
    ("etcd paused", 6, Interrupter.etcd_paused),
    ("node gone", 4, Interrupter.node_gone),
    ("Job deleted", 14, Interrupter.job_deleted),
    ("Pod deleted", 12, Interrupter.pod_deleted),
    ("watches cut", 8, Interrupter.watches_cut),
    ("watches silent", 5, Interrupter.watches_silent),
    *((f"answers {code}", 6, _fault(code)) for code in ("409", "410", "429", "500")),
    ("written, then 500", 6, _fault("500-landed")),
    ("connection reset", 3, _fault("reset")),
    ("written, then reset", 4, _fault("reset-landed")),
    ("timeout", 3, _fault("timeout")),
    ("written, then timeout", 4, _fault("timeout-landed")),
)


def pause(rng: random.Random) -> float:
    """Seconds between two interruptions: sometimes none, so that they meet."""
    return 0.0 if rng.random() < 0.15 else rng.uniform(0.3, 3.5)
