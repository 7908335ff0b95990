"""A mirror tells everything once it is there, again from where it was after an end, and from a new list when it has fallen behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orrery.controller.mirror import MANAGED, MIRRORED, Mirror
from orrery.controller.server import JOBS, PODS, PROBES, Gone, Object, Resource, ServerError
from orrery.controller.world import World
from tests.unit.controller.test_world import body

pytestmark = pytest.mark.unit


class Scripted:
    """Stands where the server is: lists and watches as they are written down, then nothing more."""

    def __init__(self, lists: list[Any], watches: list[Any]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.stopped = threading.Event()

    def pages(self, resource: Resource, namespace: str | None, selector: str | None) -> Iterator[Object]:
        self.asked.append(f"list {selector}")
        version, *pages = self.lists.pop(0)
        for page in pages:
            if isinstance(page, Exception):
                raise page
            yield {"metadata": {"resourceVersion": version}, "items": page}

    def watch(
        self, resource: Resource, namespace: str | None, selector: str | None, version: str, seconds: int
    ) -> Iterator[tuple[str, Object]]:
        self.asked.append(f"watch {selector} from {version} for {seconds}")
        if not self.watches:
            self.stopped.set()
            return
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def run(
    resource: Resource, lists: list[Any], watches: list[Any], world: World | None = None
) -> tuple[list[Any], list[str]]:
    """What was told, and what was asked, of a mirror that is run to the end of the script."""
    told: list[Any] = []
    server = Scripted(lists, watches)

    def saw(resource: Resource, found: Object, deleted: bool) -> None:
        told.append((found["metadata"]["name"], "gone" if deleted else found["metadata"]["resourceVersion"]))
        if "fails" in found:
            found.pop("fails")
            raise ValueError("a fault in whoever is told")

    Mirror(server, world or World(), resource, "ns", saw, 240, server.stopped, pause=0.0).run()  # type: ignore[arg-type]
    return told, server.asked


def event(kind: str, name: str, version: int, **extra: Any) -> tuple[str, Object]:
    return kind, {**body(name, version), **extra}


def test_a_list_is_told_and_then_every_change_from_its_version_on() -> None:
    told, asked = run(
        JOBS,
        [("7", [body("a", 3)], [body("b", 5)])],
        [
            [event("MODIFIED", "a", 8), ("BOOKMARK", {"metadata": {"resourceVersion": "11"}})],
            [event("DELETED", "b", 12)],
        ],
    )
    assert told == [("a", "3"), ("b", "5"), ("a", "8"), ("b", "gone")]
    assert asked == [f"list {MANAGED}", *(f"watch {MANAGED} from {v} for 240" for v in ("7", "11", "12"))]


def test_what_a_connection_that_broke_has_told_is_not_asked_for_again() -> None:
    broken = ServerError(0, "reset"), ServerError(500, "no"), ServerError(429, "not now")
    told, asked = run(PODS, [("1", [])], [[event("ADDED", "a", 4), broken[0]], [broken[1]], [broken[2]], []])
    assert told == [("a", "4")]
    assert [line.split(" from ")[-1][0] for line in asked[1:]] == ["1", "4", "4", "4", "4"] and len(asked) == 6


def test_a_server_that_is_away_is_asked_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted(
        [("1", [])], [[ServerError(0, "refused")]] * 6 + [[event("ADDED", "a", 2), ServerError(0, "reset")]]
    )
    waits: list[float] = []
    monkeypatch.setattr(server.stopped, "wait", waits.append)
    Mirror(server, World(), PODS, None, lambda *_: None, 240, server.stopped).run()  # type: ignore[arg-type]
    assert waits[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 0.5]  # then the script is over


def test_a_watch_that_ends_as_soon_as_it_began_is_not_asked_for_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Scripted([("1", [])], [[], [], [], [event("ADDED", "a", 2)], []])
    waits: list[float] = []
    monkeypatch.setattr(server.stopped, "wait", waits.append)
    Mirror(server, World(), PODS, None, lambda *_: None, 240, server.stopped).run()  # type: ignore[arg-type]
    # the list was news, and so was the event: the next watch begins at once
    assert waits == [1.0, 2.0, 1.0, 2.0]


def test_who_has_fallen_behind_lists_again_and_tells_what_is_gone() -> None:
    world = World()
    for name in ("stays", "gone"):
        world.put(PROBES, body(name, 2))
    told, asked = run(
        PROBES, [("3", [body("stays", 2), body("gone", 2)]), ("9", [body("stays", 2)])], [[Gone(410, "too old")]], world
    )
    assert told == [("stays", "2"), ("gone", "2"), ("stays", "2"), ("gone", "gone")]
    assert asked == ["list None", "watch None from 3 for 240", "list None", "watch None from 9 for 240"]


def test_a_list_that_breaks_says_nothing_of_what_it_has_not_shown() -> None:
    world = World()
    world.put(PROBES, body("later", 2))
    told, _ = run(
        PROBES,
        [("3", [body("first", 1)], ServerError(0, "reset")), ("4", [body("first", 1)], [body("later", 2)])],
        [],
        world,
    )
    assert told == [("first", "1"), ("first", "1"), ("later", "2")]


def test_a_fault_in_whoever_is_told_does_not_end_it() -> None:
    told, asked = run(PODS, [("1", []), ("6", [body("a", 5)])], [[event("ADDED", "a", 5, fails=True)]])
    assert told == [("a", "5"), ("a", "5")] and asked.count(f"list {MANAGED}") == 2


def test_only_what_is_ours_is_asked_for() -> None:
    assert MIRRORED == {
        PROBES: None,
        JOBS: MANAGED,
        PODS: MANAGED,
    }
