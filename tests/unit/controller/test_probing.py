"""Starting probes: one attempt has one Job, whatever happens between setting money aside and seeing the Job."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from orrery.api.pricelist import PriceList
from orrery.api.probe import probe_name
from orrery.controller.events import Recorder
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL, JobSettings
from orrery.controller.metrics import Metrics
from orrery.controller.observing import OUT_OF_TIME
from orrery.controller.probe_store import Fenced
from orrery.controller.probing import Probing
from orrery.controller.server import JOBS, PODS, PROBES, Conflict, NotFound, ServerError
from orrery.controller.world import World
from orrery.planning.types import ProbeRequest
from tests.unit.controller import bodies, factory

pytestmark = pytest.mark.unit
BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = PriceList.model_validate(
    {
        "metadata": {"name": "cloud"},
        "spec": {
            "currency": "USD",
            "source": "made up",
            "date": "2026-01-01",
            "accelerators": [{"name": "l4", "pricePerHour": "3.6"}],
        },
    }
)


class Objects:
    """As much of an API server as starting probes needs: names are unique, and versions must match."""

    def __init__(self):
        self.held, self.version, self.failing, self.made, self.listed = {}, 0, [], [], []
        self.meanwhile = lambda: None
        self.lock = threading.Lock()

    def create(self, resource, body):
        self._fail(f"create {resource.kind}")
        key = resource.kind, body["metadata"]["name"]
        if key in self.held:
            raise Conflict(409, "exists")
        self.made.append(key)
        landed = self._store(key, body)
        self._fail(f"created {resource.kind}")
        return landed

    def replace(self, resource, body, subresource=None):
        key = resource.kind, body["metadata"]["name"]
        version = self.held[key]["metadata"]["resourceVersion"]
        if body["metadata"].get("resourceVersion", version) != version:
            raise Conflict(409, "changed")
        landed = self._store(key, body)
        self._fail(f"replaced {resource.kind}")
        return landed

    def merge(self, resource, namespace, name, patch):
        held = self.held[resource.kind, name]
        return self._store((resource.kind, name), {**held, "metadata": {**held["metadata"], **patch["metadata"]}})

    def get(self, resource, namespace, name):
        if (resource.kind, name) not in self.held:
            raise NotFound(404, name)
        return self.held[resource.kind, name]

    def list(self, resource, namespace, selector=None, fields=None):
        found = [b for (kind, _), b in self.held.items() if kind == resource.kind and resource is PODS]
        self.listed += [resource.kind]
        self.meanwhile()
        return iter(found)

    def delete(self, resource, body):
        del self.held[resource.kind, body["metadata"]["name"]]

    def _store(self, key, body):
        with self.lock:
            self.version += 1
            version = str(self.version)
        meta = {"uid": f"uid-{key[1]}", "namespace": "team-a", **body["metadata"], "resourceVersion": version}
        self.held[key] = {**body, "kind": key[0], "metadata": meta}
        return self.held[key]

    def _fail(self, what):
        if what in self.failing:
            self.failing.remove(what)
            raise ServerError(0, "no answer")


class Case:
    def __init__(self):
        self.server = Objects()
        self.plan = factory.plan()
        meta = {"name": "support", "namespace": "team-a", "uid": "plan-uid"}
        self.body = {"metadata": meta, "spec": self.plan.to_wire()["spec"]}
        probe = factory.probe(self.plan)
        self.request = ProbeRequest(
            name=probe.metadata.name,
            spec=probe.spec,
            attempt=1,
            reservation=Decimal("0.6"),
            expected_cost=Decimal("0.1"),
            reason="first",
        )
        self.job = JOBS.kind, f"{self.request.name}-1"
        self.now, self.leads = BEGUN, True
        self.operator()

    def operator(self):
        """A new process: what was only remembered is gone, what is on the server is read."""
        self.world = World()
        for (kind, _), body in self.server.held.items():
            self.world.put(next(r for r in (PROBES, JOBS) if r.kind == kind), body)
        recorder = Recorder(type("Mute", (), {"create": lambda *_: None})())
        settings = JobSettings("probe:1")
        self.probing = Probing(
            self.server, self.world, settings, Metrics(), recorder, lambda: self.leads, clock=lambda: self.now
        )

    def start(self):
        return self.probing.start_all(self.plan, self.body, PRICES, [self.request], {})

    def look(self, seconds=1.0):
        """One turn, ``seconds`` later; gives the attempt."""
        self.now += timedelta(seconds=seconds)
        for body in [b for (kind, _), b in self.server.held.items() if kind == PROBES.kind]:
            self.world.put(PROBES, body)
        probes = self.world.probes_for("team-a", "support", None)
        self.probing.observe(self.body, probes)
        self.probing.resume(self.plan, self.body, self.world.probes_for("team-a", "support", None))
        probe = self.world.probe(("team-a", self.request.name))
        return probe.status.attempts[-1]


def test_the_worst_case_is_written_before_the_job_is_made():
    case = Case()
    case.server.failing = ["create Job"]
    with pytest.raises(ServerError):
        case.start()
    assert case.server.held[PROBES.kind, case.request.name]["status"]["attempts"][0]["reserved"] == "0.6"
    assert case.server.made.count(case.job) == 0


def test_without_the_lease_nothing_is_written_started_or_ended():
    case = Case()
    case.leads = False
    with pytest.raises(Fenced, match="the Lease is not held"):
        case.start()
    assert case.server.held == {}
    case.leads = True
    assert case.start()
    started(case, RUNS)
    held, probes = dict(case.server.held), case.world.probes_for("team-a", "support", None)
    case.leads = False
    for write in (
        lambda: case.look(20),
        lambda: case.probing.interrupt(case.body, probes, {case.request.name: OUT_OF_TIME}),
    ):
        with pytest.raises(Fenced):
            write()
    assert case.server.held == held


@pytest.mark.parametrize("failing", ["create Job", "created Job", "replaced AdaptationProbe"])
def test_a_job_is_made_once_although_an_answer_was_lost(failing):
    case = Case()
    case.server.failing = [failing]
    with pytest.raises(ServerError):
        case.start()
    assert case.look().phase == "Reserved"
    assert case.server.made.count(case.job) == 1


def test_a_predecessor_s_attempt_without_a_job_is_given_up_and_charged_up_to_now():
    case = Case()
    assert case.start()
    del case.server.held[case.job]  # deleted while nobody looked: it may have run
    case.operator()
    attempt = case.look(seconds=10)
    assert (attempt.phase, attempt.reason, attempt.cost) == ("Failed", "NotStarted", Decimal("0.01"))
    assert case.server.made.count(case.job) == 1


def test_a_predecessor_s_job_is_found_again():
    case = Case()
    assert case.start()
    case.operator()
    assert case.look().phase == "Reserved"
    assert case.server.made.count(case.job) == 1


def test_a_job_that_cannot_be_made_gives_its_money_back():
    case = Case()
    case.server.failing = ["create Job"] * 3
    with pytest.raises(ServerError):
        case.start()
    with pytest.raises(ServerError):
        case.look()
    attempt = case.look(seconds=100)
    assert (attempt.phase, attempt.reason, attempt.cost) == ("Failed", "NotStarted", Decimal(0))


def test_a_job_that_arrives_after_its_attempt_was_given_up_is_swept():
    case = Case()
    assert case.start()
    late = case.server.held.pop(case.job)
    case.operator()
    assert case.look(seconds=10).reason == "NotStarted"
    case.server.held[case.job] = late
    case.world.put(JOBS, late)
    case.probing.sweep(case.body, case.world.probes_for("team-a", "support", None))
    assert case.job not in case.server.held


def test_a_job_in_flight_is_not_swept_and_is_ended_when_the_plans_time_is_over():
    case = Case()
    assert case.start()
    probes = case.world.probes_for("team-a", "support", None)
    case.probing.sweep(case.body, probes)
    assert case.job in case.server.held
    other = {**case.body, "metadata": {**case.body["metadata"], "name": "another"}}
    early = {case.request.name: OUT_OF_TIME}
    assert case.probing.interrupt(case.body, probes, {}) is None and case.job in case.server.held
    assert case.probing.interrupt(other, probes, early) is None and case.job in case.server.held, "its payer's to end"
    assert case.probing.interrupt(case.body, probes, early) is not None
    assert case.job not in case.server.held


def labels(probe):
    return {PROBE_LABEL: probe, ATTEMPT_LABEL: "1"}


def started(case, state, status=None):
    """The Job's Pod, as it is on the server; the Job's own watch shows what the Job says of it."""
    pod = {
        "metadata": {"name": "pod", "labels": labels(case.request.name)},
        "status": {"containerStatuses": [{"name": "probe", "state": state}]},
    }
    pod = case.server._store((PODS.kind, "pod"), pod)
    case.world.put(
        JOBS, case.server._store(case.job, {**case.server.held[case.job], "status": status or {"active": 1}})
    )
    return pod


RUNS = {"running": {"startedAt": "2026-01-01T00:00:10Z"}}


def test_a_pod_that_its_watch_never_shows_is_found_by_its_job_and_held_against_the_watch():
    case = Case()
    assert case.start()
    started(case, RUNS)
    assert case.look(5).phase == "Queued" and case.server.listed == [], "a watch may take a moment"
    assert case.look(15).phase == "Running"
    assert list(case.probing.owed) == [("team-a", "pod")]
    # and also how it goes on
    started(
        case, {"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:00:10Z", "finishedAt": "2026-01-01T00:00:20Z"}}
    )
    case.look(15)
    assert case.server.listed == [PODS.kind] * 2


def test_a_pod_that_its_watch_shows_is_not_listed_for():
    case = Case()
    assert case.start()
    case.world.saw_pod(started(case, RUNS, {"active": 1, "ready": 1}), gone=False)
    assert case.look(20).phase == "Running"
    # nor while it has not begun, as far as its Job knows
    other = Case()
    assert other.start()
    other.world.saw_pod(started(other, {"waiting": {"reason": "ImagePullBackOff"}}), gone=False)
    assert other.look(20).reason == "ImagePullBackOff"
    assert case.server.listed == other.server.listed == [] and not case.probing.owed and not other.probing.owed


def test_of_reports_that_come_together_the_one_of_another_commit_is_refused():
    """A branch of the hub moved while three probes of a plan ran; all three are looked at in one turn."""
    case = Case()
    (trial,) = case.request.spec.trials
    specs = [
        case.request.spec.model_copy(update={"trials": [trial.model_copy(update={"seed": seed})]}) for seed in range(3)
    ]
    specs.sort(key=probe_name)
    requests = [replace(case.request, name=probe_name(spec), spec=spec) for spec in specs]
    assert case.probing.start_all(case.plan, case.body, PRICES, requests, {})
    for spec, letter in zip(specs, "aab", strict=True):
        name, facts = probe_name(spec), {"digest": "d" * 64, "trainExamples": 9, "evaluationExamples": 9}
        said = bodies.terminated(message=bodies.report(spec, modelCommit=letter * 40, taskFacts=facts))
        pod = {**bodies.pod(said, uid=name), "metadata": {"name": name, "labels": labels(name), "uid": name}}
        key = JOBS.kind, f"{name}-1"
        case.world.saw_pod(case.server._store((PODS.kind, name), pod), gone=False)
        job = {**case.server.held[key], "status": {"conditions": [bodies.COMPLETE]}}
        case.world.put(JOBS, case.server._store(key, job))
    case.look(60)
    told = [case.server.held[PROBES.kind, probe_name(spec)]["status"] for spec in specs]
    assert [t["attempts"][-1]["reason"] for t in told] == ["Completed", "Completed", "RevisionMismatch"]
    assert [(t.get("report") or {}).get("modelCommit") for t in told] == ["a" * 40, "a" * 40, None]


def test_a_pod_whose_start_its_watch_does_not_show_is_found_where_the_job_counts_ready_ones():
    case = Case()
    assert case.start()
    case.world.saw_pod(started(case, {"waiting": {"reason": "ContainerCreating"}}), gone=False)
    started(case, RUNS, {"active": 1, "ready": 1})
    assert case.look(20).phase == "Running" and list(case.probing.owed) == [("team-a", "pod")]


def test_a_watch_that_shows_the_pod_while_it_is_listed_is_not_blamed():
    case = Case()
    assert case.start()
    pod = started(case, RUNS)
    case.server.meanwhile = lambda: case.world.saw_pod(pod, gone=False)
    assert case.look(20).phase == "Running"
    assert case.server.listed and not case.probing.owed


def test_many_start_side_by_side_and_one_that_fails_keeps_no_other_from_it():
    case = Case()
    trials = [[case.request.spec.trials[0].model_copy(update={"seed": n})] for n in range(12)]
    specs = [case.request.spec.model_copy(update={"trials": t}) for t in trials]
    requests = [replace(case.request, name=probe_name(spec), spec=spec) for spec in specs]
    case.server.failing = ["create Job"]
    with pytest.raises(ServerError):
        case.probing.start_all(case.plan, case.body, PRICES, requests, {})
    assert sum(kind == JOBS.kind for kind, _ in case.server.made) == len(requests) - 1
    assert sum(kind == PROBES.kind for kind, _ in case.server.made) == len(requests)


def test_what_another_plan_has_started_is_not_started_again():
    case = Case()
    assert case.start()
    assert not case.start()
    assert case.server.made.count(case.job) == 1
