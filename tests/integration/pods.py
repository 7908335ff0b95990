"""Pods for tests of the cluster itself: made, waited for, and seen as the processes they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.waiting import until

ISOLATED = os.geteuid() == 0  # otherwise Pods are plain processes: no mounts of their own, no process 1


def container(script: str, **fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "any", "command": ["sh", "-c", script], **fields}


def run_pod(kubernetes: client.ApiClient, namespace: str, name: str, *containers: dict[str, Any], **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": list(containers), **spec}}
    client.CoreV1Api(kubernetes).create_namespaced_pod(namespace, body)


def read_pod(kubernetes: client.ApiClient, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        pod = client.CoreV1Api(kubernetes).read_namespaced_pod(name, namespace)
    except client.ApiException as error:
        assert error.status == 404
        return None
    return dict(kubernetes.sanitize_for_serialization(pod))


def ended(kubernetes: client.ApiClient, namespace: str, name: str, seconds: float = 30) -> dict[str, Any]:
    """The Pod once it has Succeeded or Failed."""

    def check() -> dict[str, Any] | None:
        pod = read_pod(kubernetes, namespace, name)
        return pod if pod and pod["status"]["phase"] in ("Succeeded", "Failed") else None

    return dict(until(check, seconds))


def terminated(pod: dict[str, Any]) -> dict[str, Any]:
    return dict(pod["status"]["containerStatuses"][0]["state"]["terminated"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processes_with(mark: str) -> list[int]:
    """Processes whose command line holds `mark`, this one apart."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if mark.encode() in command and int(entry.parent.name) != os.getpid():
            found.append(int(entry.parent.name))
    return found


def running(kubernetes: client.ApiClient, namespace: str, name: str) -> bool:
    pod = read_pod(kubernetes, namespace, name)
    return pod is not None and pod["status"]["phase"] == "Running"
