"""What a cluster and its kubelet can be asked for; plain data, kept beside the cluster so that another process can attach to it."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.cluster.programs import REPOSITORY

Mode = Literal["api", "full"]
Isolation = Literal["auto", "overlay", "none"]


def default_entrypoints() -> dict[str, str]:
    """Images of the project mean the programs of the environment that runs the tests."""
    orrery = str(Path(sys.executable).parent / "orrery")
    return {"orrery/probe": orrery, "orrery/operator": orrery, "orrery-probe": orrery, "orrery-operator": orrery}


def default_environment() -> dict[str, str]:
    """The tests' own interpreter is first on the containers' PATH, and tools keep to one thread: the machine is shared."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "OMP_NUM_THREADS": "1",
    }


@dataclass(frozen=True)
class KubeletOptions:
    """How a process kubelet behaves."""

    isolation: Isolation = "auto"
    gpus: int = 8
    labels: dict[str, str] = field(default_factory=dict)
    entrypoints: dict[str, str] = field(default_factory=default_entrypoints)
    environment: dict[str, str] = field(default_factory=default_environment)
    backoff_seconds: float = 10.0
    heartbeat_seconds: float = 4.0
    visible: tuple[str, ...] = (str(REPOSITORY), sys.prefix, sys.base_prefix)


@dataclass(frozen=True)
class Options:
    """How a cluster is started.

    mode: "full", or "api" for etcd and the API server alone (no Job, garbage or namespace controller, no scheduler, no ServiceAccount admission).
    audit: the level of the audit log ROOT/log/audit.log, None for none.
    node_grace_seconds: after that many seconds without a heartbeat a node is NotReady and its Pods are evicted (a real cluster: 40 + 300).
    etcd_fsync: False trades durability, which a test does not need, for speed; a killed etcd still finds what it wrote.
    """

    mode: Mode = "full"
    kubelet: bool = True
    audit: Literal["Metadata", "Request", "RequestResponse"] | None = None
    node_grace_seconds: int = 20
    eviction_seconds: int = 5
    etcd_fsync: bool = False
    apiserver_arguments: tuple[str, ...] = ()
    controller_arguments: tuple[str, ...] = ()
    kubelet_options: KubeletOptions = field(default_factory=KubeletOptions)

    def as_json(self) -> dict[str, Any]:
        """Plain data for cluster.json."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Options:
        """The inverse of as_json."""
        kubelet = dict(data["kubelet_options"])
        kubelet["visible"] = tuple(kubelet["visible"])
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return Options(**{**plain, "kubelet_options": KubeletOptions(**kubelet)})
