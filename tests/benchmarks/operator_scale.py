"""Many plans at once on a real API server: the operator beside a bare client that writes the same objects.

    python -m tests.benchmarks.operator_scale --plans 1000 --probes 20 --json OUT

The API server and etcd are real, and so is the operator (`orrery operator`, a process of its own). What is simulated is the rest of the
cluster: a finisher process watches Jobs, gives each a Pod whose container has ended with a report, and completes the Job. Plans come in a
closed loop: --active of them are unanswered at any time, as many as the bare client has threads.

Measured from outside, by watches of this process's own:
  ratio_to_bare_client  wall time from the first plan to the last answer, over that of the bare client. It creates the same plans, probes,
                        Jobs, Events and ConfigMaps with bodies of the same size, and writes their statuses as often as the operator did,
                        with as many threads as the operator has workers; the same finisher completes its Jobs. It watches nothing, reads
                        nothing and decides nothing.
  p50_seconds, p99_seconds  from the watch event that shows a Job complete to the watch event of the plan's status that counts its probe
  calls_per_plan        requests of the operator (Lease and periodic lists left out) over plans
  peak_mib              most resident memory of the operator's process (VmHWM)
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import http.client
import json
import multiprocessing
import queue
import re
import tempfile
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from kubernetes import config

from orrery.controller.attempts import finished, timestamp
from tests.benchmarks import harness
from tests.chaos import plans, probe
from tests.chaos.process import OperatorProcess, processor_seconds
from tests.chaos.run import answered
from tests.cluster import Cluster, Options
from tests.cluster.crds import install_crds
from tests.cluster.programs import REPOSITORY
from tests.cluster.rest import ApiError, Json, Rest

ORRERY = "/apis/orrery.dev/v1alpha1"
SELECTOR = "?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dorrery"
NAMESPACES = 10
WORKERS = 8
BROKEN = (OSError, http.client.HTTPException, ApiError)


def main() -> None:
    """The command."""
    args = harness.arguments(__doc__, data=None, extra=_options)
    harness.run("operator_scale", args, lambda: _measure(args))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plans", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=20, help="of each plan, one model each (default 20)")
    parser.add_argument("--parallelism", type=int, default=0, help="of each plan (default: all its probes)")
    parser.add_argument("--active", type=int, default=WORKERS, help=f"unanswered plans at a time (default {WORKERS})")
    parser.add_argument("--job-seconds", type=float, default=1.0, help="a Job's life (default 1)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave logs there")
    parser.add_argument("--wrapper", default="", help="words before the operator's command, such as a profiler's")


# ---- the simulated rest of the cluster


def finish_jobs(kubeconfig: Path, seconds: float, stop: Any) -> None:
    """Plays the Job controller, the scheduler and the kubelet for every probe's Job. Runs in a process of its own."""
    rest = _rest(kubeconfig)
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
    env = {e["name"]: e.get("value", "") for e in container["env"]}
    spec = json.loads(env["ORRERY_PROBE_SPEC"].replace("$$(", "$("))
    said = json.dumps(probe.report(spec, name.rpartition("-")[0], seconds))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": meta["uid"], "controller": True}
    now = _now()
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


# ---- watching from outside


@dataclass
class Watcher:
    """When Jobs were complete and when plans' statuses said so, by two watches; and which plans are answered."""

    rest: Rest
    jobs_done: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  #: by plan
    told: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  #: by plan, k-th probe counted
    answered: dict[str, float] = field(default_factory=dict)
    updates: Counter[str] = field(default_factory=Counter)
    complete: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    _probe_of: dict[str, str] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> Watcher:
        """Watch, in threads."""
        for path, handle in ((f"{ORRERY}/adaptationplans", self._plan), (f"/apis/batch/v1/jobs{SELECTOR}", self._job)):
            version = self.rest.get(path)["metadata"]["resourceVersion"]
            threading.Thread(target=self._follow, args=(path, version, handle), daemon=True).start()
        return self

    def stop(self) -> None:
        """No more."""
        self._stop.set()

    def _follow(self, path: str, version: str, handle: Any) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(*BROKEN):
                for kind, item in self.rest.watch(path, version, seconds=30):
                    version = item["metadata"]["resourceVersion"]
                    if kind in ("ADDED", "MODIFIED"):
                        handle(item, time.monotonic())
                    if self._stop.is_set():
                        return

    def _job(self, job: Json, at: float) -> None:
        uid = job["metadata"]["uid"]
        if uid in self._seen or not finished(job):
            return
        self._seen.add(uid)
        plan = json.loads(_environment(job)["ORRERY_PROBE_SPEC"])["task"]["dataset"]["source"]["builtin"]["name"]
        with self.changed:
            self.jobs_done[plan].append(at)
            self.complete += 1
            self.changed.notify_all()

    def _plan(self, plan: Json, at: float) -> None:
        name = plan["metadata"]["name"]
        progress = (plan.get("status") or {}).get("progress") or {}
        counted = progress.get("succeeded", 0) + progress.get("failed", 0)
        with self.changed:
            self.updates[name] += 1
            self.told[name] += [at] * (counted - len(self.told[name]))
            if name not in self.answered and answered(plan):
                self.answered[name] = at
                self.changed.notify_all()

    def latencies(self) -> list[float]:
        """Seconds from the k-th complete Job of a plan to the status that counts k ended probes, over all plans."""
        return [
            max(0.0, told - done)
            for plan, dones in self.jobs_done.items()
            for done, told in zip(sorted(dones), self.told[plan], strict=False)
        ]


# ---- the two runs


def _plan(number: int, args: argparse.Namespace, prefix: str = "scale") -> Json:
    """A plan with one zero-shot probe a model, on a task of its own: nothing is shared."""
    name = f"{prefix}-{number}"
    return plans.plan(
        f"{prefix}-{number % NAMESPACES}",
        name,
        name,
        [f"m{i}" for i in range(args.probes)],
        budget={"maxProbeCost": "1000000"},
        probing={
            "parallelism": args.parallelism or args.probes,
            "maxProbes": args.probes,
            "evaluationItems": 200,
            "deadlineSeconds": 600,
        },
    )


def _measure(args: argparse.Namespace) -> harness.Outcome:
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        with Cluster(folder / "cluster", Options(mode="api")) as cluster:
            return _runs(args, folder, cluster)


def _runs(args: argparse.Namespace, folder: Path, cluster: Cluster) -> harness.Outcome:
    rest = cluster.rest
    with config.new_client_from_config(str(cluster.kubeconfig)) as api_client:
        install_crds(api_client, REPOSITORY / "crds")
    for prefix in ("scale", "bare"):
        for number in range(NAMESPACES):
            rest.post("/api/v1/namespaces", {"metadata": {"name": f"{prefix}-{number}"}})
    rest.post(f"{ORRERY}/pricelists", plans.price_list())
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    finisher = context.Process(
        target=finish_jobs, args=(cluster.kubeconfig, args.job_seconds, stop), name="finisher", daemon=True
    )
    finisher.start()
    try:
        before = _server_seconds(cluster)
        wall, watcher, calls, latency_of_wake, peak = _with_operator(args, folder, cluster)
        between = _server_seconds(cluster)
        bare_wall, bare_calls, bare_seconds = _with_bare_client(args, cluster, calls)
        after = _server_seconds(cluster)
    finally:
        stop.set()
        finisher.join(10)
        finisher.kill()
    latencies = np.array(watcher.latencies())
    rows = [{"verb": verb, "resource": resource, "per plan": n / args.plans} for (verb, resource), n in calls.items()]
    summary = {
        "ratio_to_bare_client": wall / bare_wall,
        "p50_seconds": float(np.quantile(latencies, 0.5)),
        "p99_seconds": float(np.quantile(latencies, 0.99)),
        "calls_per_plan": sum(calls.values()) / args.plans,
        "peak_mib": peak,
        "wall_seconds": wall,
        "bare_wall_seconds": bare_wall,
        "bare_calls_per_plan": bare_calls / args.plans,
        "plans": args.plans,
        "probes": len(latencies),
        "status_updates_per_plan": sum(watcher.updates.values()) / args.plans,
        **latency_of_wake,
        "bare_processor_seconds": bare_seconds,
        "server_processor_seconds": between - before,
        "bare_server_processor_seconds": after - between,
    }
    return harness.Outcome(rows, summary, [("the operator's requests", rows)])


def _with_operator(
    args: argparse.Namespace, folder: Path, cluster: Cluster
) -> tuple[float, Watcher, dict[tuple[str, str], int], dict[str, float], float]:
    environment = {"ORRERY_OWN_NAMESPACE": "default", "ORRERY_WORKERS": str(WORKERS)}
    operator = OperatorProcess(folder / "operator", cluster.kubeconfig, environment, tuple(args.wrapper.split()))
    operator.start()
    watcher = Watcher(cluster.rest).start()
    try:
        _until(lambda: "orrery_lease_held 1.0" in operator.metrics(), "the operator holds its Lease", 180)
        begun, last = time.monotonic(), 0.0
        for number in range(args.plans):
            with watcher.changed:
                while number - len(watcher.answered) >= args.active:
                    watcher.changed.wait(1.0)
                    _say(f"{len(watcher.answered)} of {args.plans} plans are answered", begun)
            plan = _plan(number, args)
            cluster.rest.post(f"{ORRERY}/namespaces/{plan['metadata']['namespace']}/adaptationplans", plan)
        with watcher.changed:
            while len(watcher.answered) < args.plans:
                if not watcher.changed.wait(120):
                    raise TimeoutError(f"nothing was answered for 120 s; the operator's log ends:\n{operator.log(20)}")
        last = max(watcher.answered.values())
        text = operator.metrics()
        while (later := _after(operator, 1.0)) and _calls(later) != _calls(text):
            text, last = later, time.monotonic() - 1.0  # Events, which nothing waits for, are work all the same
        peak, used = operator.peak_mebibytes(), operator.processor_seconds()
    finally:
        watcher.stop()
        operator.stop()
    return last - begun, watcher, _calls(text), {**_histogram(text), "processor_seconds": used}, peak


def _with_bare_client(
    args: argparse.Namespace, cluster: Cluster, calls: dict[tuple[str, str], int]
) -> tuple[float, int, float]:
    """Wall time, calls and processor seconds of the same writes by a process that knows beforehand what to write.

    The objects of one plan are the pattern of all.
    """
    pattern = _pattern(cluster.rest, "scale-0", "scale-0")
    per_plan = {key: round(n / args.plans) for key, n in calls.items() if key[0] != "GET"}
    watcher = Watcher(cluster.rest).start()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    client = context.Process(
        target=write_all, args=(cluster.kubeconfig, pattern, per_plan, args.plans, there), name="bare", daemon=True
    )
    client.start()
    here.recv()  # it has started
    begun = time.monotonic()
    here.send("go")
    written, used = here.recv()
    client.join(10)
    total = args.plans * args.probes
    while watcher.complete < total:
        seen = watcher.complete
        with watcher.changed:
            watcher.changed.wait(120)
        if watcher.complete == seen:
            raise TimeoutError(f"{seen} of {total} Jobs of the bare client are complete, and no other was for 120 s")
    wall = time.monotonic() - begun
    watcher.stop()
    return wall, written, used


def write_all(
    kubeconfig: Path, pattern: dict[str, Any], per_plan: dict[tuple[str, str], int], plans: int, pipe: Any
) -> None:
    """The bare client, in a process of its own as the operator is: says that it is there, waits, writes, says what it took."""
    rest = _rest(kubeconfig)
    with ThreadPoolExecutor(WORKERS) as pool:
        pipe.send("ready")
        pipe.recv()
        begun = time.process_time()
        written = sum(pool.map(lambda number: sum(1 for _ in _writes(rest, pattern, per_plan, number)), range(plans)))
    pipe.send((written, time.process_time() - begun))


def _server_seconds(cluster: Cluster) -> float:
    """Processor seconds that the API server and etcd have used."""
    processes = cluster.processes()
    return sum(processor_seconds(processes[name]) for name in ("etcd", "kube-apiserver"))


def _pattern(rest: Rest, namespace: str, name: str) -> dict[str, Any]:
    def of_plan(item: Json) -> bool:
        return any(o["name"] == name for o in item["metadata"].get("ownerReferences") or [])

    probes = [p for p in rest.get(f"{ORRERY}/namespaces/{namespace}/adaptationprobes", 60)["items"] if of_plan(p)]
    names = {p["metadata"]["name"] for p in probes}
    jobs = {
        j["metadata"]["ownerReferences"][0]["name"]: j
        for j in rest.get(f"/apis/batch/v1/namespaces/{namespace}/jobs{SELECTOR}", 60)["items"]
    }
    events = [
        e
        for e in rest.get(f"/api/v1/namespaces/{namespace}/events", 60)["items"]
        if e["involvedObject"]["name"] == name
    ]
    return {
        "plan": rest.get(f"{ORRERY}/namespaces/{namespace}/adaptationplans/{name}"),
        "probes": probes,
        "jobs": {p: jobs[p] for p in names},
        "events": events,
        "results": rest.get(f"/api/v1/namespaces/{namespace}/configmaps/{name}-results"),
    }


def _writes(rest: Rest, pattern: dict[str, Any], per_plan: dict[tuple[str, str], int], number: int) -> Any:
    """Every write of one plan, as often as the operator's average says; yields after each."""
    namespace, name = f"bare-{number % NAMESPACES}", f"bare-{number}"
    ours, core = f"{ORRERY}/namespaces/{namespace}", f"/api/v1/namespaces/{namespace}"
    plan = rest.post(f"{ours}/adaptationplans", _renamed(pattern["plan"], namespace, name))
    statuses = per_plan.get(("PUT", "adaptationplans"), 0)
    configs = per_plan.get(("PUT", "configmaps"), 0)
    events = per_plan.get(("POST", "events"), 0)
    probe_statuses = per_plan.get(("PUT", "adaptationprobes"), 0)
    plan["status"] = pattern["plan"]["status"]
    count = len(pattern["probes"])
    results = rest.post(f"{core}/configmaps", _renamed(pattern["results"], namespace, f"{name}-results"))
    yield
    for i, like in enumerate(pattern["probes"]):
        old = like["metadata"]["name"]
        own = f"{old}-{number}"
        made = rest.post(f"{ours}/adaptationprobes", _renamed(like, namespace, own))
        yield
        rest.post(f"/apis/batch/v1/namespaces/{namespace}/jobs", _renamed_job(pattern["jobs"][old], namespace, own))
        yield
        for k in range(_share(probe_statuses, count, i)):
            # no two writes alike: the server leaves out a write that changes nothing
            made = rest.request("PUT", f"{ours}/adaptationprobes/{own}/status", {**made, "status": _nth(like, k)})
            yield
        for k in range(_share(events, count, i)):
            rest.post(
                f"{core}/events", _renamed(pattern["events"][k % len(pattern["events"])], namespace, f"{own}.{k}")
            )
            yield
        for k in range(_share(statuses, count, i)):
            plan["status"] = {**plan["status"], "resultsRef": f"{name}-{i}-{k}"}
            plan = rest.request("PUT", f"{ours}/adaptationplans/{name}/status", plan)
            yield
        for k in range(_share(configs, count, i)):
            results["data"] = {**results["data"], "write": f"{i}-{k}"}
            results = rest.request("PUT", f"{core}/configmaps/{name}-results", results)
            yield


def _share(total: int, parts: int, i: int) -> int:
    """The i-th of ``parts`` nearly equal whole shares of ``total``."""
    return total * (i + 1) // parts - total * i // parts


def _nth(like: Json, k: int) -> Json:
    return {**like["status"], "message": f"write {k}"}


def _renamed(like: Json, namespace: str, name: str) -> Json:
    body = copy.copy(like)
    kept = {k: v for k, v in like["metadata"].items() if k in ("labels", "annotations", "ownerReferences")}
    body["metadata"] = {**kept, "name": name, "namespace": namespace}
    body.pop("status", None)
    if "involvedObject" in body:
        body["involvedObject"] = {**body["involvedObject"], "namespace": namespace}
    return body


def _renamed_job(like: Json, namespace: str, probe_name: str) -> Json:
    body = _renamed(like, namespace, f"{probe_name}-1")
    spec = copy.deepcopy(like["spec"])
    spec.pop("selector", None)
    for meta in (body["metadata"], spec["template"]["metadata"]):
        # what the server adds itself
        meta["labels"] = {k: v for k, v in meta["labels"].items() if k not in ("controller-uid", "job-name")}
    return {**body, "spec": spec}


# ---- what the operator says of itself


def _calls(text: str) -> dict[tuple[str, str], int]:
    """Requests by verb and resource; the Lease and lists of everything are not a plan's."""
    found: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if line.startswith("orrery_api_requests_total{"):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
            if labels["resource"] != "leases":
                found[labels["verb"], labels["resource"]] += int(float(line.rsplit(" ", 1)[1]))
    return dict(sorted(found.items()))


def _histogram(text: str) -> dict[str, float]:
    """p50 and p99 of its own orrery_wake_to_status_seconds and mean seconds of a reconcile, by interpolation in the buckets."""
    buckets = [
        (float(bound), float(count))
        for bound, count in re.findall(r'orrery_wake_to_status_seconds_bucket\{le="([^"]+)"\} (\S+)', text)
    ]
    found: dict[str, float] = {}
    total = buckets[-1][1] if buckets else 0.0
    for share, name in ((0.5, "own_p50_seconds"), (0.99, "own_p99_seconds")):
        below = 0.0, 0.0
        for bound, count in buckets:
            if count >= share * total > 0:
                found[name] = below[0] + (bound - below[0]) * (share * total - below[1]) / max(count - below[1], 1.0)
                break
            below = bound, count
    for key, name in (("count", "reconciles"), ("sum", "reconcile_seconds")):
        match = re.search(rf"orrery_reconcile_seconds_{key} (\S+)", text)
        found[name] = float(match.group(1)) if match else 0.0
    return found


# ---- small things


def _after(operator: OperatorProcess, seconds: float) -> str:
    time.sleep(seconds)
    return operator.metrics()


def _until(ready: Any, what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


_said = [0.0]


def _say(line: str, begun: float) -> None:
    now = time.monotonic()
    if now - _said[0] > 20:
        _said[0] = now
        print(f"{now - begun:7.1f} s  {line}", flush=True)


def _environment(job: Json) -> dict[str, str]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e.get("value", "") for e in container["env"]}


def _now() -> str:
    from datetime import UTC, datetime

    return timestamp(datetime.now(UTC))


def _rest(kubeconfig: Path) -> Rest:
    pki = kubeconfig.parent / "pki"
    match = re.search(r"server: ['\"]?(https://[^'\"\s]+)", kubeconfig.read_text())
    if match is None:
        raise ValueError(f"{kubeconfig} names no server")
    return Rest(match.group(1), pki / "ca.crt", pki / "admin.crt", pki / "admin.key")


if __name__ == "__main__":
    main()
