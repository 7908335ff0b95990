"""Why a queue holds a probe, read from Kueue's own objects on a real API server: its kind is there, its controller is not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes import client, config

from orrery.api.probe import AdaptationProbe, ProbeSpec, probe_name
from orrery.controller.attempts import timestamp
from orrery.controller.events import Recorder
from orrery.controller.jobs import JobSettings
from orrery.controller.metrics import Metrics
from orrery.controller.probing import Probing
from orrery.controller.server import JOBS, PLANS, PROBES, WORKLOADS, NotFound, Server
from orrery.controller.world import World
from tests.cluster import Cluster
from tests.integration.operators import Namespace, chart_account, plan
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
        return not list(server.list(WORKLOADS, namespace))
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
    simulating: Cluster, space: Namespace, workloads: client.CustomObjectsApi
) -> None:
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
