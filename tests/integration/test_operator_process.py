"""The operator as a process: its Lease, its watches, its threads, its rights; each test starts its own."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from tests.cluster import Cluster
from tests.cluster.demo import chart
from tests.integration.operators import Namespace, Operator, chart_account, free_port, kstatus, plan
from tests.waiting import until

pytestmark = pytest.mark.integration


class FreezingProxy:
    """Passes bytes between an operator and the API server until those connections that are open are frozen."""

    def __init__(self, server_url: str) -> None:
        host, _, port = server_url.removeprefix("https://").partition(":")
        self.target, self.port = (host, int(port)), free_port()
        self.frozen: set[socket.socket] = set()
        self.open: set[socket.socket] = set()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> int:
        """Every connection that is open passes nothing more and stays open, as when a middlebox has forgotten it."""
        self.frozen |= self.open
        return len(self.frozen)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        far = socket.create_connection(self.target)
        self.open.add(near)
        with contextlib.suppress(OSError):
            while near not in self.frozen:
                for ready in select.select([near, far], [], [], 0.2)[0]:
                    data = ready.recv(65536)
                    if not data or near in self.frozen:
                        break
                    (far if ready is near else near).sendall(data)
                else:
                    continue
                break
        self.open.discard(near)
        if near not in self.frozen:
            near.close()
            far.close()
        else:
            time.sleep(300)  # holds both

    def kubeconfig(self, cluster: Cluster, folder: Path) -> Path:
        target = folder / "kubeconfig-proxied"
        target.write_text(cluster.kubeconfig.read_text().replace(cluster.server_url, f"https://127.0.0.1:{self.port}"))
        return target


def test_one_namespace_with_the_charts_role_and_nothing_outside_of_it(
    simulating: Cluster, space: Namespace, kubernetes: client.ApiClient, tmp_path: Path
) -> None:
    core = client.CoreV1Api(kubernetes)
    outside = Namespace(kubernetes, f"{space.namespace}-outside")
    core.create_namespace({"metadata": {"name": outside.namespace}})
    space.prices("shared")
    # a namespace of its own for the release: its account is bound to this one namespace's Role, and to no other
    account = chart_account(simulating, watched=space.namespace, release=space.namespace)
    mine = {"ORRERY_NAMESPACE": space.namespace, "ORRERY_OWN_NAMESPACE": space.namespace}
    with Operator(account, tmp_path, **mine) as operator:
        outside.apply(plan(prices="shared"))
        space.apply(plan(prices="shared"))
        assert space.answered(seconds=90)["status"]["phase"] == "Answered"
        assert "status" not in outside.plan()
        assert operator.health()["code"] == 200
        log = operator.log.read_text()
    assert "forbidden" not in log.lower(), log
    # what the same account is refused, said by the real authorizer
    refused = []
    with config.new_client_from_config(str(account)) as limited:
        own, batch, objects = client.CoreV1Api(limited), client.BatchV1Api(limited), client.CustomObjectsApi(limited)
        group = ("orrery.dev", "v1alpha1", space.namespace, "adaptationplans")
        tries: dict[str, Any] = {
            "read a Secret": lambda: own.list_namespaced_secret(space.namespace),
            "make a Pod": lambda: own.create_namespaced_pod(space.namespace, {"metadata": {"name": "x"}}),
            "delete all Jobs": lambda: batch.delete_collection_namespaced_job(space.namespace),
            "edit a Job": lambda: batch.patch_namespaced_job("x", space.namespace, {}),
            "write a plan's spec": lambda: objects.patch_namespaced_custom_object(*group, "plan", {"spec": {}}),
            "list Jobs elsewhere": lambda: batch.list_namespaced_job(outside.namespace),
            "list Jobs everywhere": lambda: batch.list_job_for_all_namespaces(),
            "list nodes": own.list_node,
            "list namespaces": own.list_namespace,
            "mint a token": lambda: own.create_namespaced_service_account_token(
                "orrery", space.namespace, {"spec": {}}
            ),
        }
        for what, attempt in tries.items():
            try:
                attempt()
            except client.ApiException as error:
                if error.status == 403:
                    refused.append(what)
    assert refused == list(tries)
    core.delete_namespace(outside.namespace)


def test_as_the_charts_pod_it_answers_by_its_watches(simulating: Cluster, space: Namespace) -> None:
    kubectl = [simulating.programs.kubectl, "--kubeconfig", str(simulating.kubeconfig)]
    values = {"probe": {"image": {"repository": "orrery/simulated", "tag": "test"}}}

    def run(*arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            [*kubectl, *arguments], input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    space.prices("shared")
    run("apply", "--validate=false", "-f", "-", text=chart(values))
    try:
        run("-n", "orrery-system", "wait", "--for=condition=Available", "deployment/orrery", "--timeout=100s")
        space.apply(plan(prices="shared"))
        found = space.answered(seconds=110, patience=1)  # sooner than its first comparison with a list
        assert found["status"]["phase"] == "Answered"
    finally:
        print(run("-n", "orrery-system", "logs", "deployment/orrery", "--tail=50"))
        run("-n", "orrery-system", "delete", "deployment", "orrery", "--wait=true")
        until(lambda: not Namespace(space.kubernetes, "orrery-system").pods(), 60)


def test_of_two_operators_one_writes_and_the_other_takes_over(
    simulating: Cluster, space: Namespace, tmp_path: Path
) -> None:
    space.prices("shared")
    account = chart_account(simulating)
    mine = {"ORRERY_OWN_NAMESPACE": "orrery-system"}
    with Operator(account, tmp_path, **mine) as first:
        second = Operator(account, tmp_path, **mine).start(wait=False)
        try:
            until(lambda: second.health(), 90)
            space.apply(plan("before", prices="shared"))
            space.answered("before", 90)
            assert _written(second) == [] and second.metrics()["orrery_lease_held"] == 0
            assert second.health()["code"] == 200, "waiting is no illness"
            probing = {"deadlineSeconds": 120, "parallelism": 1}
            other = {"dataset": {"source": {"huggingFace": {"repo": "sim/data", "revision": "other"}}}}
            known = len(space.jobs())
            space.apply(plan(prices="shared", models=("sleep-3", "ok"), probing=probing, task=other))
            until(lambda: len(space.jobs()) > known, 30)
            assert (first.health()["leading"], second.health()["leading"]) == (True, False)
            assert _written(second) == []
            first.kill()
            until(lambda: second.health().get("leading"), 30)
            found = space.answered(seconds=90)
            attempts = [a["jobName"] for p in space.probes() for a in p["status"]["attempts"]]
            assert sorted(attempts) == sorted(j["metadata"]["name"] for j in space.jobs())
            assert found["status"]["spend"]["reserved"] == "0"
        finally:
            second.stop()
    # before it led, the second wrote nothing but tries for the Lease
    taken = next(line for line in second.log.read_text().splitlines() if "the Lease is held" in line)
    assert re.search(r"(\d+) plans are known", taken)


def _written(operator: Operator) -> list[str]:
    """What it has asked the server for that was not to read, by its own metrics; the Lease aside."""
    asked = [name for name in operator.metrics() if name.startswith("orrery_api_requests_total")]
    return [name for name in asked if not any(word in name for word in ('verb="GET"', 'verb="WATCH"', "leases"))]


def test_liveness_fails_when_the_watches_are_dead_and_plans_go_on_all_the_same(
    simulating: Cluster, space: Namespace, tmp_path: Path
) -> None:
    space.prices("shared")
    proxy = FreezingProxy(simulating.server_url)
    mine = {"ORRERY_OWN_NAMESPACE": "orrery-system", "ORRERY_LEASE_SECONDS": "12"}
    with Operator(proxy.kubeconfig(simulating, tmp_path), tmp_path, **mine) as operator:
        space.apply(plan("before", prices="shared"))
        space.answered("before", 90)
        assert operator.health()["code"] == 200
        assert proxy.freeze() >= 5
        frozen = time.monotonic()
        space.apply(plan("after", prices="shared", models=("ok", "ok")))
        space.answered("after", 120)  # by its lists
        until(lambda: _sick(operator), 90)
        assert time.monotonic() - frozen > 20
        assert operator.process is not None and operator.process.poll() is None
        assert sum(v for k, v in operator.metrics().items() if k.startswith("orrery_watch_missed_changes_total")) > 0


def _sick(operator: Operator) -> bool:
    """Whether it says which watch is dead: the first whose debt is due, or the only ones that the proxy held at that moment."""
    found = operator.health()
    return found.get("code") == 503 and any(p.startswith("the watch of ") for p in found["problems"])


@pytest.fixture
def crowd(space: Namespace) -> Iterator[Namespace]:
    """A thousand objects: 950 probes that nobody owns, 50 plans that sleep."""
    space.prices("shared")
    spec = {
        "model": plan()["spec"]["models"][0],
        "task": plan()["spec"]["task"],
        "trials": [{"name": "t", "strategy": "ZeroShot", "fidelity": {"evaluationItems": 10}}],
        "accelerator": "cpu",
        "deadlineSeconds": 100,
    }

    def make(i: int) -> None:
        if i < 50:
            space.apply(plan(f"plan-{i}", prices="shared", suspend=True))
            return
        body = {
            "apiVersion": "orrery.dev/v1alpha1",
            "kind": "AdaptationProbe",
            "metadata": {"name": f"p{i}"},
            "spec": spec,
        }
        space.custom.create_namespaced_custom_object(
            "orrery.dev", "v1alpha1", space.namespace, "adaptationprobes", body
        )

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(make, range(1000)))
    yield space


def test_a_thousand_objects_at_the_start_are_not_a_thousand_threads(
    simulating: Cluster, crowd: Namespace, tmp_path: Path
) -> None:
    operator = Operator(chart_account(simulating), tmp_path, ORRERY_OWN_NAMESPACE="orrery-system").start(wait=False)
    try:
        most = [0]

        def all_told() -> bool:
            assert operator.process is not None
            tasks = Path(f"/proc/{operator.process.pid}/task")
            most[0] = max(most[0], len(list(tasks.iterdir())))
            listed = crowd.custom.list_namespaced_custom_object(
                "orrery.dev", "v1alpha1", crowd.namespace, "adaptationplans"
            )["items"]
            return all(kstatus(p) == "Current" and "status" in p for p in listed)

        until(all_told, 120, every=0.2)
        assert most[0] < 60, f"{most[0]} threads"
        assert operator.health()["code"] == 200
        assert crowd.jobs() == []
    finally:
        operator.stop()
