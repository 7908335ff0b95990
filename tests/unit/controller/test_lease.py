"""Two fences over one Lease and one clock: at no moment may both write."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.controller.lease import Fence
from orrery.controller.server import Conflict, NotFound, Object, ServerError

pytestmark = pytest.mark.unit


class LeaseServer:
    """The API server's rules for one object: versions and conflicts; some requests are lost on their way or back."""

    def __init__(self) -> None:
        self.now, self.version = 0.0, 0
        self.lease: Object | None = None
        self.lost = "none"

    def clock(self) -> float:
        return self.now

    def get(self, *_: Any) -> Object:
        if self.lost == "request":
            raise ServerError(0, "timed out")
        if self.lease is None:
            raise NotFound(404, "no lease")
        return copy.deepcopy(self.lease)

    def create(self, _: Any, body: Object) -> Object:
        if self.lease is not None:
            raise Conflict(409, "exists")
        return self._store(body)

    def replace(self, _: Any, body: Object) -> Object:
        if self.lease is None or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "changed")
        return self._store(body)

    def _store(self, body: Object) -> Object:
        self.version += 1
        stored = copy.deepcopy(body)
        stored["metadata"]["resourceVersion"] = str(self.version)
        self.lease = stored
        if self.lost == "answer":
            raise ServerError(0, "the answer was lost")
        return copy.deepcopy(stored)


class SlowServer(LeaseServer):
    """Answers four seconds after it has written."""

    def _store(self, body: Object) -> Object:
        stored = super()._store(body)
        self.now += 4.0
        return stored


def fence(server: LeaseServer, name: str) -> Fence:
    return Fence(server, "ns", name, duration=30, renew_deadline=20, period=5, clock=server.clock)  # type: ignore[arg-type]


def test_a_renewal_counts_from_before_it_was_asked_for() -> None:
    """Whoever waits may have seen it the moment it was written, long before its answer was here."""
    server = SlowServer()
    a = fence(server, "a")
    assert a.attempt() and server.now == 4.0
    server.now = 19.9
    assert a.may_write()
    server.now = 20.1
    assert not a.may_write()


def test_the_second_waits_for_the_whole_duration_on_its_own_clock(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = LeaseServer()
    a, b = fence(server, "a"), fence(server, "b")
    assert a.attempt() and a.may_write() and a.term == 1
    for server.now in (1.0, 15.0, 30.9):
        assert not b.attempt()
    assert not a.may_write(), "it has not renewed for its deadline"
    assert caplog.messages == ["a holds the Lease ns/orrery-operator: this operator stands by"], "said once"
    server.now = 31.1
    assert b.attempt() and b.may_write()
    assert server.lease is not None and server.lease["spec"]["leaseTransitions"] == 1
    assert not a.attempt() and not a.may_write()


def test_renewing_keeps_the_term_and_losing_it_starts_another() -> None:
    server = LeaseServer()
    a = fence(server, "a")
    for server.now in (0.0, 10.0, 20.0):
        assert a.attempt()
    assert a.term == 1
    server.now = 45.0
    assert not a.may_write() and a.attempt() and a.term == 2


def test_a_released_lease_need_not_be_waited_for() -> None:
    server = LeaseServer()
    a, b = fence(server, "a"), fence(server, "b")
    a.attempt()
    assert not b.attempt()
    a.release()
    assert not a.may_write() and b.attempt()


def test_what_cannot_be_renewed_ends_in_time() -> None:
    server = LeaseServer()
    a = fence(server, "a")
    a.attempt()
    server.lost = "request"
    server.now = 19.0
    assert a.attempt(), "still ours"
    server.now = 20.0
    assert not a.attempt()


turns = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "a dies", "b releases"]),
        st.floats(0, 40),
        st.sampled_from(["none", "none", "request", "answer"]),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(turns)
def test_never_both(turns: list[tuple[str, float, str]]) -> None:
    server = LeaseServer()
    fences = {"a": fence(server, "a"), "b": fence(server, "b")}
    for who, passes, server.lost in turns:
        server.now += passes
        assert sum(f.may_write() for f in fences.values()) <= 1
        if who == "a dies":
            fences["a"] = fence(server, "a2")  # a successor of the same Pod, with another identity
        elif who == "b releases":
            fences["b"].release()
            fences["b"] = fence(server, "b")
        else:
            fences[who].attempt()
        assert sum(f.may_write() for f in fences.values()) <= 1
