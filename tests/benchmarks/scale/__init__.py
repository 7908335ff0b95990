"""What the benchmark of the operator at scale is made of: a simulated rest of the cluster, watches from outside, a bare client."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

from tests.cluster.rest import ApiError, Json, Rest

ORRERY = "/apis/orrery.dev/v1alpha1"
SELECTOR = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dorrery"
NAMESPACES = 10
#: Threads of the operator, of the bare client, and of the finisher; plans that are unanswered at a time.
WORKERS = 8
BROKEN = (OSError, http.client.HTTPException, ApiError)


def connect(kubeconfig: Path) -> Rest:
    """As the cluster's administrator, from another process."""
    pki = kubeconfig.parent / "pki"
    match = re.search(r"server: ['\"]?(https://[^'\"\s]+)", kubeconfig.read_text())
    if match is None:
        raise ValueError(f"{kubeconfig} names no server")
    return Rest(match.group(1), pki / "ca.crt", pki / "admin.crt", pki / "admin.key")


def environment(job: Json) -> dict[str, str]:
    """Of a Job's container."""
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e.get("value", "") for e in container["env"]}


def asked(job: Json) -> Json:
    """The spec of the probe that a Job is to run."""
    found: Json = json.loads(environment(job)["ORRERY_PROBE_SPEC"].replace("$$(", "$("))
    return found
