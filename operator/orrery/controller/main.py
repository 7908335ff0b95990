"""``orrery operator``: Kopf's watches, wired to the operator; metrics and health over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import gc
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kopf
from prometheus_client import disable_created_metrics, exposition

from orrery.api.base import GROUP, VERSION
from orrery.controller.events import Recorder
from orrery.controller.lease import Fence
from orrery.controller.metrics import Metrics
from orrery.controller.mirror import MIRRORED
from orrery.controller.operator import Operator
from orrery.controller.probe_store import LANES
from orrery.controller.probing import Probing
from orrery.controller.reconcile import Reconciler
from orrery.controller.server import (
    BUDGETS,
    PLANS,
    PRICE_LISTS,
    PROBES,
    NotFound,
    Resource,
    Server,
    ServerError,
)
from orrery.controller.settings import Settings
from orrery.controller.world import World

log = logging.getLogger(__name__)

#: New objects after which those among them that only hold each other are looked for; there are few such.
_GARBAGE = 50_000


def build(settings: Settings) -> Operator:
    """All parts, connected; nothing runs yet."""
    metrics, world = Metrics(), World()
    # a write that was sent while the Lease was held must have landed before another operator may take it
    margin = settings.lease_seconds / 3
    # a connection for each thread that may ask: those beyond the pool would shake hands anew each time
    server = Server.connect(
        settings.workers + LANES + len(MIRRORED) + 4, metrics.api_call, (min(5.0, margin / 2), min(10.0, margin))
    )
    fence = Fence(
        server,
        settings.own_namespace,
        settings.identity,
        duration=settings.lease_seconds,
        renew_deadline=settings.lease_seconds * 2 / 3,
        period=settings.lease_seconds / 6,
    )
    recorder = Recorder(server, settings.identity)
    reconciler = Reconciler(Probing(server, world, settings.jobs, metrics, recorder, fence.may_write))
    return Operator(
        *(server, world, metrics, reconciler, fence),
        *(settings.namespace, settings.workers, settings.resync_seconds),
        watch_timeout_seconds=settings.watch_timeout_seconds,
    )


def registry(operator: Operator, settings: Settings) -> kopf.OperatorRegistry:
    """Kopf's handlers, of what people write: they tell the operator what was seen, and nothing else."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.startup(registry=handlers)
    async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:  # Kopf awaits it
        configure_kopf(settings, timeout)

    @kopf.on.login(registry=handlers)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        found = kopf.login_with_service_account(**kwargs)
        return at_the_servers_address(found, os.environ) if found else kopf.login_with_kubeconfig(**kwargs)

    timeout = settings.watch_timeout_seconds

    def watch(resource: Resource, group: str, version: str) -> None:
        @kopf.on.event(group, version, resource.plural, registry=handlers, id=resource.plural)
        async def saw(event: kopf.RawEvent, **_: Any) -> None:
            operator.saw(resource, dict(event["object"]), deleted=event["type"] == "DELETED")

    watch(PLANS, GROUP, VERSION)
    watch(PRICE_LISTS, GROUP, VERSION)
    watch(BUDGETS, GROUP, VERSION)
    return handlers


class NoDifferences(kopf.AnnotationsDiffBaseStorage):
    """Compares nothing: our handlers take events as they come, and a deep copy of every object at every event is dear."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        """No essence."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was stored."""
        return None


def at_the_servers_address(found: kopf.ConnectionInfo, env: Mapping[str, str]) -> kopf.ConnectionInfo:
    """Where the kubelet says that the API server is, as every other client goes there; Kopf asks the DNS, which may be away.

    Else the watches alone would be dead, and everything would wait for the next list.
    """
    host, port = env.get("KUBERNETES_SERVICE_HOST"), env.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        return found
    return dataclasses.replace(found, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")


def configure_kopf(settings: kopf.OperatorSettings, timeout: int) -> None:
    """Kopf's traps, settled.

    Watches end and are renewed by both sides' clocks, so that a connection that died in silence is noticed; the client waits
    a little longer than the server, so that the server's clean end comes first. Nothing is stored on objects, but should a
    handler ever be added that does, it is under our own prefix. Kopf's own Events are off: ours say what people need.
    """
    settings.watching.server_timeout = timeout
    settings.watching.client_timeout = timeout + 30
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 100
    settings.watching.inactivity_timeout = min(timeout, 90) + 30
    # one namespace or all of them, and our own definitions: nothing to discover, no rights needed to look for it
    settings.scanning.disabled = True
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP, v1=False)
    settings.persistence.diffbase_storage = NoDifferences(prefix=GROUP, key="last-handled", v1=False)
    settings.posting.enabled = False
    # A worker is a coroutine that an object keeps until it has been idle for a while: 5 s each would let pass, with this
    # limit, no more than 50 objects a second, and all that a restart lists would wait for it.
    settings.queueing.worker_limit = 256
    settings.queueing.idle_timeout = 0.2
    settings.execution.executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="kopf")
    settings.networking.request_timeout = 30


def run(settings: Settings, pages: Callable[[Operator], Callable[[str], Any]] | None = None) -> int:
    """Run until it is told to end; the process's exit status. ``pages`` makes what answers the port for reports, if there is one."""
    _share_heaps()
    operator = build(settings)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside every counter, which nothing asks for
    if not log.isEnabledFor(logging.DEBUG):  # that it watches is not news to a person, nor each watch event
        logging.getLogger("kopf").setLevel(logging.WARNING)
    if problem := missing_definitions(operator.server, settings.namespace):
        log.error("%s", problem)
        return 1
    _settle_heap()
    servers = [
        serve(settings.metrics_port, lambda path: _metrics(operator) if path == "/metrics" else None),
        serve(
            settings.health_port, lambda path: _health(operator) if path in ("/healthz", "/livez", "/readyz") else None
        ),
    ]
    if settings.reports_port and pages is not None:
        servers.append(serve(settings.reports_port, pages(operator)))
    operator.start()
    log.info("operator %s watches %s", settings.identity, settings.namespace or "all namespaces")
    try:
        watch_forever(operator, settings)
        return 0
    finally:
        operator.stop()
        for server in servers:
            server.shutdown()


def _share_heaps() -> None:
    """Two heaps for all threads: glibc would give each worker one of its own, and little of what a turn frees comes back."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX


def _settle_heap() -> None:
    """What was imported stays: looking through it for garbage, again and again, was a twentieth of all processor time, and
    kept everything else waiting for a tenth of a second each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def watch_forever(operator: Operator, settings: Settings, pause: float = 1.0) -> None:
    """Run Kopf until a signal ends it.

    One watch that meets an answer Kopf does not expect, such as 410 as an HTTP status, ends all of Kopf. That is no reason to
    lose the Lease and everything that is known: it starts again, and what it did not see meanwhile the lists show.
    """
    while True:
        try:
            asyncio.run(
                kopf.operator(
                    registry=registry(operator, settings),
                    namespaces=[settings.namespace] if settings.namespace else (),
                    clusterwide=settings.namespace is None,
                    standalone=True,
                )
            )
            return
        except Exception as error:
            log.warning("the watches ended and start again: %s: %s", type(error).__name__, str(error)[:300])
            operator.metrics.errors.labels("Watch").inc()
            time.sleep(pause)


def missing_definitions(server: Server, namespace: str | None) -> str | None:
    """A sentence when the API server does not know our kinds; None when it does, or when it cannot be asked now."""
    for resource in (PLANS, PROBES, PRICE_LISTS, BUDGETS):
        try:
            next(iter(server.list(resource, namespace if resource.namespaced else None)), None)
        except NotFound:
            return f"the API server does not know {resource.plural}.{GROUP}: apply the definitions in crds/ first"
        except ServerError as error:
            log.warning("%s could not be listed: %s", resource.plural, error)
    return None


def _metrics(operator: Operator) -> tuple[int, str, bytes]:
    operator.metrics.refresh(len(operator.queue), operator.fence.may_write(), operator.overdue())
    return 200, exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(operator.metrics.registry)


def _health(operator: Operator) -> tuple[int, str, bytes]:
    problems = operator.problems()
    body = {"healthy": not problems, "leading": operator.leading(), "problems": problems}
    return (503 if problems else 200), "application/json", json.dumps(body).encode()


def serve(port: int, answer: Any) -> ThreadingHTTPServer:
    """A read-only HTTP server in a thread; ``answer(path)`` gives (status, content type, body) or None for 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name http.server calls
            found = answer(self.path.split("?")[0]) or (404, "text/plain", b"not found\n")
            self.send_response(found[0])
            self.send_header("Content-Type", found[1])
            self.send_header("Content-Length", str(len(found[2])))
            self.end_headers()
            self.wfile.write(found[2])

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name=f"http-{port}", daemon=True).start()
    return server
