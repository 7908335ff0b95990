"""A running operator, plans with simulated probes, and what tests ask of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from kubernetes import client

from tests.cluster import Cluster
from tests.waiting import PATIENCE, until

GROUP, VERSION = "orrery.dev", "v1alpha1"
SIMULATED = {"orrery.dev/simulated": "true"}
IMAGE = "orrery/simulated:test"


#: The operator, with less time before a reservation without a Job is given back: here no request is that long on its way.
SOONER = """
import sys
from orrery.cli import main
from orrery.controller import attempts
attempts.VOID_SECONDS = {}
sys.argv = ["orrery", "operator"]
main.run()
"""


def free_port() -> int:
    """A free port below those that the system hands to clients: until it is bound, nobody gets it by chance."""
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Operator:
    """``orrery operator`` as a process of its own; killed at the end of the ``with``."""

    def __init__(self, kubeconfig: Path, folder: Path, void_seconds: float | None = None, **environment: str) -> None:
        self.command = [sys.executable, "-m", "orrery.cli.main", "operator"]
        if void_seconds is not None:
            self.command[1:] = ["-c", SOONER.format(void_seconds)]
        self.metrics_port, self.health_port = free_port(), free_port()
        self.log = folder / f"operator-{uuid.uuid4().hex[:6]}.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/tmp"),
            "KUBECONFIG": str(kubeconfig),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "ORRERY_PROBE_IMAGE": IMAGE,
            "ORRERY_LEASE_SECONDS": "6",
            "ORRERY_RESYNC_SECONDS": "3",
            "ORRERY_METRICS_PORT": str(self.metrics_port),
            "ORRERY_HEALTH_PORT": str(self.health_port),
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> Operator:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        if wait:
            until(lambda: self.health().get("leading"), 120, what=f"the operator leads; see {self.log}")
        return self

    def __enter__(self) -> Operator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As Kubernetes ends a Pod."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def health(self) -> dict[str, Any]:
        """What /healthz says, with its HTTP status."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/healthz", timeout=5) as answer:
                return {"code": answer.status, **json.load(answer)}
        except urllib.error.HTTPError as error:
            return {"code": error.code, **json.load(error)}
        except OSError:
            return {}

    def metrics(self) -> dict[str, float]:
        """Samples by name with labels, as scraped."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {k: float(v) for k, _, v in (line.rpartition(" ") for line in lines if line and line[0] != "#")}


class Namespace:
    """Objects of one namespace, plain."""

    def __init__(self, kubernetes: client.ApiClient, namespace: str) -> None:
        self.kubernetes, self.namespace = kubernetes, namespace
        self.custom = client.CustomObjectsApi(kubernetes)
        self.core, self.batch = client.CoreV1Api(kubernetes), client.BatchV1Api(kubernetes)
        self._plain = kubernetes.sanitize_for_serialization

    def apply(self, plan: dict[str, Any]) -> dict[str, Any]:
        created = self.custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, "adaptationplans", plan)
        return dict(created)

    def edit(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        return dict(
            self.custom.patch_namespaced_custom_object(
                GROUP, VERSION, self.namespace, "adaptationplans", name, {"spec": spec}
            )
        )

    def plan(self, name: str = "plan") -> dict[str, Any]:
        return dict(self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, "adaptationplans", name))

    def delete(self, name: str) -> None:
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, "adaptationplans", name)

    def gone(self, name: str) -> bool:
        try:
            self.plan(name)
        except client.ApiException as error:
            return error.status == 404
        return False

    def gate(self, cluster: Cluster) -> Path:
        """Probes of ``sim/gate`` with the model cache ``gate`` run until somebody makes this file."""
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
        self.core.create_namespaced_persistent_volume_claim(
            self.namespace, {"metadata": {"name": "gate"}, "spec": spec}
        )
        return cluster.volume(self.namespace, "gate") / "open"

    def running(self) -> list[dict[str, Any]]:
        """Pods that run and are to go on."""
        return [
            p for p in self.pods() if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]
        ]

    def probes(self) -> list[dict[str, Any]]:
        listed = self.custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, "adaptationprobes")
        return sorted(listed["items"], key=lambda p: p["metadata"]["name"])

    def jobs(self) -> list[dict[str, Any]]:
        return [self._plain(j) for j in self.batch.list_namespaced_job(self.namespace).items]

    def pods(self) -> list[dict[str, Any]]:
        return [self._plain(p) for p in self.core.list_namespaced_pod(self.namespace).items]

    def events(self, name: str = "plan") -> dict[str, str]:
        """Reasons with their last message, of one plan."""
        found = self.core.list_namespaced_event(self.namespace, field_selector=f"involvedObject.name={name}").items
        return {e.reason: e.message for e in found}

    def prices(self, name: str, **per_hour: str) -> None:
        """Create or replace a PriceList."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "PriceList",
            "metadata": {"name": name},
            "spec": {
                "currency": "USD",
                "source": "made up for tests",
                "date": "2026-01-01",
                "accelerators": [{"name": n, "pricePerHour": p} for n, p in (per_hour or {"cpu": "0.36"}).items()],
            },
        }
        try:
            self.custom.create_cluster_custom_object(GROUP, VERSION, "pricelists", body)
        except client.ApiException as error:
            if error.status != 409:
                raise
            self.custom.patch_cluster_custom_object(GROUP, VERSION, "pricelists", name, {"spec": body["spec"]})

    def settled(self, name: str = "plan", seconds: float = 60, patience: float = PATIENCE) -> dict[str, Any]:
        """The plan once kstatus says that nothing more is to be expected."""
        ended = until(
            lambda: _if(self.plan(name), lambda p: kstatus(p) in ("Current", "Failed")), seconds, patience=patience
        )
        return dict(ended)

    def answered(self, name: str = "plan", seconds: float = 60, patience: float = PATIENCE) -> dict[str, Any]:
        found = self.settled(name, seconds, patience)
        assert kstatus(found) == "Current", found.get("status")
        return found


def chart_account(server: Cluster, watched: str = "", release: str = "orrery-system") -> Path:
    """Apply the chart's account, roles and bindings; a kubeconfig with the account's own token."""
    from tests.unit.charts.rendering import objects

    wanted = ("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
    found = [d for d in objects({"watchNamespace": watched}, namespace=release) if d["kind"] in wanted]
    command = [server.programs.kubectl, "--kubeconfig", str(server.kubeconfig), "apply", "-f", "-"]
    # the chart leaves the namespace of what is its release's own to Helm
    for document in found:
        if not document["kind"].startswith("Cluster"):
            document["metadata"].setdefault("namespace", release)
    listed = {"apiVersion": "v1", "kind": "List", "items": found}
    subprocess.run(command, input=json.dumps(listed), text=True, check=True, capture_output=True, timeout=60)
    return server.service_account_kubeconfig(release, "orrery")


def _if(value: dict[str, Any], check: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    return value if check(value) else None


def plan(name: str = "plan", prices: str = "prices", models: tuple[str, ...] = ("ok",), **spec: Any) -> dict[str, Any]:
    """A plan whose probes are simulated; every ``models`` entry is how it fares, keywords replace fields of the spec."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "AdaptationPlan",
        "metadata": {"name": name},
        "spec": {
            "task": {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": "r"}}}},
            "models": [
                {"name": f"m{i}", "source": {"huggingFace": {"repo": f"sim/{how}", "revision": f"r{i}"}}}
                for i, how in enumerate(models)
            ],
            "strategies": [
                {"name": "zero-shot", "type": "ZeroShot"},
                {"name": "in-context", "type": "InContext", "grid": [{"name": "shots", "values": [1, 4, 8]}]},
            ],
            "workload": {"requestsPerDay": 1000},
            "objective": {"goal": "MinimizeCost", "minQuality": "0.6"},
            "budget": {"maxProbeCost": "1"},
            "pricing": {"priceListRef": {"name": prices}},
            "accelerators": [{"name": "cpu", "nodeSelector": SIMULATED}],
            "probing": {"deadlineSeconds": 120, "evaluationItems": 200, "retries": 1},
            **spec,
        },
    }


def conditions(plan: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    """Status, reason and message by condition."""
    listed = (plan.get("status") or {}).get("conditions") or []
    return {c["type"]: (c["status"], c["reason"], c.get("message", "")) for c in listed}


def stalled(found: dict[str, Any]) -> dict[str, Any] | None:
    """The plan, once it says that it is stalled."""
    return found if conditions(found).get("Stalled", ("",))[0] == "True" else None


def kstatus(found: dict[str, Any]) -> str:
    """As sigs.k8s.io/cli-utils reads a custom resource: Terminating, InProgress, Failed or Current."""
    meta, status = found["metadata"], found.get("status") or {}
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != meta["generation"]:
        return "InProgress"
    is_true = {c["type"]: c["status"] == "True" for c in status.get("conditions") or []}
    if is_true.get("Reconciling"):
        return "InProgress"
    if is_true.get("Stalled"):
        return "Failed"
    if "Ready" in is_true:
        return "Current" if is_true["Ready"] else "InProgress"
    return "InProgress" if not status else "Current"
