"""Pods and Jobs of the tests' cluster: what the other tests take for granted about its nodes."""

from __future__ import annotations

import os
import sys
import time
import uuid
from pathlib import Path

import pytest
from kubernetes import client

from tests.cluster import Cluster, KubeletOptions
from tests.integration.pods import ISOLATED, container, ended, processes_with, read_pod, run_pod, running, terminated
from tests.waiting import until

pytestmark = pytest.mark.integration


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
    until(lambda: not processes_with("600.25"), 5)


def test_deletion_asks_waits_and_kills(kubernetes: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(kubernetes)
    polite = container("trap 'echo -n bye > /shared/said; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    path = f"/tmp/harness-{uuid.uuid4().hex}"
    polite["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]
    volumes = [{"name": "shared", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    run_pod(kubernetes, namespace, "polite", polite, volumes=volumes, terminationGracePeriodSeconds=120)
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
    assert time.monotonic() - began < 60, "it waited for the whole grace"
    assert (Path(path) / "said").read_text() == "bye"
    (Path(path) / "said").unlink()
    Path(path).rmdir()
