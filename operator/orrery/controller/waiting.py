"""Why a probe does not run, in the words of whoever keeps it from running: Kueue, the Job's controller, the kubelet.

A queue holds a Job and says why in its Workload. A quota, an admission rule, a missing PriorityClass keep a Job's controller from
making a Pod, and a missing ConfigMap keeps a kubelet from starting one: neither the Job nor the Pod says so, only an Event does.
"""

from __future__ import annotations

from collections.abc import Sequence

from orrery.controller.server import EVENTS, WORKLOADS, NotFound, Object, Refused, Server

Why = tuple[str, str]  #: a CamelCase reason and a sentence

NO_KUEUE = (
    "nobody admits it: the plan names a queue of Kueue, and this API server knows no Workload of Kueue; install Kueue, or take "
    "spec.scheduling.queueName out"
)


def held_by_its_queue(server: Server, job: Object) -> Why | None:
    """Why Kueue has not admitted a suspended Job, or that there is no Kueue to admit it; None when it says nothing."""
    meta, workloads = job["metadata"], []
    for version in WORKLOADS:
        try:
            workloads = list(server.list(version, meta["namespace"], f"kueue.x-k8s.io/job-uid={meta['uid']}"))
            break
        except NotFound:
            continue
        except Refused:  # an older role
            return None
    else:
        return "WaitingInQueue", NO_KUEUE
    for workload in workloads:
        for found in (workload.get("status") or {}).get("conditions") or []:
            if found.get("type") in ("QuotaReserved", "Admitted") and found.get("status") == "False":
                return "WaitingInQueue", f"Kueue: {found.get('reason')}: {found.get('message')}"
    return None


def told_by_events(server: Server, job: Object, pods: Sequence[Object]) -> Why | None:
    """The latest Event of a Job's Pod, or of the Job that has none, if it is a warning: a trouble that is over was followed by another."""
    of = (pods[-1] if pods else job)["metadata"]
    try:
        listed = list(server.list(EVENTS, job["metadata"]["namespace"], fields=f"involvedObject.uid={of['uid']}"))
    except (NotFound, Refused):  # an older role
        return None
    last = max(listed, key=_when, default=None)
    if last is None or last.get("type") != "Warning":
        return None
    return str(last.get("reason") or "Pending"), str(last.get("message") or "")


def _when(event: Object) -> tuple[str, int]:
    at = event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or ""
    version = str(event["metadata"].get("resourceVersion") or "")
    return str(at)[:19], int(version) if version.isdigit() else 0
