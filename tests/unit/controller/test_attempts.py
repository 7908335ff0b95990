"""Every way a Job and its Pods can end, and what is paid for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.probe import ProbeSpec
from orrery.controller.attempts import NO_POD, Accelerated, cannot_start, charge, is_held, is_idle, observe
from orrery.controller.observing import EDITED, OUT_OF_TIME
from tests.unit.controller import factory
from tests.unit.controller.bodies import (
    COMPLETE,
    DEADLINE,
    END,
    FAILED,
    RUNNING,
    START,
    attempt,
    job,
    pod,
    report,
    terminated,
)

pytestmark = pytest.mark.unit

SPEC: ProbeSpec = factory.probe(factory.plan()).spec
NOW = datetime(2026, 1, 1, 0, 2, 0, tzinfo=UTC)
GOOD = report(SPEC)


def seen(the_job: Any, *pods: Any, digest: str | None = None, accelerators: int = 1, **of: Any):
    return observe(attempt(**of), SPEC, the_job, pods, accelerators, digest, NOW)


def test_nothing_costs_more_than_was_set_aside_for_it() -> None:
    paid = attempt().model_copy(update={"price_per_hour": Decimal("3.6"), "reserved": Decimal("0.05")})
    assert charge(paid, 10.0) == Decimal("0.01")
    assert charge(paid, 1000.0) == Decimal("0.05")
    assert charge(paid, 0.0001) == Decimal("0.000001"), "rounded up to a millionth"


@pytest.mark.parametrize(
    ("the_job", "pods", "reason", "cost"),
    [
        (job(COMPLETE), [pod(terminated(message=GOOD))], "Completed", "0.06"),
        (job(FAILED), [pod(terminated(137, "OOMKilled"))], "OutOfMemory", "0.06"),
        (job(FAILED), [pod(terminated(137))], "OutOfMemory", "0.06"),
        (job(FAILED), [pod(terminated(1))], "Crashed", "0.06"),
        (job(COMPLETE), [pod(terminated(0))], "ReportMissing", "0.06"),
        (job(COMPLETE), [pod(terminated(message="{cut"))], "ReportInvalid", "0.06"),
        (job(COMPLETE), [pod(terminated(message="x" * 5000))], "ReportTooLarge", "0.06"),
        (job(COMPLETE), [pod(terminated(message=report(SPEC, probe="probe-x")))], "ForeignReport", "0.06"),
        (job(COMPLETE), [pod(terminated(message=report(SPEC, complete=False)))], "ReportIncomplete", "0.06"),
        # a deadline: of the Job, whose Pod is gone and nobody saw it; of the Job, whose Pod never ran; of the Pod
        (job(DEADLINE, failed=1), [], "DeadlineExceeded", "0.064"),
        (job(DEADLINE), [], "Unschedulable", "0"),
        (job(DEADLINE), [pod({"waiting": {"reason": "ImagePullBackOff"}}, deleted=True)], "Unschedulable", "0"),
        (job(DEADLINE), [pod(None) | {"gone": True}], "Unschedulable", "0"),
        (job(FAILED), [pod(terminated(137), reason="DeadlineExceeded")], "DeadlineExceeded", "0.06"),
        (job(FAILED), [pod({"waiting": {}}, reason="DeadlineExceeded", phase="Failed")], "Unschedulable", "0"),
        # taken away
        (job(FAILED), [pod(terminated(137), deleted=True)], "Disrupted", "0.06"),
        (job(FAILED), [pod(terminated(143), reason="Evicted")], "Disrupted", "0.06"),
        (job(FAILED), [pod(terminated(137, "ContainerStatusUnknown"))], "Disrupted", "0.06"),
        (
            job(FAILED),
            [pod(terminated(137), conditions=[{"type": "DisruptionTarget", "status": "True"}])],
            "Disrupted",
            "0.06",
        ),
        (job(FAILED), [], "Disrupted", "0.064"),
        # the Job is gone
        (None, [], "JobDeleted", "0.115"),
        (None, [pod(terminated(143))], "JobDeleted", "0.06"),
        (None, [pod(terminated(message=GOOD))], "Completed", "0.06"),
        (None, [pod({"waiting": {}}, deleted=True)], "JobDeleted", "0"),
    ],
)
def test_every_ending_has_a_reason_and_a_price(the_job: Any, pods: list[Any], reason: str, cost: str) -> None:
    found = seen(the_job, *pods)
    assert found.ended and found.attempt.reason == reason
    assert found.attempt.cost == Decimal(cost)
    assert found.attempt.phase == ("Succeeded" if reason == "Completed" else "Failed")
    assert reason == "Completed" or found.attempt.message


def test_what_is_ended_before_its_time_is_paid_for_its_seconds_and_keeps_what_it_measured() -> None:
    some = report(SPEC, complete=False)
    for pods, cost in (([pod(terminated(137))], "0.06"), ([pod(terminated(143, message=some))], "0.06"), ([], "0.115")):
        found = observe(attempt(), SPEC, None, pods, 1, None, NOW, early=EDITED)
        assert (found.attempt.reason, found.attempt.cost) == ("Interrupted", Decimal(cost))
        assert EDITED in (found.attempt.message or "")
    partly = [pod(terminated(143, message=some))]
    assert "count" in (observe(attempt(), SPEC, None, partly, 1, None, NOW, early=OUT_OF_TIME).attempt.message or "")
    queued = attempt(reason="WaitingInQueue", message="Kueue: no quota")
    assert observe(queued, SPEC, None, [], 1, None, NOW, early=OUT_OF_TIME).attempt.cost == 0, (
        "the queue never let it go"
    )
    # one that ran, was held again and is remembered by nobody, may have used all the time since
    again = attempt(reason="WaitingInQueue", startedAt=START)
    assert observe(again, SPEC, None, [], 1, None, NOW, early=OUT_OF_TIME).attempt.cost == Decimal("0.11")
    # whoever finished in time has finished; what still runs is waited for
    good = [pod(terminated(message=GOOD))]
    assert observe(attempt(), SPEC, job(COMPLETE), good, 1, None, NOW, early=EDITED).attempt.reason == "Completed"
    assert not observe(attempt(), SPEC, None, [pod(RUNNING)], 1, None, NOW, early=EDITED).ended


@pytest.mark.parametrize(
    ("told", "image"),
    [
        ("registry/probe@sha256:" + "a" * 64, "registry/probe@sha256:" + "a" * 64),
        ("docker-pullable://registry/probe@sha256:" + "a" * 64, "registry/probe@sha256:" + "a" * 64),
        ("sha256:" + "a" * 64, None),  # built on the node: nobody else can pull it
        ("", None),
    ],
)
def test_the_image_that_ran_is_known_by_its_digest(told: str, image: str | None) -> None:
    ran = pod(terminated(message=GOOD))
    ran["status"]["containerStatuses"][0]["imageID"] = told
    assert seen(job(COMPLETE), ran).attempt.image == image


def test_an_error_that_the_probe_tells_is_the_reason() -> None:
    said = report(SPEC, trials=[], reason="MissingColumn", error="the file has no column 'label'")
    found = seen(job(COMPLETE), pod(terminated(message=said)))
    assert (found.attempt.reason, found.attempt.message) == ("MissingColumn", "the file has no column 'label'")


def test_what_was_measured_before_the_end_counts() -> None:
    part = report(SPEC, complete=False)
    for the_pod in (pod(terminated(137, "OOMKilled", part)), pod(terminated(143, message=part), reason="Evicted")):
        found = seen(job(FAILED), the_pod)
        assert found.report is not None and len(found.report.trials) == 1
        assert "1 of its measurements count" in (found.attempt.message or "")


def test_other_data_than_the_other_probes_read_are_refused() -> None:
    facts = {"digest": "a" * 64, "trainExamples": 1, "evaluationExamples": 1}
    said = report(SPEC, taskFacts=facts)
    assert seen(job(COMPLETE), pod(terminated(message=said)), digest="a" * 64).attempt.reason == "Completed"
    assert seen(job(COMPLETE), pod(terminated(message=said)), digest="b" * 64).attempt.reason == "DataMismatch"


def test_another_commit_of_the_model_than_the_other_probes_loaded_is_refused() -> None:
    good = pod(terminated(message=report(SPEC, modelCommit="a" * 40)))
    for commit, reason in (("a" * 40, "Completed"), ("b" * 40, "RevisionMismatch"), (None, "Completed")):
        found = observe(attempt(), SPEC, job(COMPLETE), [good], 1, None, NOW, model_commit=commit)
        assert found.attempt.reason == reason and (found.report is None) == (reason == "RevisionMismatch")


def test_a_probe_cannot_tell_of_more_work_than_its_container_lived() -> None:
    trial = {"name": "t0", "outcome": "Measured", "score": "0.5", "items": 10, "evaluationSeconds": "600"}
    found = seen(job(COMPLETE), pod(terminated(message=report(SPEC, trials=[trial]))))
    assert found.attempt.reason == "ReportImplausible"


def test_every_pod_of_an_attempt_is_paid_and_the_last_one_speaks() -> None:
    first = pod(terminated(143, start="2026-01-01T00:00:10Z", end="2026-01-01T00:00:40Z"), uid="1", gone=True)
    second = pod(terminated(message=GOOD, start="2026-01-01T00:00:50Z", end=END), uid="2")
    found = seen(job(COMPLETE), first, second, accelerators=4)
    assert found.attempt.reason == "Completed"
    assert found.attempt.cost == Decimal("0.05") and found.attempt.seconds == 200
    assert (found.attempt.started_at, found.attempt.finished_at) == (START, END)
    # of a first Pod that is forgotten, its start was written down
    found = seen(job(COMPLETE), second, phase="Running", startedAt=START)
    assert found.attempt.cost == Decimal("0.06")


def test_in_flight_it_says_why_it_waits() -> None:
    def told(*args: Any, **kwargs: Any) -> tuple[str, str | None]:
        found = seen(*args, **kwargs)
        assert not found.ended and found.attempt.cost is None
        return found.attempt.phase, found.attempt.reason

    assert told(job(active=1)) == ("Queued", "Pending")
    assert told(job(active=1), pod(RUNNING)) == ("Running", None)
    assert told(job(active=1), phase="Running", startedAt=START) == ("Running", None)
    assert told(job(active=1), pod({"waiting": {"reason": "ImagePullBackOff"}})) == ("Queued", "ImagePullBackOff")
    unschedulable = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes have nvidia.com/gpu"}
    found = seen(job(active=1), pod(None, conditions=[unschedulable])).attempt
    assert (found.reason, found.message) == ("Unschedulable", "0/3 nodes have nvidia.com/gpu")
    assert told(job(suspend=True)) == ("Queued", "WaitingInQueue")
    waits = observe(attempt(), SPEC, job(suspend=True), (), 1, None, NOW, ("WaitingInQueue", "Kueue: no quota"))
    assert waits.attempt.message == "Kueue: no quota"
    mount = "FailedMount", 'configmap "absent" not found'
    creating = pod({"waiting": {"reason": "ContainerCreating"}})
    held = observe(attempt(), SPEC, job(active=1), [creating], 1, None, NOW, mount).attempt
    assert (held.reason, held.message) == mount


def test_a_job_that_cannot_make_a_pod_is_given_up_at_its_deadline_and_costs_nothing() -> None:
    """Before Kubernetes 1.26 no clock starts for it: it would wait, and hold its reservation, for ever."""
    quota = "FailedCreate", "exceeded quota: gpus"
    unmade = job()
    del unmade["status"]["startTime"]
    held = observe(attempt(), SPEC, unmade, [], 1, None, NOW, quota).attempt
    assert (held.phase, held.reason) == ("Queued", "FailedCreate") and is_held(held) and is_idle(unmade)
    later = NOW.replace(hour=1)
    assert cannot_start(held, SPEC, unmade, later) and cannot_start(held, SPEC, None, later)
    assert not cannot_start(held, SPEC, unmade, NOW) and not cannot_start(held, SPEC, job(), later)
    assert not cannot_start(attempt(), SPEC, unmade, later)
    ended = observe(held, SPEC, None, [], 1, None, later, early=NO_POD).attempt
    assert (ended.reason, ended.cost) == ("Unschedulable", 0) and "exceeded quota" in (ended.message or "")
    # one of 1.26 or newer is ended by its Job, in the same words
    by_its_job = observe(held, SPEC, job(DEADLINE), [], 1, None, NOW).attempt
    assert (by_its_job.reason, by_its_job.cost) == ("Unschedulable", 0) and "quota" in (by_its_job.message or "")


@pytest.mark.parametrize("the_job", [None, job(FAILED), job(DEADLINE)])
def test_a_pod_that_outlives_its_job_is_waited_for(the_job: Any) -> None:
    """An old Job controller may forget that a Job has failed, and run its replacement Pod to the end."""
    ended_one = pod(terminated(143), uid="1", deleted=True)
    assert not seen(the_job, ended_one, pod(RUNNING)).ended
    assert not seen(the_job, ended_one, pod({"waiting": {}}, phase="Pending")).ended
    assert seen(the_job, ended_one, pod({"waiting": {}}, phase="Pending", deleted=True)).ended
    assert seen(the_job, pod(RUNNING) | {"gone": True}).ended
    # a node that nobody hears of has ended it by its deadline
    later = NOW.replace(hour=1)
    assert observe(attempt(), SPEC, the_job, [pod(RUNNING)], 1, None, later).ended


messages = st.one_of(st.none(), st.text(max_size=40), st.just(GOOD), st.just(report(SPEC, complete=False)))
states = st.one_of(
    st.none(),
    st.just(RUNNING),
    st.just({"waiting": {"reason": "ErrImagePull"}}),
    st.builds(
        lambda code, reason, message: terminated(code, reason, message or ""),
        st.sampled_from([0, 1, 137, 143]),
        st.sampled_from(["", "OOMKilled", "ContainerStatusUnknown"]),
        messages,
    ),
)


@settings(max_examples=150, deadline=None)
@given(
    the_job=st.sampled_from([None, job(COMPLETE), job(FAILED), job(DEADLINE)]),
    pods=st.lists(st.builds(pod, states, reason=st.sampled_from(["", "Evicted", "DeadlineExceeded"])), max_size=3),
    started=st.sampled_from([None, START]),
)
def test_any_ending_is_an_answer_within_what_was_reserved(the_job: Any, pods: list[Any], started: str | None) -> None:
    of = {"phase": "Running", "startedAt": started} if started else {}
    found = seen(the_job, *pods, **of)
    if found.ended:
        assert found.attempt.reason and Decimal(0) <= (found.attempt.cost or Decimal(0)) <= found.attempt.reserved
        assert json.dumps(found.attempt.to_wire())
    else:
        assert any("terminated" not in (p["status"]["containerStatuses"] or [{"state": {}}])[0]["state"] for p in pods)


def test_accelerators_are_read_also_from_a_plan_that_is_refused() -> None:
    plan = {"spec": {"accelerators": [{"name": "h100", "count": 4, "capacityType": "Spot"}, "?"]}}
    assert Accelerated.of(plan, "h100") == Accelerated("h100", 4, "Spot")
    assert Accelerated.of({"spec": 3}, "h100") == Accelerated("h100")
