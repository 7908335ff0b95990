"""One container: its process, its restarts, and the part of the Pod's status that speaks of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.cluster.kubelet.environment import build_environment, expand
from tests.cluster.kubelet.memory import MemoryLimit
from tests.cluster.kubelet.objects import MissingObjectError, Objects, now
from tests.cluster.kubelet.sandbox import Launch, Mount, Sandbox
from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import ApiError, Json

MESSAGE_BYTES = 4096  # the kubelet's limit for one container's termination message
FALLBACK_BYTES = 2048  # of the log, with terminationMessagePolicy: FallbackToLogsOnError
CANNOT_START = 128
UNPULLABLE = "nonexistent"  # an image whose name has this word is reported as one that cannot be pulled


class Container:
    """Runs a container until it ends for good under the Pod's restart policy; `status` is its ContainerStatus."""

    def __init__(
        self, settings: Settings, objects: Objects, sandbox: Sandbox, pod: Json, spec: Json, folder: Path, init: bool
    ) -> None:
        self.settings, self.objects, self.sandbox = settings, objects, sandbox
        self.pod, self.spec, self.folder, self.init = pod, spec, folder, init
        self.name: str = spec["name"]
        self.process: subprocess.Popen[bytes] | None = None
        self._launched: Launch | None = None
        self.status: Json = {
            "name": self.name, "image": spec.get("image", ""), "imageID": "", "ready": False, "started": False, "restartCount": 0,
            "state": {"waiting": {"reason": "PodInitializing" if init else "ContainerCreating"}}, "lastState": {},
        }  # fmt: skip

    @property
    def exit_code(self) -> int | None:
        """The code of the last end, None while it has not ended."""
        terminated = self.status["state"].get("terminated")
        return None if terminated is None else int(terminated["exitCode"])

    def log_file(self, restart: int | None = None) -> Path:
        """The output of one attempt, by default the latest."""
        return self.folder / "logs" / f"{self.name}.{self.status['restartCount'] if restart is None else restart}.log"

    def wait_for(self, reason: str, message: str = "") -> None:
        """State: waiting."""
        self.status.update(
            state={"waiting": {"reason": reason, **({"message": message} if message else {})}},
            ready=False,
            started=False,
        )

    def lost(self) -> None:
        """State: ended with its node, nobody knows how."""
        text = "The container could not be located when the pod was terminated"
        ended = {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": text,
            "startedAt": None,
            "finishedAt": None,
        }
        self.status.update(state={"terminated": ended}, ready=False, started=False)

    def restarted(self, count: int) -> None:
        """The state it is in becomes the last one, and a new attempt waits to start."""
        self.status.update(lastState=self.status["state"], restartCount=count)
        self.wait_for("ContainerCreating")

    def run(
        self, volumes: dict[str, Path], policy: str, stopping: threading.Event, changed: Callable[[], None]
    ) -> None:
        """Starts and restarts the container; returns when it has ended for good or `stopping` is set."""
        delay = self.settings.backoff_seconds
        while not stopping.is_set():
            if UNPULLABLE in self.status["image"]:
                self.wait_for("ErrImagePull", f"no such image {self.status['image']}")
                changed()
                if not stopping.wait(delay):
                    self.wait_for("ImagePullBackOff", f'Back-off pulling image "{self.status["image"]}"')
                    changed()
                stopping.wait()
                return
            try:
                terminated = self._attempt(volumes, changed)
            except (MissingObjectError, ApiError) as error:
                self.wait_for("CreateContainerConfigError", str(error))
                changed()
                stopping.wait(1)
                continue
            self.status.update(state={"terminated": terminated}, ready=False, started=False)
            code = terminated["exitCode"]
            if stopping.is_set() or not (policy == "Always" or (policy == "OnFailure" and code != 0)):
                return
            self.wait_for("CrashLoopBackOff", f"back-off {delay:.0f}s restarting failed container={self.name}")
            self.status["lastState"] = {"terminated": terminated}
            changed()
            if stopping.wait(delay):
                self.status["state"] = {"terminated": terminated}
                return
            self.status["restartCount"] += 1
            delay = min(delay * 2, 300.0)

    def signal(self, number: signal.Signals) -> None:
        """Signals the container's first process (in an overlay, process 1 of its namespace), or ends all of it with SIGKILL."""
        process = self.process
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, PermissionError):
            if not self.sandbox.isolated:
                os.killpg(process.pid, number)
                return
            first = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if not first or self._launched is None or not self._launched.entered.exists():
                process.send_signal(number)  # still mounting
                return
            for pid in first:
                os.kill(int(pid), number)

    def _attempt(self, volumes: dict[str, Path], changed: Callable[[], None]) -> Json:
        """One start to one end; gives the terminated state."""
        began = now()
        try:
            self._launched = launch = self._launch(volumes)
            argv, environment, directory = self.sandbox.command(launch)
        except LookupError as error:
            return self._ended(CANNOT_START, "StartError", began, str(error))
        limit = MemoryLimit.of(self.spec, f"{self.pod['metadata']['uid']}-{self.name}")
        log = self.log_file()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    limit.wrap(argv),
                    env=environment,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            except OSError as error:
                limit.close()
                return self._ended(CANNOT_START, "StartError", began, str(error))
        self.process = process
        self.status.update(
            state={"running": {"startedAt": began}},
            ready=not self.init,
            started=True,
            containerID=f"process://{process.pid}",
        )
        changed()
        code = process.wait()
        if not self.sandbox.isolated:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(
                    process.pid, signal.SIGKILL
                )  # what it left behind; an overlay's process namespace does this by itself
        self.process = None
        out_of_memory = limit.close()
        if not launch.entered.exists():
            return self._ended(CANNOT_START, "StartError", began, self._tail(log, FALLBACK_BYTES))
        code = code if code >= 0 else 128 - code
        message = self._tail(launch.message, MESSAGE_BYTES)
        if not message and code != 0 and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError":
            message = self._tail(log, FALLBACK_BYTES)
        reason = "Completed" if code == 0 else "OOMKilled" if out_of_memory else "Error"
        return self._ended(code, reason, began, message)

    def _ended(self, code: int, reason: str, began: str, message: str) -> Json:
        ended: Json = {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": now()}
        if "containerID" in self.status:
            ended["containerID"] = self.status["containerID"]
        return {**ended, "message": message} if message else ended

    def _launch(self, volumes: dict[str, Path]) -> Launch:
        environment = build_environment(self.settings, self.objects, self.pod, self.spec)
        command = self.spec.get("command") or self.settings.entrypoint(self.status["image"])
        argv = [expand(word, environment) for word in (*command, *self.spec.get("args", []))]
        mounts = []
        for mount in self.spec.get("volumeMounts", []):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            if mount.get("subPath") and not source.exists():
                source.mkdir(parents=True)
            mounts.append(Mount(source, mount["mountPath"], mount.get("readOnly", False), mount["name"]))
        folder = self.folder / "containers" / f"{self.name}.{self.status['restartCount']}"
        folder.mkdir(parents=True, exist_ok=True)
        return Launch(
            folder, argv, environment, mounts, self.spec.get("workingDir", "/"),
            self.spec.get("terminationMessagePath", "/dev/termination-log"), self.pod["metadata"]["name"],
        )  # fmt: skip

    @staticmethod
    def _tail(path: Path, count: int) -> str:
        """The last `count` bytes, as the kubelet reads a message that is too long."""
        try:
            return path.read_bytes()[-count:].decode(errors="replace")
        except OSError:
            return ""
