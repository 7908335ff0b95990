"""`python -m tests.cluster.kubelet SETTINGS.json`: one node; the cluster harness starts it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from tests.cluster.kubelet.claims import Provisioner
from tests.cluster.kubelet.informer import follow
from tests.cluster.kubelet.logs import serve_logs
from tests.cluster.kubelet.node import Node
from tests.cluster.kubelet.objects import Objects, now
from tests.cluster.kubelet.pod import Pod
from tests.cluster.kubelet.sandbox import choose_sandbox
from tests.cluster.kubelet.settings import Settings
from tests.cluster.kubelet.writer import StatusWriter
from tests.cluster.rest import ApiError, Json


class Kubelet:
    """Runs the Pods that the scheduler binds to this node."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.objects, self.sandbox = settings, Objects(settings), choose_sandbox(settings)
        self.pods: dict[str, Pod] = {}
        self.writer = StatusWriter(self.objects, self._removed)
        print(now(), f"node {settings.node}: sandbox {type(self.sandbox).__name__}", vars(self.sandbox), flush=True)

    def run(self) -> None:
        """Until the process ends."""
        serve_logs(self.settings, self.find)
        Node(self.settings).start()
        threading.Thread(target=Provisioner(self.settings).run, name="claims", daemon=True).start()
        follow(self.settings.rest(), self.objects.pods_path(self.settings.node), self._handle)

    def find(self, namespace: str, name: str) -> Pod | None:
        """A Pod of this node."""
        return next(
            (pod for pod in list(self.pods.values()) if (pod.namespace, pod.pod_name) == (namespace, name)), None
        )

    def end(self) -> None:
        """Ends every container at once and reports none of it: the next kubelet of this node finds them lost."""
        self.writer.silent = True
        for pod in list(self.pods.values()):
            pod.stopping.set()
            for container in (*pod.init_containers, *pod.containers):
                container.signal(signal.SIGKILL)

    def _handle(self, kind: str, item: Json) -> None:
        metadata = item["metadata"]
        uid, pod = metadata["uid"], self.pods.get(metadata["uid"])
        if kind == "DELETED":
            if pod is not None and not pod.deleting:  # taken away by force: nobody waits for the containers
                self._delete(pod, 1)
        elif metadata.get("deletionTimestamp"):
            if pod is None:
                try:
                    self.objects.remove_pod(metadata["namespace"], metadata["name"], uid)
                except ApiError as error:
                    print(now(), "removal:", error, flush=True)
            elif not pod.deleting:
                self._delete(pod, metadata.get("deletionGracePeriodSeconds", 30))
        elif pod is None and item.get("status", {}).get("phase", "Pending") in ("Pending", "Running"):
            self.pods[uid] = pod = Pod(self.settings, self.objects, self.sandbox, item, self.writer.mark)
            pod.start()

    def _delete(self, pod: Pod, grace: float) -> None:
        pod.deleting = True
        threading.Thread(target=pod.delete, args=(grace,), daemon=True).start()

    def _removed(self, pod: Pod) -> None:
        self.pods.pop(pod.uid, None)
        pod.clean()


def main() -> None:
    """Reads the settings, runs the node; SIGTERM ends the containers first."""
    kubelet = Kubelet(Settings.read(Path(sys.argv[1])))

    def stop(*_: object) -> None:
        kubelet.end()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    kubelet.run()


if __name__ == "__main__":
    main()
