"""The harness itself: what the other tests take for granted about their cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from tests.cluster import Cluster, ClusterError, ExternalCluster, KubeletOptions, Options
from tests.cluster.crds import install_crds
from tests.cluster.programs import REPOSITORY
from tests.cluster.rest import ApiError
from tests.integration.pods import alive, container, ended, processes_with, run_pod, running, terminated
from tests.waiting import until

pytestmark = pytest.mark.integration

# --- interruptions ----------------------------------------------------------------------------------------------------------------


def test_a_pod_that_ends_while_the_api_server_is_away_is_reported_later(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    run_pod(kubernetes, namespace, "survivor", container("sleep 2; echo -n done > /dev/termination-log"))
    until(lambda: running(kubernetes, namespace, "survivor"))
    before = own_cluster.processes()
    away = own_cluster.restart_apiserver(down_seconds=3)
    assert away > 3
    assert terminated(ended(kubernetes, namespace, "survivor"))["message"] == "done"
    after = own_cluster.processes()
    assert before.pop("kube-apiserver") != after.pop("kube-apiserver")
    assert before == after  # nothing else was restarted, and nothing else died of it


def test_writes_wait_while_etcd_is_paused(own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(kubernetes)
    pausing = threading.Thread(target=own_cluster.pause_etcd, args=(2.0,))
    etcd = Path(f"/proc/{own_cluster.processes()['etcd']}/stat")
    began = time.monotonic()
    pausing.start()
    until(lambda: etcd.read_text().rpartition(")")[2].split()[0] == "T", 10, every=0.01, what="etcd is stopped")
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "held"}})
    assert 1.9 < time.monotonic() - began < 60
    pausing.join()
    assert core.read_namespaced_config_map("held", namespace).metadata.name == "held"


def test_a_lost_node_takes_its_containers_and_its_job_goes_elsewhere(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    batch, core = client.BatchV1Api(kubernetes), client.CoreV1Api(kubernetes)
    lost = own_cluster.kubelet("node-lost", KubeletOptions(labels={"pool": "lost"})).start()
    spec = {"restartPolicy": "Never", "nodeSelector": {"pool": "lost"}, "containers": [container("exec sleep 600.5")]}
    batch.create_namespaced_job(namespace, {"metadata": {"name": "moving"}, "spec": {"template": {"spec": spec}}})
    first = until(lambda: [pod for pod in core.list_namespaced_pod(namespace).items if pod.status.phase == "Running"])[
        0
    ]
    assert until(lambda: processes_with("600.5"))
    lost.kill(forget=True)
    until(lambda: not processes_with("600.5"), 5)
    back = own_cluster.kubelet("node-lost", KubeletOptions(labels={"pool": "lost"})).start()
    try:
        until(
            lambda: [
                pod for pod in core.list_namespaced_pod(namespace).items if pod.metadata.uid != first.metadata.uid
            ],
            seconds=60,
        )
    finally:
        back.kill(forget=True)


def test_a_restarted_node_fails_the_pods_it_lost(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    node = own_cluster.kubelet("node-back", KubeletOptions(labels={"pool": "back"})).start()
    try:
        for name, policy in (("once", "Never"), ("again", "OnFailure")):
            script = "test -e /kept/ran && exit 0; touch /kept/ran; exec sleep 600.375"
            main = container(script, volumeMounts=[{"name": "kept", "mountPath": "/kept", "subPath": name}])
            volumes = [{"name": "kept", "hostPath": {"path": str(own_cluster.volume(namespace, "kept"))}}]
            run_pod(
                kubernetes, namespace, name, main, nodeSelector={"pool": "back"}, restartPolicy=policy, volumes=volumes
            )
        until(lambda: len(processes_with("sleep\x00600.375")) == 2)
        until(lambda: running(kubernetes, namespace, "once") and running(kubernetes, namespace, "again"))
        node.stop()
        until(lambda: not processes_with("600.375"), 5)
        node.start()
        lost = ended(kubernetes, namespace, "once")
        assert (lost["status"]["phase"], terminated(lost)["reason"]) == ("Failed", "ContainerStatusUnknown")
        again = ended(kubernetes, namespace, "again")
        assert (again["status"]["phase"], again["status"]["containerStatuses"][0]["restartCount"]) == ("Succeeded", 1)
    finally:
        node.kill(forget=True)


# --- the harness ------------------------------------------------------------------------------------------------------------------


def test_two_api_servers_side_by_side_leave_nothing(tmp_path: Path, api_server: Cluster | ExternalCluster) -> None:
    if isinstance(api_server, ExternalCluster):
        pytest.skip("KUBECONFIG is set, so the harness starts nothing")
    with Cluster(tmp_path / "second", Options(mode="api")) as second:
        assert second.server_url != api_server.server_url
        pids = second.processes()
        assert set(pids) == {"supervisor", "etcd", "kube-apiserver"}
        assert Cluster.attach(second.root).processes() == pids
        assert second.rest.text("/readyz") == "ok"
    until(lambda: not [name for name, pid in pids.items() if alive(pid)], 5)
    with pytest.raises(ClusterError, match="no cluster runs in"):
        Cluster.attach(second.root)


def test_a_killed_owner_leaves_no_process(tmp_path: Path) -> None:
    if ExternalCluster.from_environment() is not None:
        pytest.skip("KUBECONFIG is set, so the harness starts nothing")
    script = (
        "import sys, time; from tests.cluster import Cluster, Options\n"
        "cluster = Cluster(sys.argv[1], Options(mode='full')).start()\n"
        "cluster.rest.post('/api/v1/namespaces/default/pods', {'metadata': {'name': 'long'}, 'spec': {'containers': ["
        "{'name': 'c', 'image': 'any', 'command': ['sh', '-c', 'sleep 600.75 & exec sleep 600.75']}]}})\n"
        "print(*cluster.processes().values(), flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "owned")], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        assert len(pids) == 6
        until(lambda: len(processes_with("sleep\x00600.75")) >= 2)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    until(lambda: not [pid for pid in pids if alive(pid)] and not processes_with("600.75"), seconds=20)


def test_the_authorizer_refuses_an_account_without_a_role(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    client.CoreV1Api(kubernetes).create_namespaced_service_account(namespace, {"metadata": {"name": "nobody"}})
    kubeconfig = own_cluster.service_account_kubeconfig(namespace, "nobody")
    with config.new_client_from_config(str(kubeconfig)) as limited, pytest.raises(client.ApiException) as refusal:
        client.CoreV1Api(limited).list_namespaced_pod(namespace)
    assert refusal.value.status == 403
    assert f"system:serviceaccount:{namespace}:nobody" in json.loads(refusal.value.body)["message"]


def test_definitions_are_installed_and_replaced(
    tmp_path: Path, api_server: Cluster | ExternalCluster, kubernetes: client.ApiClient
) -> None:
    group = f"g{uuid.uuid4().hex[:8]}.example.com"
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
    }  # fmt: skip
    (tmp_path / "things.yaml").write_text(yaml.safe_dump(definition))
    objects = client.CustomObjectsApi(kubernetes)

    def create(name: str, size: object) -> None:
        body = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": name}, "spec": {"size": size}}
        objects.create_cluster_custom_object(group, "v1", "things", body)

    assert install_crds(kubernetes, tmp_path) == [f"things.{group}"]
    create("one", 1)
    with pytest.raises(client.ApiException, match=r"spec\.size"):
        create("two", "large")
    schema["properties"]["spec"]["properties"]["size"] = {"type": "string"}
    (tmp_path / "things.yaml").write_text(yaml.safe_dump(definition))
    install_crds(kubernetes, tmp_path)
    create("two", "large")
    assert len(objects.list_cluster_custom_object(group, "v1", "things")["items"]) == 2
    client.ApiextensionsV1Api(kubernetes).delete_custom_resource_definition(f"things.{group}")


def test_a_missing_object_is_an_error_with_the_servers_words(api_server: Cluster | ExternalCluster) -> None:
    if isinstance(api_server, ExternalCluster):
        pytest.skip("the small client is the harness's own")
    with pytest.raises(ApiError, match='404 NotFound: namespaces "absent" not found'):
        api_server.rest.get("/api/v1/namespaces/absent")
