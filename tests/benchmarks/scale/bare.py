"""The bare client: writes what the operator wrote, as often, with as many threads; reads, watches and decides nothing."""

from __future__ import annotations

import copy
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.scale import NAMESPACES, ORRERY, SELECTOR, WORKERS, connect
from tests.cluster.rest import Json, Rest


def write_all(
    kubeconfig: Path, pattern: dict[str, Any], per_plan: dict[tuple[str, str], int], plans: int, pipe: Any
) -> None:
    """The bare client, in a process of its own as the operator is: says that it is there, waits, writes, says what it took."""
    rest = connect(kubeconfig)
    with ThreadPoolExecutor(WORKERS) as pool:
        pipe.send("ready")
        pipe.recv()
        begun = time.process_time()
        written = sum(pool.map(lambda number: sum(1 for _ in _writes(rest, pattern, per_plan, number)), range(plans)))
    pipe.send((written, time.process_time() - begun))


def pattern_of(rest: Rest, namespace: str, name: str) -> dict[str, Any]:
    """The objects of one plan as the operator wrote them: the pattern of all."""

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
