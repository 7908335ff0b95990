"""The cache: the newest version wins, whoever tells it, and what is gone stays gone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from orrery.api.probe import probe_name
from orrery.controller.records import model_key, task_key
from orrery.controller.server import JOBS, PLANS, PROBES
from orrery.controller.world import World, key_of, owners_of
from tests.unit.controller import factory
from tests.unit.controller.bodies import RUNNING, pod, terminated

pytestmark = pytest.mark.unit


def body(name: str = "a", version: int = 1, uid: str = "u", **extra: Any) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": uid,
        "resourceVersion": str(version),
        "creationTimestamp": f"t{uid}",
    }
    return {
        "kind": "AdaptationPlan",
        "metadata": meta,
        "spec": {"pricing": {"priceListRef": {"name": "cloud"}}},
        **extra,
    }


def probe(version: int = 1, paid_by: str | None = "plan", uid: str = "p", **changes: Any) -> dict[str, Any]:
    found = factory.probe(factory.plan(**changes)).to_wire()
    found["metadata"] |= {"namespace": "ns", "uid": uid, "resourceVersion": str(version), "creationTimestamp": "t"}
    attempt = {
        "number": 1,
        "jobName": "j",
        "phase": "Reserved",
        "reserved": "1",
        **({"paidBy": paid_by} if paid_by else {}),
    }
    return found | {"status": {"attempts": [attempt]}}


def test_versions_only_go_forward() -> None:
    world = World()
    assert world.put(PLANS, body(version=5, status={"phase": "Probing"}))
    assert not world.put(PLANS, body(version=5)), "this version is known, from an own write"
    assert not world.put(PLANS, body(version=4))
    assert (world.get(PLANS, ("ns", "a")) or {})["status"] == {"phase": "Probing"}
    assert world.put(PLANS, body(version=10)) and world.version(PLANS, ("ns", "a")) == "10"


def test_a_deleted_object_does_not_come_back_and_its_successor_stays() -> None:
    world = World()
    world.put(PLANS, body(version=5, uid="1"))
    world.drop(PLANS, body(version=6, uid="1"))
    assert not world.put(PLANS, body(version=7, uid="1")), "a late answer to an own write"
    assert world.get(PLANS, ("ns", "a")) is None
    world.put(PLANS, body(version=8, uid="2"))
    world.drop(PLANS, body(version=9, uid="1"))
    assert world.version(PLANS, ("ns", "a")) == "8"


def test_what_is_returned_is_a_copy() -> None:
    world = World()
    world.put(PLANS, body())
    (world.get(PLANS, ("ns", "a")) or {})["spec"]["x"] = 1
    assert "x" not in (world.get(PLANS, ("ns", "a")) or {})["spec"]


def test_what_nobody_reads_is_not_kept() -> None:
    world = World()
    noisy = body(kind="Job", spec={"suspend": True, "template": {"spec": {"containers": []}}})
    noisy["metadata"] |= {
        "managedFields": [{}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"},
    }
    world.put(JOBS, noisy)
    kept = world.get(JOBS, ("ns", "a")) or {}
    assert kept["spec"] == {"suspend": True} and "managedFields" not in kept["metadata"]
    assert kept["metadata"]["annotations"] == {"kept": "yes"}


def test_probes_are_found_by_task_and_by_who_paid() -> None:
    world = World()
    one, other = probe(), probe(uid="q", task={"dataset": {"source": {"configMap": {"name": "x", "key": "y"}}}})
    for found in (one, other):
        assert world.put(PROBES, found)
    task, models = task_key(factory.plan().spec.task), [model_key(m) for m in factory.plan().spec.models]
    assert [p.name for p in world.probes_for("ns", "nobody", task, models)] == [one["metadata"]["name"]]
    assert world.probes_for("ns", "nobody", task, ["another"]) == []
    assert len(world.probes_for("ns", "plan", None)) == len(world.probes_for("ns", "plan", task, models)) == 2
    assert world.probes_for("elsewhere", "plan", task, models) == []
    world.put(PROBES, probe(version=2, paid_by="another"))
    assert [p.name for p in world.probes_for("ns", "plan", None)] == [other["metadata"]["name"]]
    world.drop(PROBES, one)
    assert world.probes_for("ns", "nobody", task, models) == [] and world.probe(key_of(one)) is None


def test_probes_that_nobody_has_begun_are_not_looked_through() -> None:
    world = World()
    idle = probe(paid_by=None)
    idle["status"] = {}
    world.put(PROBES, idle)
    task, models = task_key(factory.plan().spec.task), [model_key(m) for m in factory.plan().spec.models]
    assert world.probes_for("ns", "plan", task, models) == [] and world.probe(key_of(idle)) is not None


def test_what_data_others_read_is_known_without_reading_them() -> None:
    world = World()
    task = task_key(factory.plan().spec.task)
    for name, digest in (("a", "1" * 64), ("b", "2" * 64), ("c", None)):
        facts = {"taskFacts": {"digest": digest, "trainExamples": 1, "evaluationExamples": 1}} if digest else {}
        found = probe(uid=name)
        found["metadata"]["name"] = name
        commit = {"modelCommit": digest[:1] * 40} if digest else {}
        found["status"]["report"] = {"probe": name, "complete": True, **facts, **commit}
        world.put(PROBES, found)
    assert sorted(world.data_digests("ns", task, but="c")) == ["1" * 64, "2" * 64]
    assert world.data_digests("ns", task, but="a") == ["2" * 64]
    model = model_key(factory.probe(factory.plan()).spec.model)
    assert world.model_commits("ns", task, model, but="a") == ["2" * 40]
    assert sorted(world.model_commits("ns", task, model, but="c")) == ["1" * 40, "2" * 40]
    assert world.model_commits("ns", task, "another", but="c") == []


def test_a_probe_that_nobody_of_us_wrote_is_ignored() -> None:
    world = World()
    foreign = probe()
    foreign["spec"]["trials"] = []
    world.put(PROBES, foreign)
    assert world.probe(key_of(foreign)) is None and not world.probes_for("ns", "plan", None)


def test_more_probes_than_are_kept_parsed_are_all_found() -> None:
    world, name = World(), factory.probe(factory.plan()).metadata.name
    assert name == probe_name(factory.probe(factory.plan()).spec)
    first = probe()
    for i in range(600):
        copy = {**first, "metadata": first["metadata"] | {"name": f"p{i:03}", "uid": str(i)}}
        world.put(PROBES, copy)
    assert len(world.probes_for("ns", "plan", None)) == 600


def test_plans_are_found_by_their_price_list() -> None:
    world = World()
    world.put(PLANS, body())
    world.put(PLANS, body("broken", spec={"pricing": 3}))
    assert world.plans_for_prices("cloud") == [("ns", "a")]


def test_the_end_of_a_pod_is_remembered_after_it_is_gone() -> None:
    world = World()

    def labelled(state: Any) -> dict[str, Any]:
        found = pod(state)
        found["metadata"] |= {"namespace": "ns", "labels": {"orrery.dev/probe": "p", "orrery.dev/attempt": "2"}}
        return found

    world.saw_pod(labelled(RUNNING), gone=False)
    world.saw_pod(labelled(terminated(message="hello")), gone=True)
    (last,) = world.pods(("ns", "p", "2"))
    assert last["gone"] and last["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "hello"
    world.forget_pods(("ns", "p", "2"))
    assert world.pods(("ns", "p", "2")) == []


def test_owners_are_those_of_the_kind() -> None:
    owned = body()
    owned["metadata"]["ownerReferences"] = [{"kind": "AdaptationPlan", "name": "x"}, {"kind": "Job", "name": "y"}]
    assert owners_of(owned, "AdaptationPlan") == ["x"]


def test_the_spec_of_a_probe_is_read_once_and_again_when_the_server_says_that_it_changed() -> None:
    world, name = World(), key_of(probe())[1]
    seen = []
    for version, generation, phase in ((1, 1, "Reserved"), (2, 1, "Running"), (3, 2, "Running"), (4, None, "Running")):
        body = probe(version)
        body["metadata"] = {k: v for k, v in body["metadata"].items() if k != "generation"}
        body["metadata"] |= {} if generation is None else {"generation": generation}
        body["spec"]["accelerator"] = f"a{generation or 0}"
        body["status"]["attempts"][0]["phase"] = phase
        world.put(PROBES, body)
        found = world.probe(("ns", name))
        assert found is not None and found.body["metadata"]["resourceVersion"] == str(version)
        assert found.spec.accelerator == f"a{generation or 0}" and found.status.attempts[0].phase == phase
        seen.append(found.spec)
    assert [a is b for a, b in pairwise(seen)] == [True, False, False]
    world.put(PROBES, probe(5) | {"status": {"attempts": "none"}})
    assert world.probe(("ns", name)) is None, "not one of ours any more"
