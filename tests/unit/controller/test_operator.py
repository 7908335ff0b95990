"""Trust no watch: lists correct what it missed, and only what it really missed is held against it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orrery.controller.metrics import Metrics
from orrery.controller.operator import Operator
from orrery.controller.server import JOBS, PLANS, PODS, PROBES, NotFound, Object, Resource
from orrery.controller.work_queue import WorkQueue
from orrery.controller.world import World
from tests.unit.controller.test_world import body

pytestmark = pytest.mark.unit


class ListServer:
    """Lists what it is told to, and can do something while it lists."""

    def __init__(self) -> None:
        self.plans: list[Object] = []
        self.meanwhile: Any = lambda: None

    def list(
        self, resource: Resource, namespace: str | None, selector: str | None = None, *, gently: bool = False
    ) -> Iterator[Object]:
        if resource is PLANS:
            yield from self.plans
            self.meanwhile()

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        raise NotFound(404, name)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> tuple[Operator, ListServer, Clock]:
    server, clock = ListServer(), Clock()
    probing = SimpleNamespace(unmade={}, owed={})
    operator = Operator(
        server,  # type: ignore[arg-type]
        World(),
        Metrics(),
        SimpleNamespace(probing=probing),  # type: ignore[arg-type]
        SimpleNamespace(),  # type: ignore[arg-type]
        None,
        1,
        10.0,
        clock,
    )
    operator.queue = WorkQueue()  # without rests
    return operator, server, clock


def drained(queue: WorkQueue[Any]) -> list[Any]:
    found = []
    while (taken := queue.take(0)) is not None:
        found.append(taken[0])
        queue.done(taken[0])
    return found


def test_what_a_watch_missed_is_repaired_and_held_against_it_until_it_shows_it(parts: Any) -> None:
    operator, server, clock = parts
    operator.saw(PLANS, body("a", 1), deleted=False)
    drained(operator.queue)
    server.plans = [body("a", 2)]
    operator.resync()
    assert drained(operator.queue) == [("ns", "a")] and operator.world.version(PLANS, ("ns", "a")) == "2"
    clock.now += 29
    assert operator.problems() == []
    operator.resync()  # known by now, and still not shown by the watch
    clock.now += 2
    assert operator.problems() == ["the watch of AdaptationPlan has been silent about ns/a for 31 s"]
    quiet = dict.fromkeys(("adaptationprobes", "jobs", "pricelists", "adaptationbudgets", "pods"), 0)
    assert operator.overdue() == {"adaptationplans": 31, **quiet}
    operator.saw(PLANS, body("a", 2), deleted=False)
    assert operator.problems() == [] and drained(operator.queue) == []


def test_a_pod_that_only_a_list_has_shown_is_held_against_its_watch_until_it_shows_it(parts: Any) -> None:
    operator, _, clock = parts
    operator.reconciler.probing.owed["ns", "probe-1-x"] = clock.now
    clock.now += 31
    assert operator.problems() == ["the watch of Pod has been silent about ns/probe-1-x for 31 s"]
    assert operator.overdue()["pods"] == 31
    operator.saw(PODS, body("probe-1-x"), deleted=False)
    assert operator.problems() == [] and operator.overdue()["pods"] == 0


def test_a_missed_deletion_too(parts: Any) -> None:
    operator, _, clock = parts
    operator.saw(PLANS, body("a", 1), deleted=False)
    operator.resync()
    assert operator.world.get(PLANS, ("ns", "a")) is None and ("ns", "a") in drained(operator.queue)
    clock.now += 31
    assert len(operator.problems()) == 1
    operator.saw(PLANS, body("a", 1), deleted=True)
    assert operator.problems() == []


def test_a_watch_that_is_quicker_than_the_list_is_not_blamed(parts: Any) -> None:
    operator, server, clock = parts
    operator.saw(PLANS, body("gone", 1, uid="1"), deleted=False)
    server.plans = [body("new", 3, uid="2"), body("gone", 1, uid="1")]

    def meanwhile() -> None:
        operator.saw(PLANS, body("gone", 2, uid="1"), deleted=True)
        operator.saw(PLANS, body("late", 4, uid="3"), deleted=False)

    operator.saw(PLANS, body("new", 3, uid="2"), deleted=False)
    server.meanwhile = meanwhile
    operator.resync()
    server.plans = [body("new", 3, uid="2"), body("gone", 1, uid="1"), body("late", 4, uid="3")]
    server.meanwhile = lambda: None
    operator.resync()  # an old list that still holds what is gone
    clock.now += 31
    assert operator.problems() == []


def test_at_first_everything_is_new_and_nobody_to_blame(parts: Any) -> None:
    operator, server, clock = parts
    server.plans = [body("a", 1), body("b", 1, uid="2")]
    operator.resync(first=True)
    assert len(drained(operator.queue)) == 2
    clock.now += 31
    assert operator.problems() == []


def test_lists_that_fail_for_long_are_a_problem(parts: Any) -> None:
    operator, _, clock = parts
    operator.resync()
    clock.now += 61
    assert operator.problems() == ["no list has succeeded for 61 s"]


def test_lists_that_take_long_are_made_less_often(parts: Any) -> None:
    operator, server, clock = parts

    def slowly() -> None:
        clock.now += 20

    server.meanwhile = slowly
    operator.resync()
    clock.now += 3 * 4 * 20 + 30
    assert operator.problems() == [], "it leaves four times as long free as it takes, and may fail twice"
    clock.now += 1
    assert operator.problems() == ["no list has succeeded for 271 s"]


def test_events_wake_the_plans_they_concern(parts: Any) -> None:
    operator, _, _ = parts
    owned = body("probe-1", 1, uid="p", kind="AdaptationProbe", spec={})
    owned["metadata"]["ownerReferences"] = [{"kind": "AdaptationPlan", "name": n} for n in ("a", "b")]
    operator.saw(PROBES, owned, deleted=False)
    assert drained(operator.queue) == [("ns", "a"), ("ns", "b")]
    operator.world.put(PROBES, owned)
    operator.saw(PROBES, owned, deleted=False)
    assert len(drained(operator.queue)) == 2, "who else owns it is still to be told of our own write"
    paid = owned | {"status": {"attempts": [{"paidBy": "a"}]}}
    operator.saw(PROBES, paid, deleted=False)
    assert drained(operator.queue) == [("ns", "b")], "who wrote it knows"
    job = body("probe-1-1", 1, uid="j", kind="Job")
    job["metadata"]["ownerReferences"] = [{"kind": "AdaptationProbe", "name": "probe-1"}]
    operator.saw(JOBS, job, deleted=False)
    assert drained(operator.queue) == [("ns", "a"), ("ns", "b")]
