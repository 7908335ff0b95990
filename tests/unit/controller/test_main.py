"""Kopf's traps, settled: it only watches, its watches end, and its health is asked elsewhere."""

from __future__ import annotations

import asyncio
import inspect
import json
import urllib.error
import urllib.request

import kopf
import pytest

from orrery.controller.jobs import JobSettings
from orrery.controller.main import at_the_servers_address, configure_kopf, registry, serve
from orrery.controller.mirror import MIRRORED
from orrery.controller.settings import Settings
from orrery.controller.world import WATCHED
from tests.unit.controller.test_world import body

pytestmark = pytest.mark.unit

SETTINGS = Settings(namespace=None, own_namespace="ns", identity="me", jobs=JobSettings("image"))


class Recorded:
    """Stands where the operator is; remembers what it was told."""

    def __init__(self) -> None:
        self.saw_events: list[tuple[str, str, bool]] = []

    def saw(self, resource: object, body: dict, deleted: bool) -> None:
        assert type(body) is dict, "plain objects past the door"
        self.saw_events.append((resource.kind, body["metadata"]["name"], deleted))  # type: ignore[attr-defined]


def test_watches_end_on_both_sides_and_the_servers_end_comes_first() -> None:
    settings = kopf.OperatorSettings()
    configure_kopf(settings, 240)
    watching = settings.watching
    assert watching.server_timeout == 240 and watching.client_timeout > watching.server_timeout
    assert watching.connect_timeout and watching.inactivity_timeout and watching.chunk_size
    assert settings.persistence.finalizer == "orrery.dev/kopf"
    # whatever Kopf would store on an object, should a handler ever need it, is under our own prefix
    stored, thing = kopf.Patch(), kopf.Body(body("x"))
    progress = kopf.ProgressRecord(started=None, stopped=None, delayed=None, purpose=None, retries=1, success=False, failure=False, message="", subrefs=None)  # fmt: skip
    settings.persistence.progress_storage.store(key="a-handler", record=progress, body=thing, patch=stored)
    settings.persistence.progress_storage.touch(body=thing, patch=stored, value="now")
    settings.persistence.diffbase_storage.store(body=thing, patch=stored, essence=kopf.BodyEssence())
    annotations = stored["metadata"]["annotations"]
    assert len(annotations) >= 3 and all(name.startswith("orrery.dev/") for name in annotations), annotations
    assert set(stored) == {"metadata"}, "and nothing in the status"
    assert settings.posting.enabled is False and settings.scanning.disabled is True
    assert settings.queueing.worker_limit is not None and settings.queueing.worker_limit < 1000
    assert settings.execution.executor._max_workers == 4


def test_kopf_only_watches_and_its_handlers_return_nothing() -> None:
    operator = Recorded()
    handlers = registry(operator, SETTINGS)  # type: ignore[arg-type]
    watching = handlers._watching.get_all_handlers()
    named = [h.selector.plural or h.selector.any_name for h in watching]
    assert set(named) == {"adaptationplans", "pricelists", "adaptationbudgets"}, "what people write"
    assert sorted(named + [r.plural for r in MIRRORED]) == sorted(r.plural for r in WATCHED), (
        "and each kind is watched once"
    )
    for others in (handlers._changing, handlers._spawning, handlers._indexing, handlers._webhooks):
        assert not others.get_all_handlers(), "no finalizers, no annotations, no timers, no webhooks"
    for handler in watching:
        assert inspect.iscoroutinefunction(handler.fn), "no thread a handler"
        seen = handler.fn(event={"type": "DELETED", "object": body("x")}, anything="else")
        assert asyncio.run(seen) is None
    assert len(operator.saw_events) == 3 and all(deleted for *_, deleted in operator.saw_events)


def test_in_a_pod_the_watches_go_where_the_kubelet_says_and_ask_no_dns() -> None:
    found = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")
    env = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert at_the_servers_address(found, env).server == "https://10.0.0.1:443"
    assert at_the_servers_address(found, env | {"KUBERNETES_SERVICE_HOST": "fd00::1"}).server == "https://[fd00::1]:443"
    assert at_the_servers_address(found, env).token == "t" and at_the_servers_address(found, {}) == found


def test_health_and_metrics_are_read_only_http() -> None:
    def answer(path: str) -> tuple[int, str, bytes] | None:
        return (503, "application/json", b'{"healthy": false}') if path == "/healthz" else None

    server = serve(0, answer)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.raises(urllib.error.HTTPError) as sick:
            urllib.request.urlopen(f"{url}/healthz?verbose=1", timeout=5)
        assert sick.value.code == 503 and json.load(sick.value) == {"healthy": False}
        with pytest.raises(urllib.error.HTTPError) as unknown:
            urllib.request.urlopen(f"{url}/else", timeout=5)
        assert unknown.value.code == 404
    finally:
        server.shutdown()
        server.server_close()
