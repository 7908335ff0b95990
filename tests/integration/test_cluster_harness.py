"""The harness itself: what the other tests take for granted about their cluster."""

from __future__ import annotations

import json
import os
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
from tests.waiting import until

pytestmark = pytest.mark.integration

ISOLATED = os.geteuid() == 0  # otherwise Pods are plain processes: no mounts of their own, no process 1


def container(script: str, **fields: Any) -> dict[str, Any]:
    return {"name": "main", "image": "any", "command": ["sh", "-c", script], **fields}


def run_pod(kubernetes: client.ApiClient, namespace: str, name: str, *containers: dict[str, Any], **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": list(containers), **spec}}
    client.CoreV1Api(kubernetes).create_namespaced_pod(namespace, body)


def read_pod(kubernetes: client.ApiClient, namespace: str, name: str) -> dict[str, Any] | None:
    try:
        pod = client.CoreV1Api(kubernetes).read_namespaced_pod(name, namespace)
    except client.ApiException as error:
        assert error.status == 404
        return None
    return dict(kubernetes.sanitize_for_serialization(pod))


def ended(kubernetes: client.ApiClient, namespace: str, name: str, seconds: float = 30) -> dict[str, Any]:
    """The Pod once it has Succeeded or Failed."""

    def check() -> dict[str, Any] | None:
        pod = read_pod(kubernetes, namespace, name)
        return pod if pod and pod["status"]["phase"] in ("Succeeded", "Failed") else None

    return dict(until(check, seconds))


def terminated(pod: dict[str, Any]) -> dict[str, Any]:
    return dict(pod["status"]["containerStatuses"][0]["state"]["terminated"])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def processes_with(mark: str) -> list[int]:
    """Processes whose command line holds `mark`, this one apart."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        if mark.encode() in command and int(entry.parent.name) != os.getpid():
            found.append(int(entry.parent.name))
    return found


# --- Pods and Jobs ----------------------------------------------------------------------------------------------------------------


def test_a_job_runs_to_its_end_with_its_termination_message(kubernetes: client.ApiClient, namespace: str) -> None:
    batch, core = client.BatchV1Api(kubernetes), client.CoreV1Api(kubernetes)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "data"}, "data": {"greeting": "hello"}})
    core.create_namespaced_secret(namespace, {"metadata": {"name": "key"}, "stringData": {"token": "s3cret"}})
    main = container(
        'cat /config/greeting; printf "%s %s %s %s" "$(cat /config/greeting)" "$TOKEN" "$NAME" "$(cat /scratch/init)" > /dev/termination-log',
        env=[
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
        ],
        resources={"limits": {"nvidia.com/gpu": "1"}},
        volumeMounts=[{"name": "config", "mountPath": "/config"}, {"name": "scratch", "mountPath": "/scratch"}],
    )
    first = {
        **container("echo -n ready > /scratch/init", volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}]),
        "name": "first",
    }
    spec = {
        "restartPolicy": "Never",
        "initContainers": [first],
        "containers": [main],
        "volumes": [{"name": "config", "configMap": {"name": "data"}}, {"name": "scratch", "emptyDir": {}}],
    }
    batch.create_namespaced_job(
        namespace, {"metadata": {"name": "hello"}, "spec": {"backoffLimit": 0, "template": {"spec": spec}}}
    )
    until(lambda: batch.read_namespaced_job("hello", namespace).status.succeeded == 1)
    pod = core.list_namespaced_pod(namespace, label_selector="job-name=hello").items[0]
    assert pod.status.container_statuses[0].state.terminated.message == "hello s3cret hello ready"
    assert core.read_namespaced_pod_log(pod.metadata.name, namespace, container="main") == "hello"


@pytest.mark.skipif(not ISOLATED, reason="only root can mount the account's token where clients look for it")
def test_a_pod_speaks_to_the_api_server_with_its_own_account(kubernetes: client.ApiClient, namespace: str) -> None:
    script = (
        "from kubernetes import client, config; config.load_incluster_config()\n"
        "try: client.CoreV1Api().list_namespaced_pod('default')\n"
        "except client.ApiException as error: open('/dev/termination-log', 'w').write(str(error.body))"
    )
    main = {"name": "main", "image": "any", "command": [sys.executable, "-c", script]}
    run_pod(kubernetes, namespace, "inside", main)
    assert f"system:serviceaccount:{namespace}:default" in terminated(ended(kubernetes, namespace, "inside"))["message"]
    script = "ls /var/run/secrets/kubernetes.io 2>&1; test ! -e /var/run/secrets/kubernetes.io/serviceaccount/token"
    run_pod(kubernetes, namespace, "without", container(script), automountServiceAccountToken=False)
    assert ended(kubernetes, namespace, "without")["status"]["phase"] == "Succeeded"


def test_a_failed_container_reports_its_exit_code_and_the_end_of_its_log(
    kubernetes: client.ApiClient, namespace: str
) -> None:
    run_pod(
        kubernetes,
        namespace,
        "bad",
        container("echo it broke >&2; exit 7", terminationMessagePolicy="FallbackToLogsOnError"),
    )
    pod = ended(kubernetes, namespace, "bad")
    assert pod["status"]["phase"] == "Failed"
    assert {key: terminated(pod)[key] for key in ("exitCode", "reason", "message")} == {
        "exitCode": 7, "reason": "Error", "message": "it broke\n"
    }  # fmt: skip


def test_a_long_termination_message_is_cut_as_the_kubelet_cuts_it(kubernetes: client.ApiClient, namespace: str) -> None:
    run_pod(
        kubernetes,
        namespace,
        "long",
        container("head -c 5000 /dev/zero | tr '\\0' a > /dev/termination-log; echo -n z >> /dev/termination-log"),
    )
    message = terminated(ended(kubernetes, namespace, "long"))["message"]
    assert len(message) == 4096
    assert message.endswith("az")


def test_an_image_of_the_project_has_an_entry_point(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    options = KubeletOptions(entrypoints={"orrery/probe": "echo probing"}, labels={"pool": "entry"})
    node = own_cluster.kubelet("node-entry", options).start()
    try:
        main = {
            "name": "main",
            "image": "registry.example/orrery/probe:1.2@sha256:0",
            "args": ["$(WHAT)"],
            "env": [{"name": "WHAT", "value": "now"}],
        }
        run_pod(kubernetes, namespace, "probe", main, nodeSelector={"pool": "entry"})
        ended(kubernetes, namespace, "probe")
        assert client.CoreV1Api(kubernetes).read_namespaced_pod_log("probe", namespace) == "probing now\n"
    finally:
        node.kill(forget=True)


def test_without_isolation_paths_are_rewritten(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    node = own_cluster.kubelet("node-plain", KubeletOptions(isolation="none", labels={"pool": "plain"})).start()
    try:
        mounts = [{"name": "scratch", "mountPath": "/scratch"}]
        main = container(
            'cp "$SOURCE" /dev/termination-log; echo -n more >> "$TERMINATION_MESSAGE_PATH"', volumeMounts=mounts
        )
        main["env"] = [{"name": "SOURCE", "value": "/scratch/deep/file"}]
        first = {
            **container("mkdir /scratch/deep; echo -n some > /scratch/deep/file", volumeMounts=mounts),
            "name": "first",
        }
        spec = {
            "nodeSelector": {"pool": "plain"},
            "initContainers": [first],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        }
        run_pod(kubernetes, namespace, "plain", main, **spec)
        assert terminated(ended(kubernetes, namespace, "plain"))["message"] == "somemore"
        run_pod(
            kubernetes, namespace, "killed", container("sleep 600.125 & sleep 600.125"), nodeSelector={"pool": "plain"}
        )
        assert until(lambda: len(processes_with("sleep\x00600.125")) == 2)
        node.kill()
        until(lambda: not processes_with("600.125"), seconds=5)
    finally:
        node.kill(forget=True)
    assert not Path("/scratch").exists()


def test_two_pods_share_a_claim(own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(kubernetes)
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    core.create_namespaced_persistent_volume_claim(namespace, {"metadata": {"name": "cache"}, "spec": spec})
    volumes = [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}]
    write, read = ({"name": "cache", "mountPath": "/cache", "readOnly": read_only} for read_only in (False, True))
    run_pod(
        kubernetes,
        namespace,
        "writer",
        container("echo -n weights > /cache/model", volumeMounts=[write]),
        volumes=volumes,
    )
    assert ended(kubernetes, namespace, "writer")["status"]["phase"] == "Succeeded"
    script = f"touch /cache/no 2>/dev/null && {'exit 9' if ISOLATED else 'true'}; cp /cache/model /dev/termination-log"
    run_pod(kubernetes, namespace, "reader", container(script, volumeMounts=[read]), volumes=volumes)
    assert terminated(ended(kubernetes, namespace, "reader"))["message"] == "weights"
    assert (own_cluster.volume(namespace, "cache") / "model").read_text() == "weights"


def test_a_container_over_its_memory_limit_is_killed(
    own_cluster: Cluster, kubernetes: client.ApiClient, namespace: str
) -> None:
    if (
        not (Path("/sys/fs/cgroup/memory").is_dir() or Path("/sys/fs/cgroup/cgroup.controllers").is_file())
        or os.geteuid() != 0
    ):
        pytest.skip("no control group can be made here, so memory limits are not enforced")
    main = container("exec tail /dev/zero", resources={"limits": {"memory": "32Mi"}})
    run_pod(kubernetes, namespace, "hungry", main)
    end = terminated(ended(kubernetes, namespace, "hungry"))
    assert (end["exitCode"], end["reason"]) == (137, "OOMKilled")


def test_the_deadline_ends_a_pod(kubernetes: client.ApiClient, namespace: str) -> None:
    grace = {"activeDeadlineSeconds": 3, "terminationGracePeriodSeconds": 1}
    run_pod(kubernetes, namespace, "late", container("exec sleep 600.25"), **grace)
    pod = ended(kubernetes, namespace, "late", seconds=20)
    assert pod["status"]["reason"] == "DeadlineExceeded"
    # Process 1 without a handler ignores SIGTERM and is killed after the grace.
    assert terminated(pod)["exitCode"] == (137 if ISOLATED else 143)
    assert not processes_with("600.25")


def test_deletion_asks_waits_and_kills(kubernetes: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(kubernetes)
    polite = container("trap 'echo -n bye > /shared/said; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    path = f"/tmp/harness-{uuid.uuid4().hex}"
    polite["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    volumes = [{"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    run_pod(kubernetes, namespace, "polite", polite, volumes=volumes, terminationGracePeriodSeconds=20)
    until(
        lambda: (
            core.read_namespaced_pod_log("polite", namespace) == "up\n"
            if running(kubernetes, namespace, "polite")
            else False
        )
    )
    began = time.monotonic()
    core.delete_namespaced_pod("polite", namespace)
    until(lambda: read_pod(kubernetes, namespace, "polite") is None)
    assert time.monotonic() - began < 10
    assert (Path(path) / "said").read_text() == "bye"
    (Path(path) / "said").unlink()
    Path(path).rmdir()


def running(kubernetes: client.ApiClient, namespace: str, name: str) -> bool:
    pod = read_pod(kubernetes, namespace, name)
    return pod is not None and pod["status"]["phase"] == "Running"


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
    began = time.monotonic()
    pausing.start()
    time.sleep(0.5)
    core.create_namespaced_config_map(namespace, {"metadata": {"name": "held"}})
    assert 1.5 < time.monotonic() - began < 15
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
    assert not processes_with("600.5")
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
        assert not processes_with("600.375")
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
    assert not [name for name, pid in pids.items() if alive(pid)]
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
