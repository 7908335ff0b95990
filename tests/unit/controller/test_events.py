"""Events: news that nobody waits for."""

from __future__ import annotations

import threading

import pytest

from orrery.controller import events
from orrery.controller.server import ServerError
from tests.unit.controller.bodies import attempt

pytestmark = pytest.mark.unit
BODY = {"metadata": {"name": "support", "namespace": "team-a", "uid": "plan-uid"}}


class Server:
    def __init__(self):
        self.written, self.open = [], threading.Event()

    def create(self, resource, body):
        self.open.wait(5)
        self.written.append(body["message"])
        if body["message"] == "refused":
            raise ServerError(403, "no")
        return body


def test_the_same_is_told_once(caplog):
    caplog.set_level("INFO")
    server = Server()
    server.open.set()
    recorder = events.Recorder(server)
    for sentence in ("a", "b", "a"):
        recorder.stalled(BODY, "InvalidPlan", sentence)
    assert server.written == ["a", "b"]
    # an Event is gone after an hour, the log is not
    assert caplog.messages == [f"team-a/support: InvalidPlan: {sentence}" for sentence in ("a", "b")]


def test_once_started_nobody_waits_and_everything_is_written_in_order():
    server = Server()
    recorder = events.Recorder(server)
    recorder.start()
    writer = threading.Thread(target=recorder.run)
    writer.start()
    for sentence in ("a", "refused", "b"):
        recorder.stalled(BODY, "InvalidPlan", sentence)  # the server does not answer yet
    assert server.written == []
    recorder.close()
    server.open.set()
    writer.join(5)
    assert not writer.is_alive()
    assert server.written == ["a", "refused", "b"]


def test_what_one_look_finds_is_one_event_save_failures():
    server = Server()
    server.open.set()
    recorder = events.Recorder(server)
    good = [(f"probe-{i}", attempt(phase="Succeeded", cost="0.1")) for i in range(3)]
    bad = [("probe-x", attempt(phase="Failed", cost="0.2", message="its container ended with exit code 1"))]
    recorder.attempts_ended(BODY, [*good, *bad])
    failed, succeeded = server.written
    assert failed == "probe-x, attempt 1, cost 0.2: its container ended with exit code 1"
    assert succeeded.startswith("3 probes: probe-0, attempt 1, cost 0.1; probe-1,")
    recorder.attempts_ended(BODY, good[:1])
    assert server.written[-1] == "probe-0, attempt 1, cost 0.1"


def test_old_news_is_dropped_when_too_much_waits(monkeypatch):
    monkeypatch.setattr(events, "_WAITING", 2)
    recorder = events.Recorder(Server())
    recorder.start()
    for sentence in ("a", "b", "c"):
        recorder.stalled(BODY, "InvalidPlan", sentence)
    assert recorder._waiting.qsize() == 2
