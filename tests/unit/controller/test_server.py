"""Requests as the API server's answers make them: an object, or an error that says whether another try is worth it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client

from orrery.controller import server as module
from orrery.controller.server import PLANS, PROBES, Conflict, Gone, NotFound, Refused, Server, ServerError

pytestmark = pytest.mark.unit


class Answering(ThreadingHTTPServer):
    """Answers with what it is told to, and remembers what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.answer, self.wait = 200, b"{}", 0.0
        self.chunks: list[bytes | float] | None = None  #: of an answer that takes its time: bytes, and seconds between
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.calls: list[tuple[str, str, int]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Answering

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.server.asked.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        time.sleep(self.server.wait)
        if self.server.status == 0:
            self.connection.close()
            return
        self.send_response(self.server.status)
        if self.server.chunks is not None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in self.server.chunks:
                if isinstance(chunk, float):
                    time.sleep(chunk)
                else:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if self.server.chunks[-1:] != [b""]:
                self.connection.close()
            return
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  # the names http.server calls

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def http() -> Iterator[Answering]:
    served = Answering()
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def server(http: Answering) -> Server:
    settings = client.Configuration(host=f"http://127.0.0.1:{http.server_address[1]}")
    settings.api_key = {"authorization": "Bearer first"}
    return Server(client.ApiClient(settings), lambda *call: http.calls.append(call), (1.0, 0.3))


def test_a_request_says_who_asks_what(server: Server, http: Answering) -> None:
    http.answer = json.dumps({"metadata": {"name": "a"}}).encode()
    body = {"metadata": {"name": "a", "namespace": "ns"}, "status": {"phase": "ü"}}
    assert server.replace(PROBES, body, "status") == {"metadata": {"name": "a"}}
    verb, path, headers, sent = http.asked[0]
    assert (verb, path) == ("PUT", "/apis/orrery.dev/v1alpha1/namespaces/ns/adaptationprobes/a/status")
    assert headers["authorization"] == "Bearer first" and headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("orrery/"), "the name that audit logs and managedFields have"
    assert json.loads(sent) == body
    server.merge(PLANS, "ns", "a", {"metadata": {}})
    assert http.asked[1][2]["Content-Type"] == "application/merge-patch+json"
    assert http.calls == [("PUT", "adaptationprobes", 200), ("PATCH", "adaptationplans", 200)]


def test_pages_are_followed_and_selectors_escaped(server: Server, http: Answering) -> None:
    http.answer = json.dumps({"metadata": {"continue": "next/page"}, "items": [{"metadata": {"name": "a"}}]}).encode()
    listed = server.list(PLANS, None, "a=b,c/d=e")
    assert next(listed) == {"metadata": {"name": "a"}, "kind": "AdaptationPlan"}
    http.answer = b'{"items": null}'
    assert list(listed) == []
    first, second = (path for _, path, _, _ in http.asked)
    assert first.endswith("/adaptationplans?limit=100&labelSelector=a%3Db%2Cc%2Fd%3De")
    assert second == f"{first}&continue=next%2Fpage"


def test_a_gentle_list_rests_between_its_pages_and_no_other_does(
    server: Server, http: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    ticks = iter(range(100))  # each look at the clock is a hundredth of a second after the last
    clock = SimpleNamespace(sleep=rests.append, monotonic=lambda: next(ticks) / 100)
    monkeypatch.setattr(module, "time", clock)
    http.answer = json.dumps({"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}).encode()
    hasty, gentle = server.list(PLANS, "ns"), server.list(PLANS, "ns", gently=True)
    assert [next(hasty)["metadata"]["name"] for _ in range(3)] == ["a"] * 3 and rests == []
    assert [next(gentle)["metadata"]["name"] for _ in range(3)] == ["a"] * 3
    assert len(rests) == 2 and all(0.03 <= rest <= 0.1 for rest in rests)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (400, Refused),
        (403, Refused),
        (422, Refused),
        (429, ServerError),
        (302, ServerError),
    ],
)
def test_an_answer_that_is_none_is_an_error_with_the_servers_sentence(
    server: Server, http: Answering, status: int, kind: type[ServerError]
) -> None:
    http.status, http.answer = status, json.dumps({"message": "because"}).encode()
    with pytest.raises(kind, match="because") as error:
        server.get(PLANS, "ns", "a")
    assert type(error.value) is kind and error.value.status == status
    assert http.calls == [("GET", "adaptationplans", status)] and len(http.asked) == 1, (
        "nobody but the queue tries again"
    )


def test_a_namespace_that_goes_is_as_good_as_gone(server: Server, http: Answering) -> None:
    sentence = "unable to create new content in namespace ns because it is being terminated"
    http.status, http.answer = 403, json.dumps({"message": sentence}).encode()
    with pytest.raises(NotFound, match="ns"):
        server.create(PROBES, {"metadata": {"name": "a", "namespace": "ns"}})


@pytest.mark.parametrize(("status", "answer", "wait"), [(0, b"", 0.0), (200, b"not JSON", 0.0), (200, b"{}", 0.6)])
def test_an_answer_that_does_not_come_is_worth_another_try(
    server: Server, http: Answering, status: int, answer: bytes, wait: float
) -> None:
    http.status, http.answer, http.wait = status, answer, wait
    with pytest.raises(ServerError) as error:
        server.get(PLANS, "ns", "a")
    assert type(error.value) is ServerError and error.value.status == 0
    http.status, http.answer, http.wait = 200, b'{"kind": "AdaptationPlan"}', 0.0
    assert server.get(PLANS, "ns", "a") == {"kind": "AdaptationPlan"}, "the broken connection is not used again"


def test_a_token_that_was_renewed_is_used(server: Server, http: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    server.get(PLANS, "ns", "a")
    server._client.configuration.api_key = {"authorization": "Bearer second"}
    server.get(PLANS, "ns", "a")
    monkeypatch.setattr(module, "_RENEW_SECONDS", 0.0)
    server._renew = 0.0
    server.get(PLANS, "ns", "a")
    assert [headers["authorization"] for _, _, headers, _ in http.asked] == [
        "Bearer first",
        "Bearer first",
        "Bearer second",
    ]


def watched(server: Server) -> list[tuple[str, str]]:
    found = server.watch(PROBES, "ns", "a=b", "7", 240)
    return [(kind, thing["metadata"]["resourceVersion"]) for kind, thing in found]


def change(kind: str, version: int) -> bytes:
    return json.dumps({"type": kind, "object": {"metadata": {"resourceVersion": str(version)}}}).encode() + b"\n"


def test_a_watch_tells_each_change_however_it_is_cut(server: Server, http: Answering) -> None:
    first, second, third = change("ADDED", 8), change("BOOKMARK", 9), change("DELETED", 10)
    http.chunks = [first[:9], first[9:] + second + third[:1], third[1:], change("UNHEARD_OF", 11), b""]
    assert watched(server) == [("ADDED", "8"), ("BOOKMARK", "9"), ("DELETED", "10")]
    path = http.asked[0][1]
    assert path.startswith(
        "/apis/orrery.dev/v1alpha1/namespaces/ns/adaptationprobes?watch=true&allowWatchBookmarks=true"
    )
    assert path.endswith("&resourceVersion=7&timeoutSeconds=240&labelSelector=a%3Db")
    assert http.calls == [("GET", "adaptationprobes", 200)]


def test_a_change_is_told_before_the_next_one_comes(server: Server, http: Answering) -> None:
    http.chunks = [change("ADDED", 8), 0.5, change("ADDED", 9), b""]
    begun, found = time.monotonic(), server.watch(PROBES, None, None, "7", 240)
    assert next(found)[0] == "ADDED" and time.monotonic() - begun < 0.4
    found.close()  # type: ignore[attr-defined]


def test_a_version_that_is_too_old_is_said_in_either_way(server: Server, http: Answering) -> None:
    http.chunks = [change("ADDED", 8), b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n', b""]
    with pytest.raises(Gone, match="too old"):
        watched(server)
    http.chunks, http.status, http.answer = None, 410, b'{"message": "too old"}'
    with pytest.raises(Gone, match="too old"):
        watched(server)


def test_a_watch_that_breaks_or_is_silent_is_an_error_after_what_it_has_told(
    server: Server, http: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.15)
    for chunks in ([change("ADDED", 8), change("ADDED", 9)[:5]], [change("ADDED", 8), 0.6, b""], [b"not JSON\n", b""]):
        http.chunks, told = chunks, []
        with pytest.raises(ServerError) as error:
            told.extend(kind for kind, _ in server.watch(PROBES, None, None, "7", 240))
        assert type(error.value) is ServerError and error.value.status == 0


def test_half_a_character_is_written_all_the_same(server: Server, http: Answering) -> None:
    server.merge(PLANS, "ns", "a", {"message": "\ud800"})
    assert json.loads(http.asked[0][3]) == {"message": "\ud800"}
