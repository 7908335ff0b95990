"""Watches of what comes of plans by the dozen: probes, their Jobs and Pods. What people write, Kopf watches.

Kopf keeps a memory, a task and several loggers for each object, so that handlers may have timers, retries and daemons. Ours only
tell what was seen; of a plan of twenty probes, which is some two hundred events, that was a third of the operator's processor
time, and half of what it remembered. So these three kinds are read as a client's reflector reads them: a list, then a watch from
its version on, again and again, each in a thread that does nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orrery.controller.server import JOBS, PODS, PROBES, Gone, Object, Resource, Server, ServerError
from orrery.controller.world import KEPT, World, key_of

log = logging.getLogger(__name__)

MANAGED = "app.kubernetes.io/managed-by=orrery"
#: Filtered by the server: a cluster's other Jobs and Pods never reach us. Probes are ours whatever their labels say.
MIRRORED: dict[Resource, str | None] = {PROBES: None, JOBS: MANAGED, PODS: MANAGED}
#: After a watch that failed, or ended within a second, and told nothing; twice as long after each further one.
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 8.0
_SHORT_SECONDS = 1.0


@dataclass
class Mirror:
    """Tells ``saw(resource, object, deleted)`` every change of a kind, until it is stopped; ``run`` it in a thread."""

    server: Server
    world: World
    resource: Resource
    namespace: str | None
    saw: Callable[[Resource, Object, bool], None]
    timeout: int = 240  #: seconds after which the server ends a watch, to be renewed from where it was
    stopped: threading.Event = field(default_factory=threading.Event)
    pause: float = _PAUSE_SECONDS
    _version: str | None = field(default=None, init=False)  #: up to which everything was seen

    def run(self) -> None:
        """Never raises: whatever the server answers, it is asked again."""
        pause = self.pause
        while not self.stopped.is_set():
            before, begun = self._version, time.monotonic()
            try:
                self.turn()
                # whoever stands between may end a watch as soon as it began, again and again
                if self._version != before or time.monotonic() - begun >= _SHORT_SECONDS:
                    pause = self.pause
                    continue
            except Gone:
                log.info("the watch of %s has fallen behind and lists again", self.resource.plural)
                self._version = None
            except ServerError as error:
                log.info("the watch of %s ended and goes on: %s", self.resource.plural, error)
            except Exception:
                log.exception("the watch of %s ended and goes on", self.resource.plural)
                self._version = None
            pause = self.pause if self._version not in (before, None) else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self.stopped.wait(pause)

    def turn(self) -> None:
        """One watch, until the server ends it; before it a list, if it is not known where to begin."""
        if self._version is None:
            self._version = self._list()
        watched = self.server.watch(self.resource, self.namespace, MIRRORED[self.resource], self._version, self.timeout)
        for kind, body in watched:
            if kind != "BOOKMARK":
                self.saw(self.resource, body, kind == "DELETED")
            # after it was told, so that nothing is left out if that fails
            self._version = body["metadata"]["resourceVersion"]
            if self.stopped.is_set():
                return

    def _list(self) -> str:
        """Tell everything that is there, and what is not there any more; the version of the list."""
        # all of this was on the server before the list was asked for
        before = self.world.keys(self.resource) if self.resource in KEPT else []
        version, listed = "", set()
        for page in self.server.pages(self.resource, self.namespace, MIRRORED[self.resource]):
            version = page["metadata"]["resourceVersion"]
            for body in page["items"]:
                listed.add(key_of(body))
                self.saw(self.resource, body, False)
        for key in before:
            if key not in listed and (known := self.world.get(self.resource, key)) is not None:
                self.saw(self.resource, known, True)
        return version
