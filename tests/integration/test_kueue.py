"""Probes that a queue holds, on a real API server: why, in Kueue's own words, and what becomes of them when their plan is suspended.

Kueue's kind is there, its controller is not; a server before 1.22 keeps no Job suspended, so Jobs are said to be held.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client, config

from orrery.api.probe import AdaptationProbe, ProbeSpec, probe_name
from orrery.controller import observing
from orrery.controller.attempts import timestamp
from orrery.controller.events import Recorder
from orrery.controller.jobs import JobSettings
from orrery.controller.metrics import Metrics
from orrery.controller.probing import Probing
from orrery.controller.reconcile import Reconciler
from orrery.controller.server import JOBS, PLANS, PRICE_LISTS, PROBES, WORKLOADS, NotFound, Resource, Server
from orrery.controller.world import World, key_of
from tests.cluster import Cluster
from tests.integration.operators import Namespace, chart_account, conditions, plan
from tests.waiting import until

pytestmark = pytest.mark.integration

GROUP, VERSION = "kueue.x-k8s.io", "v1beta1"
NO_QUOTA = (
    "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor l4, 1 more needed"
)


@pytest.fixture
def workloads(simulating: Cluster, kubernetes: client.ApiClient) -> Iterator[client.CustomObjectsApi]:
    """Kueue's kind Workload, with its status apart, as Kueue defines it; its fields are not checked."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    definition = {
        "metadata": {"name": f"workloads.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "Workload", "plural": "workloads", "singular": "workload", "listKind": "WorkloadList"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }
    definitions = client.ApiextensionsV1Api(kubernetes)
    definitions.create_custom_resource_definition(definition)
    yield client.CustomObjectsApi(kubernetes)
    definitions.delete_custom_resource_definition(f"workloads.{GROUP}")


def served(server: Server, namespace: str) -> bool:
    """Whether the API server knows the kind by now."""
    try:
        return not list(server.list(WORKLOADS[0], namespace))
    except NotFound:
        return False


class Case:
    """A probe whose Job a queue holds, looked at with the chart's account."""

    def __init__(self, space: Namespace, limited: client.ApiClient) -> None:
        self.space, self.world = space, World()
        recorder = Recorder(Server(limited), "test")
        self.probing = Probing(Server(limited), self.world, JobSettings("probe:1"), Metrics(), recorder, lambda: True)
        self.plan = space.apply(plan(suspend=True))
        asked = self.plan["spec"]
        trials = [{"name": "t", "strategy": "ZeroShot", "fidelity": {"evaluationItems": 10}}]
        wanted = {"model": asked["models"][0], "task": asked["task"], "trials": trials}
        spec = ProbeSpec.model_validate({**wanted, "accelerator": "cpu", "deadlineSeconds": 600})
        self.name = probe_name(spec)
        # a server before 1.22 keeps no Job suspended, so the Job is one that nobody runs and is said to be held
        container = {"name": "probe", "image": "nobody/has:it"}
        template = {"spec": {"restartPolicy": "Never", "nodeSelector": {"no": "where"}, "containers": [container]}}
        job = space.batch.create_namespaced_job(
            space.namespace, {"metadata": {"name": f"{self.name}-1"}, "spec": {"suspend": True, "template": template}}
        )
        self.job = {**space.kubernetes.sanitize_for_serialization(job), "kind": "Job"}
        self.job["spec"]["suspend"] = True
        self.world.put(PLANS, {**self.plan, "kind": "AdaptationPlan"})
        self.world.put(JOBS, self.job)
        made = AdaptationProbe(metadata={"name": self.name, "namespace": space.namespace}, spec=spec)
        created = self._probes("create_namespaced_custom_object", made.to_wire())
        reserved = {
            "number": 1,
            "jobName": f"{self.name}-1",
            "phase": "Reserved",
            "reserved": "0.6",
            "paidBy": "plan",
            "reservedAt": timestamp(datetime.now(UTC) - timedelta(seconds=30)),
        }
        created["status"] = {"phase": "Pending", "attempts": [reserved]}
        written = self._probes("replace_namespaced_custom_object_status", created, self.name)
        self.world.put(PROBES, written)

    def _probes(self, verb: str, body: dict[str, Any], *name: str) -> dict[str, Any]:
        call = getattr(self.space.custom, verb)
        return dict(call("orrery.dev", "v1alpha1", self.space.namespace, "adaptationprobes", *name, body))

    def look(self) -> tuple[str | None, str | None]:
        """Reason and message of the attempt, as they are on the server after a look."""
        probe = self.world.probe((self.space.namespace, self.name))
        assert probe is not None
        self.probing.observe(self.plan, [probe])
        (found,) = self.space.probes()
        (attempt,) = found["status"]["attempts"]
        return attempt.get("reason"), attempt.get("message")


def test_what_kueue_says_is_why_a_probe_waits(
    simulating: Cluster, space: Namespace, workloads: client.CustomObjectsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "LOOK_SECONDS", 0.0)
    where = (GROUP, VERSION, space.namespace, "workloads")
    with config.new_client_from_config(str(chart_account(simulating))) as limited:
        case = Case(space, limited)
        until(lambda: served(Server(limited), space.namespace), 30)
        assert case.look() == ("WaitingInQueue", "the queue has not admitted it yet")

        def workload(name: str, uid: str, *conditions: dict[str, str]) -> None:
            body = {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "Workload",
                "metadata": {"name": name, "labels": {f"{GROUP}/job-uid": uid}},
                "spec": {"queueName": "team"},
            }
            made = dict(workloads.create_namespaced_custom_object(*where, body))
            made["status"] = {"conditions": list(conditions)}
            workloads.replace_namespaced_custom_object_status(*where, name, made)

        pending = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": NO_QUOTA}
        workload("of-another-job", "another-uid", {**pending, "message": "not this one"})
        assert case.look()[1] == "the queue has not admitted it yet"
        workload("job-of-the-probe", case.job["metadata"]["uid"], pending)
        assert case.look() == ("WaitingInQueue", f"Kueue: Pending: {NO_QUOTA}")
        # it has its quota and waits for something else
        found = dict(workloads.get_namespaced_custom_object(*where, "job-of-the-probe"))
        checks = {
            "type": "Admitted",
            "status": "False",
            "reason": "UnsatisfiedChecks",
            "message": "a node is on its way",
        }
        found["status"]["conditions"] = [{**pending, "status": "True"}, checks]
        workloads.replace_namespaced_custom_object_status(*where, "job-of-the-probe", found)
        assert case.look() == ("WaitingInQueue", "Kueue: UnsatisfiedChecks: a node is on its way")


class Holding(Server):
    """The server, which shows every Job as one that a queue holds, also where it keeps none suspended."""

    def _call(self, method: str, resource: Resource, url: str, **request: Any) -> dict[str, Any]:
        answer = super()._call(method, resource, url, **request)
        for job in [answer, *answer.get("items", ())] if resource is JOBS else ():
            if "spec" in job:
                job["spec"]["suspend"] = True
        return answer


class Looking:
    """An operator that looks when it is told to, with the chart's account, at what the server has at that moment."""

    def __init__(self, space: Namespace, limited: client.ApiClient) -> None:
        self.space, self.server, self.world, self.late = space, Holding(limited), World(), timedelta()
        recorder = Recorder(self.server, "test")
        jobs = JobSettings("probe:1")
        probing = Probing(self.server, self.world, jobs, Metrics(), recorder, lambda: True, clock=self.now)
        self.reconciler = Reconciler(probing)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.late

    def look(self, seconds: float = 0.0) -> dict[str, Any]:
        """The plan after a look, so many seconds later."""
        self.late += timedelta(seconds=seconds)
        for resource in (PLANS, PROBES, PRICE_LISTS, JOBS):
            listed = list(self.server.list(resource, self.space.namespace if resource.namespaced else None))
            for key in set(self.world.keys(resource)) - {key_of(body) for body in listed}:
                self.world.drop(resource, self.world.get(resource, key) or {})
            for body in listed:
                self.world.put(resource, body)
        self.reconciler((self.space.namespace, "plan"))
        return self.space.plan()

    def attempts(self) -> list[dict[str, Any]]:
        """The last of every probe."""
        return [p["status"]["attempts"][-1] for p in self.space.probes()]


def test_suspended_what_a_queue_holds_is_taken_back_and_its_money_returned(
    simulating: Cluster, space: Namespace
) -> None:
    space.prices("queued")
    # nor does the Job controller, which knows of no queue, start anything
    space.core.create_namespaced_resource_quota(
        space.namespace, {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    )
    with config.new_client_from_config(str(chart_account(simulating))) as limited:
        operator = Looking(space, limited)
        space.apply(plan(prices="queued", scheduling={"queueName": "team", "priorityClassName": "low"}))
        operator.look()
        jobs = {j["metadata"]["name"]: j["metadata"]["labels"] for j in space.jobs()}
        labels = {f"{GROUP}/queue-name": "team", f"{GROUP}/priority-class": "low"}
        assert jobs and all(labels.items() <= found.items() for found in jobs.values())
        found = operator.look(seconds=5)
        assert conditions(found)["Ready"][:2] == ("False", "WaitingInQueue")
        assert float(found["status"]["spend"]["reserved"]) > 0
        # a queue may hold them for days, long past what they may take once they run
        assert {a["reason"] for a in operator.attempts()} == {"WaitingInQueue"}
        operator.look(seconds=86_400)
        assert {j["metadata"]["name"] for j in space.jobs()} == set(jobs)
        space.edit("plan", {"suspend": True})
        operator.look()
        until(lambda: not space.jobs(), 20)
        spend = operator.look()["status"]["spend"]
        assert (spend["cost"], spend["reserved"]) == ("0", "0")
        ended = operator.attempts()
        assert {(a["phase"], a["reason"], a["cost"]) for a in ended} == {("Failed", "Interrupted", "0")}
        assert all("suspended" in a["message"] for a in ended)
        assert conditions(operator.look())["Reconciling"][:2] == ("False", "Suspended") and not space.jobs()
        # and it asks again, with a further attempt, once it goes on
        space.edit("plan", {"suspend": False})
        operator.look()
        assert {j["metadata"]["name"] for j in space.jobs()} == {name[:-1] + "2" for name in jobs}
