"""What an API server leaves out in silence: found in its answers and by its version, and said to people once.

An old server prunes fields it does not know without a word. The operator works on it all the same, in other ways; but who
relies on a queue or on preemption must be told.
"""

from __future__ import annotations

from typing import Any

from orrery.controller.server import Object

#: Kubernetes 1.x from which a field is served by default, and what its absence means here.
CEL, SUSPEND, POD_FAILURE_POLICY = 25, 22, 26


def of_version(minor: int, queued: bool) -> str:
    """A sentence for the plan's condition on servers that lack something that matters to it; empty on current ones.

    >>> of_version(31, queued=True)
    ''
    """
    lacks = []
    if minor < CEL:
        lacks.append("CEL rules (the operator checks the plan instead, after it was accepted)")
    if minor < POD_FAILURE_POLICY:
        lacks.append("podFailurePolicy (a disrupted probe is started again as a further attempt)")
    if queued and minor < SUSPEND:
        lacks.append("suspended Jobs (spec.scheduling.queueName has no effect: probes do not wait for Kueue)")
    return f"this server is Kubernetes 1.{minor} and lacks {'; '.join(lacks)}" if lacks else ""


def dropped(sent: Object, stored: Object) -> list[str]:
    """Sentences for the fields of a Job that the server accepted and did not keep, also on a server that should know them."""
    asked: dict[str, Any] = sent.get("spec") or {}
    kept: dict[str, Any] = stored.get("spec") or {}
    told = []
    if asked.get("suspend") and not kept.get("suspend"):
        told.append(
            "this server dropped the Job's spec.suspend: probes do not wait for the queue of spec.scheduling.queueName; "
            "write a plan without a queue, or use Kubernetes 1.22 or newer"
        )
    if asked.get("podFailurePolicy") and not kept.get("podFailurePolicy"):
        told.append(
            "this server dropped the Job's spec.podFailurePolicy: a probe whose Pod is disrupted is started again as a "
            "further attempt; Kubernetes 1.26 or newer replaces the Pod instead"
        )
    return told
