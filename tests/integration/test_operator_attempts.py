"""Attempts on a real API server: bad reports, lost Pods, Jobs and probes, time that is over, and what waits or is refused."""

from __future__ import annotations

import math
import time
from decimal import Decimal
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.integration.operators import Namespace, Operator, conditions, kstatus, plan, stalled
from tests.waiting import until

pytestmark = pytest.mark.integration

ZERO_SHOT = [{"name": "zero-shot", "type": "ZeroShot"}]


def test_every_kind_of_bad_report_is_a_failed_attempt_with_a_reason(operator: Operator, space: Namespace) -> None:
    space.prices("shared")
    bad = ("crash", "silent", "garbage", "foreign")
    for how in bad:
        one = plan(how, prices="shared", models=(how,), strategies=[{"name": "zero-shot", "type": "ZeroShot"}])
        space.apply(one)
    reasons = {}
    for how in bad:
        found = space.settled(how, 90)
        assert kstatus(found) == "Failed" and conditions(found)["Stalled"][1] == "ProbesFailed", found["status"]
        (mine,) = (p for p in space.probes() if p["spec"]["model"]["source"]["huggingFace"]["repo"] == f"sim/{how}")
        reasons[how] = [a["reason"] for a in mine["status"]["attempts"]]
        assert [a["jobName"] for a in mine["status"]["attempts"]] == [f"{mine['metadata']['name']}-{i}" for i in (1, 2)]
    assert reasons == {
        "crash": ["Crashed"] * 2,
        "silent": ["ReportMissing"] * 2,
        "garbage": ["ReportInvalid"] * 2,
        "foreign": ["ForeignReport"] * 2,
    }
    # another environment deserves another try
    space.edit("crash", {"probeTemplate": {"memory": "64Mi"}})
    until(lambda: any(len(p["status"]["attempts"]) == 4 for p in space.probes()), 60)


def test_lost_pods_jobs_and_probes_are_measured_again_and_stay_paid(
    operator: Operator, simulating: Cluster, space: Namespace
) -> None:
    space.prices("shared")
    gate = space.gate(simulating)
    probing = {"deadlineSeconds": 600, "parallelism": 1, "retries": 0}
    gated = {"modelCache": {"claimName": "gate"}, "strategies": ZERO_SHOT, "probing": probing}
    space.apply(plan(prices="shared", models=("gate",), **gated))

    def another(*known: dict[str, Any]) -> dict[str, Any]:
        """A Pod that runs, other than those."""
        uids = {p["metadata"]["uid"] for p in known}
        return dict(until(lambda: [p for p in space.running() if p["metadata"]["uid"] not in uids], 90, every=0.05)[0])

    def spend() -> dict[str, Any]:
        return dict(space.plan()["status"]["spend"])

    first = another()
    space.core.delete_namespaced_pod(first["metadata"]["name"], space.namespace)
    second = another(first)  # an old Job controller replaces it, a current one fails its Job
    job = second["metadata"]["ownerReferences"][0]["name"]
    space.batch.delete_namespaced_job(job, space.namespace, propagation_policy="Background")
    third = another(first, second)
    assert third["metadata"]["ownerReferences"][0]["name"] != job, "one Job an attempt"
    (mine,) = space.probes()
    ended = [a for a in mine["status"]["attempts"] if "cost" in a]
    assert {a["reason"] for a in ended} <= {"Disrupted", "JobDeleted"}, ended
    lost = sum(Decimal(a["cost"]) for a in ended)
    assert lost > 0 and until(lambda: Decimal(spend()["cost"]) == lost, 20)
    assert space.plan()["status"]["progress"]["failed"] == 0, "what was taken away did not fail"
    # a probe that is deleted while it runs: what ran is charged, and it is measured again
    space.custom.delete_namespaced_custom_object(
        "orrery.dev", "v1alpha1", space.namespace, "adaptationprobes", mine["metadata"]["name"]
    )
    another(first, second, third)
    told = until(lambda: _if_deleted(spend(), lost), 30)
    gate.touch()
    space.answered(seconds=90)
    (again,) = space.probes()
    assert again["metadata"]["uid"] != mine["metadata"]["uid"]
    assert [a["reason"] for a in again["status"]["attempts"]][-1] == "Completed", "none of it used up the only try"
    paid = sum(Decimal(a["cost"]) for a in again["status"]["attempts"])
    assert spend()["deletedCost"] == told["deletedCost"]
    assert Decimal(spend()["cost"]) == Decimal(spend()["deletedCost"]) + paid
    # a measurement that is deleted is taken again, and its price is not forgotten
    space.custom.delete_namespaced_custom_object(
        "orrery.dev", "v1alpha1", space.namespace, "adaptationprobes", again["metadata"]["name"]
    )
    before = Decimal(spend()["cost"])
    last = until(lambda: _measured(space, but=again), 60)
    cost = before + sum(Decimal(a["cost"]) for a in last["status"]["attempts"])
    until(lambda: Decimal(spend()["cost"]) == cost and kstatus(space.plan()) == "Current", 60)


def _if_deleted(spend: dict[str, Any], more_than: Decimal) -> dict[str, Any] | None:
    return spend if Decimal(spend.get("deletedCost", "0")) > more_than else None


def _measured(space: Namespace, but: dict[str, Any]) -> dict[str, Any] | None:
    found = [p for p in space.probes() if p["metadata"]["uid"] != but["metadata"]["uid"]]
    return next((p for p in found if (p.get("status") or {}).get("phase") == "Succeeded"), None)


def _attempts(space: Namespace) -> dict[str, list[dict[str, Any]]]:
    """By the model's repository."""
    probes = space.probes()
    return {p["spec"]["model"]["source"]["huggingFace"]["repo"]: p["status"]["attempts"] for p in probes}


def test_when_a_plans_time_is_over_what_runs_is_ended_and_paid_as_locally(
    operator: Operator, simulating: Cluster, space: Namespace
) -> None:
    space.prices("shared")
    space.gate(simulating)  # nobody opens it
    probing = {"deadlineSeconds": 600, "parallelism": 2, "evaluationItems": 200, "designer": "Uniform"}  # both at once
    gated = {"modelCache": {"claimName": "gate"}, "strategies": ZERO_SHOT, "probing": probing}
    best = {"goal": "MaximizeQuality"}
    applied = time.monotonic()
    space.apply(plan(prices="shared", models=("ok", "gate"), activeDeadlineSeconds=600, objective=best, **gated))
    until(lambda: len(space.jobs()) == 2, 30)
    until(lambda: "Succeeded" in [p["status"].get("phase") for p in space.probes()] and len(space.running()) == 1, 60)
    # a few seconds from now, with nothing that would wake the operator then
    space.edit("plan", {"activeDeadlineSeconds": math.ceil(time.monotonic() - applied) + 4})
    found = space.answered(seconds=90)
    attempts = _attempts(space)
    assert [a["reason"] for a in attempts["sim/ok"]] == ["Completed"]
    (ended,) = attempts["sim/gate"]
    assert ended["reason"] == "Interrupted" and "the plan's time was over" in ended["message"]
    assert 0 < Decimal(ended["cost"]) < Decimal(ended["reserved"]) / 4, "the seconds it ran, not what was set aside"
    progress, spend = found["status"]["progress"], found["status"]["spend"]
    assert progress["failed"] == 0 and progress["succeeded"] == 1 and spend["reserved"] == "0"
    assert Decimal(spend["cost"]) == sum(Decimal(a["cost"]) for found in attempts.values() for a in found)
    until(lambda: not space.running(), 30)
    assert found["status"]["recommendation"]["model"] == "m0"
    # with more time it is measured after all
    space.edit("plan", {"activeDeadlineSeconds": 600})
    until(lambda: len(_attempts(space)["sim/gate"]) == 2, 60, what="it is tried again")


def test_what_waits_says_why_and_what_is_refused_says_by_whom(operator: Operator, space: Namespace) -> None:
    space.prices("shared")
    nowhere = [{"name": "cpu", "nodeSelector": {"orrery.dev/nowhere": "true"}}]
    space.apply(plan("waits", prices="shared", accelerators=nowhere))
    other = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": "other"}}}}
    both = {"key": "gpu", "operator": "Exists", "value": "unwanted"}
    here = plan()["spec"]["accelerators"][0]
    space.apply(plan("refused", prices="shared", task=other, accelerators=[{**here, "tolerations": [both]}]))
    refused = until(lambda: stalled(space.plan("refused")), 30)
    assert conditions(refused)["Stalled"][1] == "WriteRefused"
    assert "value must be empty when `operator` is 'Exists'" in conditions(refused)["Stalled"][2]
    waits = until(lambda: _reason(space.plan("waits"), "Unschedulable"), 40)
    assert "node" in conditions(waits)["Reconciling"][2] and kstatus(waits) == "InProgress"
    assert "ProbePending" in space.events("waits")
    space.edit("refused", {"accelerators": [here]})
    space.answered("refused", 150)


def test_what_keeps_a_job_from_making_a_pod_is_said_and_a_mend_starts_it_anew(
    operator: Operator, space: Namespace
) -> None:
    space.prices("shared")
    space.apply(plan(prices="shared", scheduling={"priorityClassName": "nobody"}))
    waits = until(lambda: _reason(space.plan(), "FailedCreate"), 40)
    assert "no PriorityClass with name nobody" in conditions(waits)["Reconciling"][2] and kstatus(waits) == "InProgress"
    assert "no PriorityClass" in space.events()["ProbePending"]
    # such a Job never ends by itself, and its plan would wait for it
    space.edit("plan", {"scheduling": {"priorityClassName": None}})
    found = space.answered(seconds=90)
    ended = [a for p in space.probes() for a in p["status"]["attempts"] if a["reason"] == "Interrupted"]
    assert ended and all(a["cost"] == "0" for a in ended) and found["status"]["spend"]["reserved"] == "0"


def _reason(found: dict[str, Any], reason: str) -> dict[str, Any] | None:
    return found if conditions(found).get("Reconciling", ("", ""))[1] == reason else None
