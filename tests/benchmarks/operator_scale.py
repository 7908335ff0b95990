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
import multiprocessing
import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from kubernetes import config

from tests.benchmarks import harness
from tests.benchmarks.scale import NAMESPACES, ORRERY, WORKERS
from tests.benchmarks.scale.bare import pattern_of, write_all
from tests.benchmarks.scale.finisher import finish_jobs
from tests.benchmarks.scale.watcher import Watcher
from tests.chaos import plans
from tests.chaos.process import OperatorProcess, processor_seconds
from tests.cluster import Cluster, Options
from tests.cluster.crds import install_crds
from tests.cluster.programs import REPOSITORY
from tests.cluster.rest import Json


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


def _plan(number: int, args: argparse.Namespace, prefix: str = "scale") -> Json:
    """A plan with one zero-shot probe a model, on a task of its own: nothing is shared."""
    name = f"{prefix}-{number}"
    return plans.plan(
        f"{prefix}-{number % NAMESPACES}",
        name,
        name,
        # models of its own, so that no score of another plan is met again and no fit of it remembered
        [f"m{i}-{number}" for i in range(args.probes)],
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
        before = _used(cluster, finisher.pid)
        wall, watcher, calls, latency_of_wake, peak = _with_operator(args, folder, cluster)
        between = _used(cluster, finisher.pid)
        bare_wall, bare_calls, bare_seconds = _with_bare_client(args, cluster, calls)
        after = _used(cluster, finisher.pid)
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
        "server_processor_seconds": between[0] - before[0],
        "bare_server_processor_seconds": after[0] - between[0],
        "rest_processor_seconds": between[1] - before[1],
        "bare_rest_processor_seconds": after[1] - between[1],
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
        begun, last, idle = time.monotonic(), 0.0, operator.processor_seconds()
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
    spent = {"processor_seconds": used, "processor_seconds_per_plan": (used - idle) / args.plans}
    return last - begun, watcher, _calls(text), {**_histogram(text), **spent}, peak


def _with_bare_client(
    args: argparse.Namespace, cluster: Cluster, calls: dict[tuple[str, str], int]
) -> tuple[float, int, float]:
    """Wall time, calls and processor seconds of the same writes by a process that knows beforehand what to write.

    The objects of one plan are the pattern of all.
    """
    pattern = pattern_of(cluster.rest, "scale-0", "scale-0")
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


def _used(cluster: Cluster, finisher: int | None) -> tuple[float, float]:
    """Processor seconds so far: of API server and etcd, and of what plays the rest of the cluster and watches."""
    processes = cluster.processes()
    server = sum(processor_seconds(processes[name]) for name in ("etcd", "kube-apiserver"))
    return server, time.process_time() + (processor_seconds(finisher) if finisher else 0.0)


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


if __name__ == "__main__":
    main()
