"""From a Job and its Pods to how an attempt stands and what it cost. Pure: objects in, the attempt's new state out.

Every Job ends in one of these, whatever it did: a missing, cut, malformed or foreign report is a failed attempt with a
reason. Money is charged for the seconds the container ran, as the node tells them; where nobody knows, for the longest it
can have been, within what was reserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from orrery.api.probe import Attempt, ProbeSpec, Report
from orrery.controller.jobs import CONTAINER
from orrery.controller.server import Object
from orrery.planning.reports import Judgement, judge

OUT_OF_MEMORY_EXIT = 137
#: A reservation without a Job is given back after this long: a request that was sent to make it can no longer arrive.
VOID_SECONDS = 90.0
#: A Pod's clock starts when its node takes it, later than its Job's.
_NODE_SLACK_SECONDS = 60
#: Why a Job is ended that could not make a Pod; an API server before 1.26 starts no clock for it, so it would wait for ever.
NO_POD = "its Job could not make a Pod within the deadline"
#: Why a container never started, as the kubelet says it; each is worth telling the plan's owner.
_WAITING = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
#: Pod-level reasons of servers that have no DisruptionTarget condition yet.
_DISRUPTED = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"})


@dataclass(frozen=True)
class Accelerated:
    """What is read of a plan's accelerator to account for a probe on it; leniently, also from a plan that is refused."""

    name: str
    count: int = 1
    capacity_type: str = "OnDemand"

    @classmethod
    def of(cls, plan: Object, name: str) -> Accelerated:
        """The plan's accelerator of this name."""
        spec = plan.get("spec")
        listed = spec.get("accelerators") if isinstance(spec, dict) else None
        for entry in listed if isinstance(listed, list) else []:
            if isinstance(entry, dict) and entry.get("name") == name:
                count = entry.get("count", 1)
                return cls(name, count if isinstance(count, int) else 1, str(entry.get("capacityType", "OnDemand")))
        return cls(name)


@dataclass(frozen=True)
class Seen:
    """An attempt as it stands now, and what it reported if it reported."""

    attempt: Attempt
    report: Report | None = None

    @property
    def ended(self) -> bool:
        """Whether its cost is final."""
        return self.attempt.phase in ("Succeeded", "Failed")


def observe(
    attempt: Attempt,
    spec: ProbeSpec,
    job: Object | None,
    pods: Sequence[Object],
    accelerators: int,
    data_digest: str | None,
    now: datetime,
    waits: tuple[str, str] | None = None,
    early: str | None = None,
    model_commit: str | None = None,
) -> Seen:
    """How a Reserved, Queued or Running attempt stands.

    ``job`` None means that it existed and is gone (a Reserved attempt whose Job was never made is the caller's to start);
    ``pods`` are those that exist or are remembered. ``accelerators`` multiply wall seconds into accelerator-seconds;
    ``waits`` is what keeps it from running, a reason and a sentence; ``early`` is why its plan ends it before its time, in words.
    """
    if job is not None and not finished(job):
        return Seen(_in_flight(attempt, job, pods, waits))
    if any(_may_run(p) for p in pods) and not _out_of_time(attempt, spec, job, now):
        # it ends with its Pods, whatever its Job says, and is charged until then
        return Seen(_in_flight(attempt, {}, [p for p in pods if _may_run(p)], None))
    # a Job that is held is deleted as it was seen, so nothing of it ran
    held = early is not None and job is None and not pods and is_held(attempt)
    ran = _Ran(0.0, None, None, False, False) if held else _ran(pods, job, attempt, now)
    message = _termination_message(pods)
    judgement = judge(message, spec, data_digest, None if ran.guessed else ran.seconds + 1.0, model_commit)
    reason, sentence = _verdict(attempt, job, pods, judgement, ran, early)
    wall = min(ran.seconds, float(spec.deadline_seconds))
    closed = attempt.model_copy(
        update={
            "phase": "Succeeded" if reason == "Completed" else "Failed",
            "cost": charge(attempt, wall),
            "seconds": Decimal(repr(round(wall * accelerators, 3))),
            "started_at": ran.started or attempt.started_at,
            "finished_at": ran.finished or timestamp(now),
            "image": _image(pods),
            "reason": reason,
            "message": sentence[:1024] or None,
        }
    )
    return Seen(closed, judgement.report)


def charge(attempt: Attempt, wall_seconds: float) -> Decimal:
    """Money for the seconds a container ran, at the price of the day it was reserved; never more than was reserved."""
    exact = (attempt.price_per_hour or Decimal(0)) * Decimal(repr(wall_seconds)) / 3600
    return min(exact.quantize(Decimal("0.000001"), rounding=ROUND_CEILING), attempt.reserved)


def is_held(attempt: Attempt) -> bool:
    """Whether an attempt has no Pod yet, as far as anybody has seen: a queue holds its Job, or none can be made."""
    return attempt.reason in ("WaitingInQueue", "FailedCreate") and attempt.started_at is None


def is_stuck(attempt: Attempt) -> bool:
    """Whether somebody has said why an attempt does not begin: a queue, the scheduler, a kubelet, an admission rule."""
    return attempt.phase == "Queued" and attempt.started_at is None and attempt.reason not in (None, "Pending")


def is_idle(job: Object) -> bool:
    """Whether a Job is suspended, or has had no Pod."""
    status = job.get("status") or {}
    return bool((job.get("spec") or {}).get("suspend")) or not any(
        status.get(count) for count in ("active", "succeeded", "failed")
    )


def finished(job: Object) -> bool:
    """Whether a Job is complete or has failed."""
    return condition(job, "Complete") is not None or condition(job, "Failed") is not None


def condition(body: Object, kind: str) -> dict[str, Any] | None:
    """A condition that is True, or None."""
    for found in (body.get("status") or {}).get("conditions") or []:
        if found.get("type") == kind and found.get("status") == "True":
            return dict(found)
    return None


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, as Kubernetes writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str | None) -> datetime | None:
    """A time as Kubernetes writes it, or None."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _may_run(pod: Object) -> bool:
    """Whether a Pod costs money now or may do so yet: a Job that has failed, or is gone, may leave one behind for a while."""
    if pod.get("gone") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    state = _container_state(pod)
    return "running" in state or ("terminated" not in state and not pod["metadata"].get("deletionTimestamp"))


def cannot_start(attempt: Attempt, spec: ProbeSpec, job: Object | None, now: datetime) -> bool:
    """Whether an attempt has waited for a Pod longer than it may take, and no deadline of its Job ends or has ended it."""
    if attempt.reason != "FailedCreate" or attempt.started_at is not None:
        return False
    return not ((job or {}).get("status") or {}).get("startTime") and _out_of_time(attempt, spec, job, now)


def _out_of_time(attempt: Attempt, spec: ProbeSpec, job: Object | None, now: datetime) -> bool:
    """Whether the kubelet has surely ended whatever ran, also on a node that nobody hears of."""
    begun = parse_timestamp(((job or {}).get("status") or {}).get("startTime")) or parse_timestamp(attempt.reserved_at)
    return begun is None or (now - begun).total_seconds() > spec.deadline_seconds + _NODE_SLACK_SECONDS


def _in_flight(attempt: Attempt, job: Object, pods: Sequence[Object], waits: tuple[str, str] | None) -> Attempt:
    status = job.get("status") or {}
    if (job.get("spec") or {}).get("suspend"):
        reason, message = waits or ("WaitingInQueue", "the queue has not admitted it yet")
        return attempt.model_copy(update={"phase": "Queued", "reason": reason, "message": message[:1024]})
    started = next((s for p in pods if (s := _container_state(p).get("running")) is not None), None)
    if started is not None or (not pods and status.get("active") and attempt.phase == "Running"):
        at = (started or {}).get("startedAt") or attempt.started_at
        return attempt.model_copy(update={"phase": "Running", "started_at": at, "reason": None, "message": None})
    reason, message = why_pending(pods) or waits or ("Pending", "its Pod has not started yet")
    return attempt.model_copy(update={"phase": "Queued", "reason": reason[:64], "message": message[:1024]})


def why_pending(pods: Sequence[Object]) -> tuple[str, str] | None:
    """Why none of an attempt's Pods has begun, a reason and a sentence, if one of them says so itself."""
    for pod in pods:
        waiting = _container_state(pod).get("waiting") or {}
        if waiting.get("reason") in _WAITING:
            return str(waiting["reason"]), str(waiting.get("message") or waiting["reason"])
        for found in (pod.get("status") or {}).get("conditions") or []:
            if found.get("type") == "PodScheduled" and found.get("status") == "False":
                return "Unschedulable", str(found.get("message") or "no node has room for it")
    return None


def _container_state(pod: Object) -> dict[str, Any]:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if status.get("name") == CONTAINER:
            return dict(status.get("state") or {})
    return {}


@dataclass(frozen=True)
class _Ran:
    seconds: float
    started: str | None
    finished: str | None
    guessed: bool
    began: bool


def _ran(pods: Sequence[Object], job: Object | None, attempt: Attempt, now: datetime) -> _Ran:
    """Wall seconds of all Pods of the attempt together."""
    total, first, last, began = 0.0, None, None, False
    for pod in pods:
        state = _container_state(pod)
        ended = state.get("terminated") or {}
        begin = parse_timestamp(ended.get("startedAt") or (state.get("running") or {}).get("startedAt"))
        if begin is None:
            continue
        end = parse_timestamp(ended.get("finishedAt")) or now
        began = True
        # the node's clock has whole seconds: anything that ran is charged at least one
        total += max((end - begin).total_seconds(), 1.0)
        first = min(first or begin, begin)
        last = max(last or end, end)
    if began and first and last:
        seen = parse_timestamp(attempt.started_at)
        if seen is not None and seen < first:  # an earlier Pod of this attempt is gone, and ran too
            total, first = max(total, (last - seen).total_seconds()), seen
        return _Ran(total, timestamp(first), timestamp(last), False, True)
    if pods:
        return _Ran(0.0, None, None, False, False)  # Pods that never started a container used nothing
    failed = condition(job, "Failed") if job is not None else None
    if job is not None and failed and failed.get("reason") == "DeadlineExceeded" and is_idle(job):
        return _Ran(0.0, None, None, False, False)  # it counts the Pods that it ends as failed, and had none
    begin = parse_timestamp((job or {}).get("status", {}).get("startTime")) if job else None
    begin = begin or parse_timestamp(attempt.started_at) or parse_timestamp(attempt.reserved_at)
    end = now
    for kind in ("Failed", "Complete"):
        if job is not None and (c := condition(job, kind)) is not None:
            end = parse_timestamp(c.get("lastTransitionTime")) or now
    if begin is None:
        return _Ran(float("inf"), None, None, True, True)
    return _Ran(max((end - begin).total_seconds(), 1.0), timestamp(begin), timestamp(end), True, True)


def _image(pods: Sequence[Object]) -> str | None:
    """The image that ran last, with its digest; None where the node has none, since it came from no registry."""
    listed = [
        s for p in pods for s in (p.get("status") or {}).get("containerStatuses") or [] if s.get("name") == CONTAINER
    ]
    found = [str(status.get("imageID") or "").removeprefix("docker-pullable://") for status in listed]
    return next((image[:512] for image in reversed(found) if "@" in image), None)


def _termination_message(pods: Sequence[Object]) -> bytes | None:
    """The report of the Pod that ended last and said something."""
    found = [
        (str(ended.get("finishedAt") or ""), str(ended["message"]))
        for pod in pods
        if (ended := _container_state(pod).get("terminated") or {}).get("message")
    ]
    return max(found)[1].encode() if found else None


def _taken_away(pods: Sequence[Object], last: dict[str, Any] | None) -> bool:
    """Whether a failed Job lost its Pod to an eviction, a lost node or somebody's deletion, rather than to the probe itself."""
    if last is None or last.get("reason") == "ContainerStatusUnknown":
        return True
    return any(
        condition(pod, "DisruptionTarget") is not None
        or (pod.get("status") or {}).get("reason") in _DISRUPTED
        or pod["metadata"].get("deletionTimestamp")
        for pod in pods
    )


def _verdict(
    attempt: Attempt, job: Object | None, pods: Sequence[Object], judgement: Judgement, ran: _Ran, early: str | None
) -> tuple[str, str]:
    if judgement.told is not None:
        return judgement.told
    report, kept = judgement.report, judgement.kept
    why = f" ({attempt.reason}: {attempt.message})" if attempt.reason not in (None, "Pending") else ""
    if job is None and early == NO_POD and not ran.began:
        return "Unschedulable", f"{NO_POD}{why}; nothing is charged"
    if job is None and early is not None:
        return "Interrupted", f"ended early, because {early}{kept}"
    if job is None and not pods:
        return "JobDeleted", "its Job was deleted before it finished; charged as if it had run until now"
    failed = condition(job, "Failed") if job is not None else None
    if failed and failed.get("reason") == "DeadlineExceeded":
        if not ran.began:
            return "Unschedulable", f"its Pod did not start within the deadline{why}; nothing is charged"
        return "DeadlineExceeded", f"ended at its deadline{kept}"
    ends = [e for pod in pods if (e := _container_state(pod).get("terminated")) is not None]
    last = max(ends, key=lambda e: str(e.get("finishedAt") or ""), default=None)
    if last is not None and last.get("reason") == "OOMKilled":
        return "OutOfMemory", f"its container was killed at its memory limit{kept}"
    if any((pod.get("status") or {}).get("reason") == "DeadlineExceeded" for pod in pods):
        if not ran.began:
            return "Unschedulable", f"its Pod did not start within the deadline{why}; nothing is charged"
        return "DeadlineExceeded", f"ended at its deadline{kept}"
    if job is not None and failed and _taken_away(pods, last):
        return "Disrupted", f"its Pod was taken away by the cluster{kept}"
    if job is None:
        return "JobDeleted", f"its Job was deleted before it finished{kept}"
    if last is not None and last.get("exitCode") == OUT_OF_MEMORY_EXIT:
        return (
            "OutOfMemory",
            f"killed with exit code {OUT_OF_MEMORY_EXIT}, as a container is when memory runs out{kept}",
        )
    if judgement.reason not in ("", "ReportMissing"):
        return judgement.reason, judgement.message
    if last is not None and last.get("exitCode"):
        return "Crashed", f"its container ended with exit code {last['exitCode']}; its log says why{kept}"
    if report is not None:
        return "ReportIncomplete", f"its container ended with an unfinished report of {len(report.trials)} trials"
    return "ReportMissing", "its Pod left no report; the Pod's log says why"
