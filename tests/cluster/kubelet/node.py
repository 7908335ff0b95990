"""The Node object: registration, heartbeats by status and Lease."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import os
import threading
import time

from tests.cluster.kubelet.objects import now
from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import MERGE, ApiError, Json

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
CAPACITY = {
    "cpu": "64",
    "memory": "256Gi",
    "pods": "250",
    "ephemeral-storage": "500Gi",
}  # pretended, like the GPUs: nothing waits for room


class Node:
    """Registers the node and keeps it Ready."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.rest, self._since = settings, settings.rest(), now()

    def start(self) -> None:
        """Heartbeats from now on, in a thread; registers (again) whenever the Node object is missing."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._beat()
                pause = self.settings.heartbeat_seconds
            except (OSError, http.client.HTTPException, ApiError) as error:
                print(now(), "heartbeat:", error, flush=True)
                pause = 0.5
            time.sleep(pause)

    def _beat(self) -> None:
        name = self.settings.node
        try:
            self.rest.patch(f"/api/v1/nodes/{name}/status", {"status": self._status()})
        except ApiError as error:
            if error.status != 404:
                raise
            labels = {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                **self.settings.labels,
            }
            with contextlib.suppress(ApiError):
                self.rest.post(
                    "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}
                )
            self.rest.patch(f"/api/v1/nodes/{name}/status", {"status": self._status()})
        renewed = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease: Json = {"spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed}}
        try:
            self.rest.patch(f"{LEASES}/{name}", lease, MERGE)
        except ApiError as error:
            if error.status != 404:
                raise
            self.rest.post(
                LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, **lease}
            )

    def _status(self) -> Json:
        capacity = {**CAPACITY, "nvidia.com/gpu": str(self.settings.gpus)}
        pressures = [
            ("MemoryPressure", "False"),
            ("DiskPressure", "False"),
            ("PIDPressure", "False"),
            ("Ready", "True"),
        ]
        return {
            "conditions": [
                {"type": kind, "status": value, "reason": "KubeletReady", "lastHeartbeatTime": now(), "lastTransitionTime": self._since}
                for kind, value in pressures
            ],
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": self.settings.node}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.settings.port}},
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "osImage": "this machine", "kernelVersion": os.uname().release,
                "kubeletVersion": "v1.20.2-process", "kubeProxyVersion": "", "containerRuntimeVersion": "process://1", "machineID": "",
                "systemUUID": "", "bootID": "",
            },
        }  # fmt: skip
