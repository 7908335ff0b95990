"""Writes Pod statuses: one thread, the latest state of each Pod, again and again until the API server has taken it.

An end that is reported while the API server restarts must not be lost: the Job would never complete.
"""

from __future__ import annotations

import http.client
import queue
import threading
from collections.abc import Callable

from tests.cluster.kubelet.objects import Objects, now
from tests.cluster.kubelet.pod import Pod
from tests.cluster.rest import ApiError

RETRY_SECONDS = 0.3


class StatusWriter:
    """`mark` a Pod whose status changed; `removed` is called once its object has been taken away."""

    def __init__(self, objects: Objects, removed: Callable[[Pod], None]) -> None:
        self._objects, self._removed = objects, removed
        self._queue: queue.Queue[Pod] = queue.Queue()
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self.silent = False  # a kubelet that stops says nothing of the containers it takes with it
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def mark(self, pod: Pod) -> None:
        """Has the Pod's status written soon; marks that arrive before the write are one write."""
        with self._lock:
            if pod.uid in self._dirty:
                return
            self._dirty.add(pod.uid)
        self._queue.put(pod)

    def _run(self) -> None:
        while True:
            pod = self._queue.get()
            with self._lock:
                self._dirty.discard(pod.uid)
            if self.silent:
                return
            try:
                self._write(pod)
            except (OSError, http.client.HTTPException, ApiError) as error:
                print(now(), pod.name, "status:", error, flush=True)
                timer = threading.Timer(RETRY_SECONDS, self.mark, [pod])
                timer.daemon = True
                timer.start()

    def _write(self, pod: Pod) -> None:
        removable = pod.removable  # read before the status is, so that the last status is written before the removal
        try:
            self._objects.patch_pod_status(pod.namespace, pod.pod_name, pod.uid, pod.status())
        except ApiError as error:
            if error.status == 422:
                print(now(), pod.name, "the API server refused the status:", error, flush=True)
            elif error.status in (404, 409):  # gone, or another Pod of the same name
                if removable:
                    self._removed(pod)
                return
            else:
                raise
        if removable:
            self._objects.remove_pod(pod.namespace, pod.pod_name, pod.uid)
            self._removed(pod)
