"""Looks at one plan, against as much of an API server as they need: what is ended early, and when a plan is deleted."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from orrery.api.probe import Attempt, ProbeSpec
from orrery.controller import publishing, reconcile
from orrery.controller.attempts import timestamp
from orrery.controller.events import Recorder
from orrery.controller.jobs import ATTEMPT_LABEL, PROBE_LABEL, JobSettings
from orrery.controller.metrics import Metrics
from orrery.controller.probing import Probing
from orrery.controller.reconcile import Reconciler
from orrery.controller.server import CONFIG_MAPS, JOBS, PLANS, PRICE_LISTS, PROBES, Conflict, Object, Refused
from orrery.controller.world import World
from tests.unit.controller import factory
from tests.unit.controller.bodies import report
from tests.unit.controller.test_metrics import scraped
from tests.unit.controller.test_probing import PRICES, Objects

pytestmark = pytest.mark.unit

NAMESPACE = "team-a"
OTHER_DATA = {"dataset": {"source": {"configMap": {"name": "complaints", "key": "complaints.jsonl"}}}}


class Cluster:
    """An operator with its API server; whoever looks sees everything, since nothing here comes late."""

    def __init__(self) -> None:
        self.server, self.world, self.now = Objects(), World(), datetime(2026, 1, 1, tzinfo=UTC)
        self.start()
        self._prices = 0
        self.price("3.6")

    def start(self) -> None:
        """A new process, to which nothing has been told but what there is."""
        recorder = Recorder(type("Mute", (), {"create": lambda *_: None})())
        settings = JobSettings("probe:1")
        self.metrics = Metrics()
        probing = Probing(
            self.server, self.world, settings, self.metrics, recorder, lambda: True, clock=lambda: self.now
        )  # type: ignore[arg-type]  # as much of a server as is asked
        self.reconciler = Reconciler(probing)

    def price(self, per_hour: str) -> None:
        """Apply the price list."""
        body = PRICES.to_wire()
        body["spec"]["accelerators"][0]["pricePerHour"] = per_hour
        self._prices += 1
        meta = {"name": "cloud", "uid": "prices", "resourceVersion": str(self._prices)}
        self.world.put(PRICE_LISTS, {**body, "metadata": meta})

    def _stored(self, resource: Any, body: Object) -> Object:
        stored = self.server._store((resource.kind, body["metadata"]["name"]), body)
        self.world.put(resource, stored)
        return dict(stored)

    def apply(self, name: str = "support", **spec: Any) -> None:
        """Create a plan, or edit it."""
        asked = factory.plan(**spec).to_wire()["spec"]
        before = self.server.held.get((PLANS.kind, name))
        meta = {"name": name, "uid": f"uid-{name}", "generation": 1}
        if before is not None:
            meta = {**before["metadata"], "generation": before["metadata"]["generation"] + 1}
        self._stored(PLANS, {**(before or {}), "metadata": meta, "spec": asked})

    def look(self, name: str = "support", seconds: float = 5.0) -> float | None:
        """One look, so many seconds later."""
        self.now += timedelta(seconds=seconds)
        for (kind, _), body in list(self.server.held.items()):
            for resource in (PLANS, PROBES, JOBS):
                if resource.kind == kind:
                    self.world.put(resource, body)
        for kind, gone in [(JOBS, key) for key in self.world.keys(JOBS) if (JOBS.kind, key[1]) not in self.server.held]:
            self.world.drop(kind, self.world.get(kind, gone) or {})
        return self.reconciler((NAMESPACE, name))

    def plan(self, name: str = "support") -> Object | None:
        found = self.server.held.get((PLANS.kind, name))
        return dict(found) if found is not None else None

    def ready(self, name: str = "support") -> tuple[str, str]:
        (found,) = (c for c in (self.plan(name) or {})["status"]["conditions"] if c["type"] == "Ready")
        return found["status"], found["reason"]

    def jobs(self) -> list[str]:
        return sorted(name for kind, name in self.server.held if kind == JOBS.kind)

    def change_job(self, name: str, **changes: Any) -> None:
        self._stored(JOBS, {**self.server.held[JOBS.kind, name], **changes})

    def attempts(self) -> dict[str, Attempt]:
        """The last attempt, by Job."""
        probes = (self.world.probe(key) for key in self.world.keys(PROBES))
        return {p.status.attempts[-1].job_name: p.status.attempts[-1] for p in probes if p is not None}


ONE = {"parallelism": 1}
PULLED = "registry.example/probe@sha256:" + "0" * 64


def begun(**spec: Any) -> tuple[Cluster, str]:
    """A plan with one probe whose Job exists."""
    cluster = Cluster()
    cluster.apply(probing=ONE, **spec)
    cluster.look()
    (job,) = cluster.jobs()
    return cluster, job


@pytest.mark.parametrize("edit", [{"task": OTHER_DATA}, {"models": [{"name": "big", "source": {"huggingFace": {"repo": "org/big", "revision": "1"}}}]}])  # fmt: skip
def test_data_or_models_edited_end_the_probe_of_before_at_once_and_start_another(edit: dict[str, Any]) -> None:
    cluster, old = begun()
    cluster.apply(probing=ONE, **edit)
    cluster.look()
    (new,) = cluster.jobs()
    assert new != old, "the old Job is deleted, and the place is free at once"
    cluster.look()
    ended = cluster.attempts()[old]
    assert (ended.phase, ended.reason) == ("Failed", "Interrupted") and "does not ask for it any more" in str(
        ended.message
    )
    assert Decimal(0) < (ended.cost or 0) < ended.reserved, "paid for its seconds"
    spend = (cluster.plan() or {})["status"]["spend"]
    assert Decimal(spend["cost"]) == ended.cost


def test_an_edit_of_the_objective_ends_nothing() -> None:
    cluster, old = begun()
    cluster.apply(probing=ONE, objective={"minQuality": "0.7"})
    cluster.look()
    assert cluster.jobs() == [old] and cluster.attempts()[old].cost is None


def test_what_another_plan_waits_for_is_not_ended_with_an_edit() -> None:
    cluster, old = begun()
    cluster.apply("other", probing=ONE)
    cluster.look("other")
    cluster.look("other")
    cluster.apply(probing=ONE, task=OTHER_DATA)
    cluster.look()
    cluster.look()
    assert old in cluster.jobs() and len(cluster.jobs()) == 2, "and it keeps no new one waiting"
    # until the other plan does not ask for it either
    cluster.apply("other", probing=ONE, task=OTHER_DATA)
    cluster.look()
    assert old not in cluster.jobs()


def test_suspended_what_a_queue_still_holds_is_taken_back_and_costs_nothing() -> None:
    queued = {"scheduling": {"queueName": "team"}}
    cluster, job = begun(**queued)
    cluster.look()
    assert cluster.attempts()[job].reason == "WaitingInQueue"
    cluster.apply(probing=ONE, suspend=True, **queued)
    cluster.look()
    assert cluster.jobs() == []
    cluster.look()
    ended = cluster.attempts()[job]
    assert (ended.reason, ended.cost) == ("Interrupted", Decimal(0)) and "was suspended" in str(ended.message)
    # and it is tried again, as a further attempt, once the plan goes on
    cluster.apply(probing=ONE, **queued)
    cluster.look()
    assert cluster.jobs() == [job.removesuffix("1") + "2"]


def told(cluster: Cluster, name: str = "support") -> Object:
    return dict((cluster.plan(name) or {})["status"])


def answered(cluster: Cluster) -> None:
    """Everything was measured at once, by a report that says that the model is good."""
    for (kind, _), body in list(cluster.server.held.items()):
        if kind != PROBES.kind:
            continue
        spec = ProbeSpec.model_validate(body["spec"])
        trials = [{"name": t.name, "outcome": "Measured", "score": "0.9", "items": 200} for t in spec.trials]
        facts = {"digest": "d" * 64, "trainExamples": 400, "evaluationExamples": 200}
        said = report(spec, trials=trials, taskFacts=facts)
        (last,) = body["status"]["attempts"]
        begun, now = cluster.now - timedelta(seconds=3), cluster.now
        ran = {"exitCode": 0, "startedAt": timestamp(begun), "finishedAt": timestamp(now), "message": said}
        meta = {"name": "pod", "uid": f"pod-of-{last['jobName']}", "namespace": NAMESPACE}
        labels = {PROBE_LABEL: body["metadata"]["name"], ATTEMPT_LABEL: "1"}
        container = {"name": "probe", "state": {"terminated": ran}, "imageID": PULLED}
        cluster.world.saw_pod(
            {"metadata": {**meta, "labels": labels}, "status": {"containerStatuses": [container]}}, False
        )
        done = {"type": "Complete", "status": "True", "lastTransitionTime": timestamp(now)}
        cluster.change_job(last["jobName"], status={"conditions": [done]})


def settled(cluster: Cluster) -> None:
    """Look until the plan is answered."""
    for _ in range(20):
        cluster.look()
        if cluster.plan() is None or cluster.ready()[0] == "True":
            return
        answered(cluster)
    raise AssertionError(told(cluster)["conditions"])


HOUR = 3600


def test_the_answer_names_the_image_that_measured_by_its_digest() -> None:
    cluster, _ = begun()
    assert told(cluster)["inputs"]["image"] == "probe:1", "what was asked for, until it is known what that was"
    settled(cluster)
    assert told(cluster)["inputs"]["image"] == PULLED


def test_a_finished_plan_is_deleted_when_its_time_is_over_and_not_before() -> None:
    cluster, _ = begun(ttlSecondsAfterFinished=HOUR)
    settled(cluster)
    given = told(cluster)["completionTime"]
    assert cluster.look(seconds=HOUR / 2) is not None and told(cluster)["completionTime"] == given
    cluster.look(seconds=HOUR)
    assert cluster.plan() is None


def test_a_suspended_plan_is_kept_however_long_it_rests() -> None:
    cluster = Cluster()
    cluster.apply(suspend=True, ttlSecondsAfterFinished=HOUR)
    for _ in range(3):
        cluster.look(seconds=2 * HOUR)
    assert cluster.plan() is not None and "completionTime" not in told(cluster)
    # also one that had an answer before
    cluster, _ = begun(ttlSecondsAfterFinished=HOUR)
    settled(cluster)
    cluster.apply(probing=ONE, suspend=True, ttlSecondsAfterFinished=HOUR)
    for _ in range(3):
        cluster.look(seconds=2 * HOUR)
    assert cluster.plan() is not None and "completionTime" not in told(cluster)


@pytest.mark.parametrize("edit", ["objective", "prices"])
def test_a_new_answer_is_kept_as_long_as_the_first_would_have_been(edit: str) -> None:
    cluster, _ = begun(ttlSecondsAfterFinished=HOUR)
    settled(cluster)
    first = told(cluster)
    if edit == "objective":
        cluster.apply(probing=ONE, ttlSecondsAfterFinished=HOUR, objective={"minQuality": "0.5"})
    else:
        cluster.price("7.2")
    cluster.look(seconds=HOUR * 0.9)
    second = told(cluster)
    assert cluster.ready()[0] == "True" and second["completionTime"] > first["completionTime"]
    cluster.look(seconds=HOUR * 0.9)
    assert cluster.plan() is not None, "it is an hour after the new answer that it goes"
    cluster.look(seconds=HOUR * 0.2)
    assert cluster.plan() is None


def test_suspended_what_its_queue_let_run_meanwhile_ends_by_itself() -> None:
    queued = {"scheduling": {"queueName": "team"}}
    cluster, job = begun(**queued)
    cluster.look()
    cluster.change_job(job, spec={"suspend": False}, status={"active": 1})
    cluster.apply(probing=ONE, suspend=True, **queued)
    cluster.look()
    assert cluster.jobs() == [job] and cluster.attempts()[job].cost is None


def test_a_price_list_that_is_gone_has_no_price_in_the_metrics() -> None:
    cluster, _ = begun()
    assert any(n.startswith("orrery_accelerator_hourly_cost") for n in scraped(cluster.metrics))
    cluster.world.drop(PRICE_LISTS, cluster.world.get(PRICE_LISTS, ("", "cloud")) or {})
    cluster.look()
    assert cluster.ready() == ("False", "PriceListNotFound")
    (said,) = {c["message"] for c in told(cluster)["conditions"] if c["type"] in ("Ready", "Stalled", "Validated")}
    assert said == "spec.pricing.priceListRef.name is 'cloud', and there is no such PriceList: apply it"
    assert not any(n.startswith("orrery_accelerator_hourly_cost") for n in scraped(cluster.metrics))


def test_how_far_the_forecast_was_off_is_told_and_outlives_the_process() -> None:
    series = 'orrery_plan_prediction_error{namespace="team-a",plan="support"}'
    cluster, _ = begun(objective={"goal": "MaximizeQuality"})
    forecast = told(cluster)["recommendation"]
    assert not forecast["measured"] and series not in scraped(cluster.metrics)
    settled(cluster)
    measured, error = told(cluster)["recommendation"], Decimal(told(cluster)["predictionError"])
    assert measured["measured"]
    assert error == Decimal(measured["quality"]["predicted"]) - Decimal(forecast["quality"]["predicted"]) != 0
    assert scraped(cluster.metrics)[series] == float(error)
    version = (cluster.plan() or {})["metadata"]["resourceVersion"]
    cluster.start()
    cluster.look()
    assert scraped(cluster.metrics)[series] == float(error)
    assert (cluster.plan() or {})["metadata"]["resourceVersion"] == version, "and nothing is written for it"


def test_what_a_queue_holds_of_before_an_edit_costs_nothing_and_holds_up_nothing() -> None:
    """A Job that a queue holds has no deadline: it would wait for ever, and the plan with it."""
    queued = {"scheduling": {"queueName": "team"}, "probing": ONE}
    cluster = Cluster()
    cluster.apply(**queued)
    cluster.look()
    cluster.look()
    (old,) = cluster.jobs()
    assert cluster.attempts()[old].reason == "WaitingInQueue"
    cluster.apply(task=OTHER_DATA, **queued)
    cluster.look()
    (new,) = cluster.jobs()
    cluster.look()
    assert new != old and (cluster.attempts()[old].reason, cluster.attempts()[old].cost) == ("Interrupted", Decimal(0))


def test_what_cannot_begin_is_not_waited_for_once_its_cause_is_mended() -> None:
    """Its deadline may be hours away, and whoever mended an image waits for it."""
    cluster, job = begun(probeTemplate={"image": "probe:wrong"})
    cluster.change_job(job, status={"active": 1})
    meta = {"name": "pod", "uid": "pod", "namespace": NAMESPACE}
    labels = {PROBE_LABEL: job.removesuffix("-1"), ATTEMPT_LABEL: "1"}
    backoff = {"name": "probe", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    pod = {"metadata": {**meta, "labels": labels}, "status": {"containerStatuses": [backoff]}}
    cluster.world.saw_pod(pod, False)
    cluster.look()
    assert cluster.ready() == ("False", "ImagePullBackOff")
    # an edit of the objective mends nothing, one of the image does
    cluster.apply(probing=ONE, probeTemplate={"image": "probe:wrong"}, objective={"minQuality": "0.7"})
    cluster.look()
    assert cluster.jobs() == [job]
    cluster.apply(probing=ONE, probeTemplate={"image": "probe:1"})
    cluster.look()
    assert cluster.jobs() == []
    cluster.world.saw_pod({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": timestamp(cluster.now)}}, True)
    cluster.look()
    assert cluster.jobs() == [job.removesuffix("1") + "2"]
    first = cluster.world.probe((NAMESPACE, job.removesuffix("-1"))).status.attempts[0]  # type: ignore[union-attr]
    assert (first.reason, first.cost) == ("Interrupted", 0) and "was edited" in str(first.message)


def test_the_rows_of_a_plan_that_rests_are_written_again_when_somebody_deletes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconcile, "RESYNC_SECONDS", 0.0)
    cluster, _ = begun()
    settled(cluster)
    name = told(cluster)["resultsRef"]
    rows = cluster.server.held[CONFIG_MAPS.kind, name]
    again = cluster.look()
    assert again is not None and again <= reconcile.REST_SECONDS, "nobody watches them: they are looked for"
    monkeypatch.setattr(publishing, "REMEMBERED_SECONDS", 0.0)
    cluster.look()
    assert cluster.server.held[CONFIG_MAPS.kind, name] is rows, "what is there is not written, nor decided anew"
    del cluster.server.held[CONFIG_MAPS.kind, name]
    cluster.look()
    assert cluster.server.held[CONFIG_MAPS.kind, name]["binaryData"] == rows["binaryData"]
    cluster.server.held[CONFIG_MAPS.kind, name] = {**rows, "metadata": {"name": name}}
    cluster.look()
    assert cluster.ready() == ("False", "ForeignConfigMap")


def test_a_plan_whose_time_is_over_before_anything_was_measured_says_so() -> None:
    cluster, job = begun(activeDeadlineSeconds=1)
    cluster.look(seconds=60)
    assert cluster.jobs() == []
    cluster.look()
    assert cluster.ready() == ("False", "ProbesFailed")
    (said,) = (c["message"] for c in told(cluster)["conditions"] if c["type"] == "Stalled")
    assert f"{job[:-2]} failed (Interrupted): ended early, because the plan's time was over" in said


def test_a_condition_that_somebody_else_wrote_meanwhile_is_not_lost() -> None:
    """Lists are replaced by a merge patch: the whole status is written, of the very version that was read."""
    cluster, _ = begun()
    theirs = {"type": "Approved", "status": "True", "reason": "ByHand", "lastTransitionTime": timestamp(cluster.now)}
    plan, put = cluster.plan() or {}, cluster.server.replace

    def beaten(resource: Any, body: Object, subresource: str | None = None) -> Object:
        if resource is PLANS and body["metadata"]["resourceVersion"] == plan["metadata"]["resourceVersion"]:
            cluster.server.replace = put
            conditions = [*plan["status"]["conditions"], theirs]
            put(PLANS, {**plan, "status": {**plan["status"], "conditions": conditions}}, "status")
        return dict(put(resource, body, subresource))

    cluster.server.replace = beaten
    answered(cluster)
    with pytest.raises(Conflict):
        cluster.look()
    cluster.look()
    found = {c["type"]: c for c in told(cluster)["conditions"]}
    assert found["Approved"].items() >= theirs.items() and found["Ready"]["status"] in ("True", "False")
    assert len(found) == len(told(cluster)["conditions"]) == 8


def test_a_job_that_was_refused_for_a_day_starts_once_it_is_not() -> None:
    """Every 90 s its reservation is given back and made anew: that must not use up what a status has room for."""
    cluster = Cluster()
    create, refused = cluster.server.create, 0

    def quota(resource: Any, body: Object) -> Object:
        nonlocal refused
        if resource is JOBS:
            refused += 1
            raise Refused(403, "exceeded quota: count/jobs.batch")
        return dict(create(resource, body))

    cluster.server.create = quota
    cluster.apply(probing=ONE)
    for _ in range(40):
        with contextlib.suppress(Refused):
            cluster.look(seconds=100)
    assert refused >= 20 and cluster.ready() == ("False", "WriteRefused")
    (probe,) = (cluster.world.probe(key) for key in cluster.world.keys(PROBES))
    assert probe is not None and len(probe.status.attempts) <= 2 and probe.tries >= 20
    cluster.server.create = create
    cluster.look(seconds=100)
    cluster.look()
    (job,) = cluster.jobs()
    assert job.startswith(f"{probe.name}-") and int(job.rpartition("-")[2]) >= 20
    assert told(cluster)["spend"]["cost"] == "0"


def test_however_often_a_plan_is_woken_nobody_is_asked_more_often_why_its_probe_waits() -> None:
    cluster, job = begun()
    cluster.look(seconds=5)
    asked = cluster.server.listed
    assert asked == ["Event"] and cluster.attempts()[job].reason == "Pending"
    for _ in range(14):
        cluster.look(seconds=1)
    assert asked == ["Event"]
    cluster.look(seconds=1)
    assert asked == ["Event", "Event"]
