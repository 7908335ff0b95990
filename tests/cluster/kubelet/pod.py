"""One Pod from its binding to its end: volumes, init containers, containers, deadline, deletion, and its status."""

from __future__ import annotations

import copy
import datetime
import http.client
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.cluster.kubelet.container import Container
from tests.cluster.kubelet.objects import MissingObjectError, Objects, now
from tests.cluster.kubelet.sandbox import Sandbox
from tests.cluster.kubelet.settings import Settings
from tests.cluster.kubelet.volumes import UnsupportedVolumeError, prepare_volumes
from tests.cluster.rest import ApiError, Json


class Pod(threading.Thread):
    """Runs the Pod in its own thread; `changed` is called after each change of its status, `removable` says its object may go."""

    def __init__(
        self, settings: Settings, objects: Objects, sandbox: Sandbox, pod: Json, changed: Callable[[Pod], None]
    ) -> None:
        metadata, spec = pod["metadata"], pod["spec"]
        super().__init__(name=f"{metadata['namespace']}/{metadata['name']}", daemon=True)
        self.settings, self.objects, self.pod = settings, objects, pod
        self.namespace, self.pod_name, self.uid = metadata["namespace"], metadata["name"], metadata["uid"]
        self.folder = settings.root / "pods" / self.uid
        self.stopping = threading.Event()
        self.removable = False
        self.deleting = False
        self._changed = changed
        self._deadline_passed = False
        self._phase, self._reason, self._message = "Pending", "", ""
        self._before: Json = pod.get("status") or {}
        self._start_time = self._before.get("startTime") or now()

        def make(spec: Json, init: bool) -> Container:
            return Container(settings, objects, sandbox, pod, spec, self.folder, init)

        self.init_containers = [make(entry, True) for entry in spec.get("initContainers", [])]
        self.containers = [make(entry, False) for entry in spec["containers"]]

    def changed(self) -> None:
        """Tells the status writer."""
        self._changed(self)

    def find(self, container: str) -> Container | None:
        """A container by name."""
        return next((entry for entry in (*self.containers, *self.init_containers) if entry.name == container), None)

    def run(self) -> None:
        """The life of the Pod."""
        timer = self._start_deadline()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            policy = self.pod["spec"].get("restartPolicy", "Always")
            if self._was_running():
                for container in self.containers:
                    container.lost()
                if policy == "Never":
                    self._phase = "Failed"
                    return
                self._continue()
            self.changed()
            volumes = self._volumes()
            if volumes is None:
                return
            for container in self.init_containers:
                container.run(volumes, "Never" if policy == "Never" else "OnFailure", self.stopping, self.changed)
                self.changed()
                if container.exit_code != 0:
                    self._phase = "Failed" if container.exit_code is not None else self._phase
                    return
            self._phase = "Running"
            threads = [
                threading.Thread(target=entry.run, args=(volumes, policy, self.stopping, self.changed), daemon=True)
                for entry in self.containers
            ]
            for thread in threads:
                thread.start()
            for entry, thread in zip(self.containers, threads, strict=True):
                thread.join()
                if entry is not self.containers[-1]:
                    self.changed()
            codes = [entry.exit_code for entry in self.containers]
            if None not in codes:
                self._phase = "Failed" if any(codes) else "Succeeded"
        except Exception as error:  # the Pod must not hang in silence for a fault of this kubelet
            self._phase, self._reason, self._message = "Failed", "KubeletError", f"{type(error).__name__}: {error}"
        finally:
            if timer is not None:
                timer.cancel()
            if self._deadline_passed:
                self._phase, self._reason = "Failed", "DeadlineExceeded"
                self._message = "Pod was active on the node longer than the specified deadline"
            self.changed()
            print(now(), self.name, self._phase, self._reason, self._message, flush=True)

    def delete(self, grace: float) -> None:
        """Ends the containers within `grace` seconds, then lets the status writer take the Pod object away."""
        self.deleting = True
        self._end(grace)
        self.removable = True
        self.changed()

    def clean(self) -> None:
        """Removes the Pod's folders (its object is gone)."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def status(self) -> Json:
        """The PodStatus to be written now."""
        containers, init = [entry.status for entry in self.containers], [entry.status for entry in self.init_containers]
        done = self._phase in ("Succeeded", "Failed")
        ready = not done and all(entry["ready"] for entry in containers)
        initialized = all((entry["state"].get("terminated") or {}).get("exitCode") == 0 for entry in init)
        why = "PodCompleted" if self._phase == "Succeeded" else "ContainersNotReady"
        status: Json = {
            "phase": self._phase, "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "startTime": self._start_time,
            "qosClass": self._before.get("qosClass", "BestEffort"),
            "conditions": [
                self._condition("Initialized", initialized or self._phase == "Succeeded", "ContainersNotInitialized"),
                self._condition("Ready", ready, why), self._condition("ContainersReady", ready, why), self._condition("PodScheduled", True, ""),
            ],
            "containerStatuses": containers,
        }  # fmt: skip
        if init:
            status["initContainerStatuses"] = init
        status |= {"reason": self._reason, "message": self._message} if self._reason else {}
        return copy.deepcopy(status)

    def _condition(self, kind: str, true: bool, why: str) -> Json:
        condition = {
            "type": kind,
            "status": "True" if true else "False",
            "lastProbeTime": None,
            "lastTransitionTime": self._start_time,
        }
        return condition if true else {**condition, "reason": why}

    def _was_running(self) -> bool:
        """The kubelet was started anew on a node whose processes died: containers that had run are lost."""
        return any(
            entry.get("state", {}).get("running") or entry.get("containerID")
            for entry in self._before.get("containerStatuses", [])
        )

    def _continue(self) -> None:
        """Restart counts go on where the lost containers were."""
        counts = {entry["name"]: entry["restartCount"] for entry in self._before.get("containerStatuses", [])}
        for container in self.containers:
            container.restarted(counts.get(container.name, 0) + 1)

    def _volumes(self) -> dict[str, Path] | None:
        """Prepares the volumes, waiting as ContainerCreating for what is missing; None when the Pod is ended meanwhile."""
        while not self.stopping.is_set():
            try:
                return prepare_volumes(self.settings, self.objects, self.pod, self.folder / "volumes")
            except (MissingObjectError, UnsupportedVolumeError) as error:
                for container in (*self.init_containers, *self.containers):
                    container.wait_for("ContainerCreating", f"MountVolume.SetUp failed: {error}")
                self.changed()
            except (ApiError, OSError, http.client.HTTPException) as error:
                print(now(), self.name, "volumes:", error, flush=True)
            self.stopping.wait(1)
        return None

    def _start_deadline(self) -> threading.Timer | None:
        seconds = self.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        started = datetime.datetime.fromisoformat(self._start_time.replace("Z", "+00:00"))
        gone = (datetime.datetime.now(datetime.UTC) - started).total_seconds()
        timer = threading.Timer(max(0.0, seconds - gone), self._deadline)
        timer.daemon = True
        timer.start()
        return timer

    def _deadline(self) -> None:
        self._deadline_passed = True
        self._end(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    def _end(self, grace: float) -> None:
        """SIGTERM, `grace` seconds, SIGKILL; returns when the Pod's thread is done."""
        self.stopping.set()
        everything = (*self.init_containers, *self.containers)
        for container in everything:
            container.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        while self.is_alive():
            for container in everything:
                container.signal(signal.SIGKILL)
            self.join(0.1)
