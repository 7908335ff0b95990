"""The simulated rest of the cluster: every probe's Job lives for a while, then has a Pod with a report and is complete."""

from __future__ import annotations

import contextlib
import json
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orrery.controller.attempts import finished, timestamp
from tests.benchmarks.scale import BROKEN, SELECTOR, WORKERS, asked, connect
from tests.chaos import probe
from tests.cluster.rest import ApiError, Json, Rest


def finish_jobs(kubeconfig: Path, seconds: float, stop: Any) -> None:
    """Plays the Job controller, the scheduler and the kubelet for every probe's Job. Runs in a process of its own."""
    rest = connect(kubeconfig)
    path = "/apis/batch/v1/jobs" + SELECTOR
    done: set[str] = set()
    alive: queue.SimpleQueue[tuple[float, Json]] = queue.SimpleQueue()  # all live as long: in order of their ends

    def end() -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                due, job = alive.get(timeout=1.0)
                time.sleep(max(0.0, due - time.monotonic()))
                try:
                    _finish(rest, job, seconds)
                except BROKEN:
                    alive.put((time.monotonic() + 1.0, job))

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in range(WORKERS):
            pool.submit(end)

        def see(job: Json) -> None:
            if job["metadata"]["uid"] not in done and not finished(job):
                done.add(job["metadata"]["uid"])
                alive.put((time.monotonic() + seconds, job))

        version = ""
        while not stop.is_set():
            with contextlib.suppress(*BROKEN):
                if not version:
                    listed = rest.get(path, timeout=60)
                    version = listed["metadata"]["resourceVersion"]
                    for item in listed["items"]:
                        see(item)
                for kind, item in rest.watch(path, version, seconds=5):
                    version = item["metadata"]["resourceVersion"]
                    if kind == "ADDED":
                        see(item)
                    if stop.is_set():
                        break


def _finish(rest: Rest, job: Json, seconds: float) -> None:
    meta = job["metadata"]
    namespace, name = meta["namespace"], meta["name"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    said = json.dumps(probe.report(asked(job), name.rpartition("-")[0], seconds))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": meta["uid"], "controller": True}
    now = timestamp(datetime.now(UTC))
    pod = {
        "metadata": {"name": f"{name}-0", "labels": meta["labels"], "ownerReferences": [owner]},
        "spec": {"restartPolicy": "Never", "containers": [{"name": container["name"], "image": container["image"]}]},
    }
    ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": said}
    container_status = {"name": container["name"], "image": "", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Succeeded", "containerStatuses": [{**container_status, "state": {"terminated": ended}}]}
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": now, "lastProbeTime": now}
    pods = f"/api/v1/namespaces/{namespace}/pods"
    with contextlib.suppress(ApiError):  # it is there already, or what follows fails too
        rest.post(pods, pod)
    rest.patch(f"{pods}/{name}-0/status", {"status": status}, "application/merge-patch+json")
    rest.patch(
        f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}/status",
        {"status": {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": [complete]}},
        "application/merge-patch+json",
    )
