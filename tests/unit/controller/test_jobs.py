"""The Job of a probe: what it may, what it may not, and what the plan passes through."""

import json
import re

import kubernetes_validate
import pytest

from orrery.controller.jobs import JobSettings, build_probe_job, job_name
from tests.unit.controller.factory import plan, probe

pytestmark = pytest.mark.unit

SETTINGS = JobSettings(image="registry.example/orrery/probe:1")


def job(**spec):
    p = plan(**spec)
    return build_probe_job(probe(p), 1, p.spec, SETTINGS)


def pod(manifest):
    return manifest["spec"]["template"]["spec"]


def env(manifest):
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in pod(manifest)["containers"][0]["env"]}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"scheduling": {"queueName": "gpu", "priorityClassName": "low", "runtimeClassName": "nvidia"}},
        {
            "modelCache": {"claimName": "weights", "offline": True},
            "hfTokenSecretRef": {"name": "hub"},
            "probeTemplate": {"cpu": "500m", "memory": "16Gi", "labels": {"team": "a"}, "annotations": {"note": "x"}},
            "models": [{"name": "m", "source": {"pvc": {"claimName": "models", "path": "llama"}}}],
            "accelerators": [
                {
                    "name": "h100",
                    "resource": "nvidia.com/gpu",
                    "count": 8,
                    "nodeSelector": {"gpu": "h100"},
                    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
                }
            ],
        },
    ],
    ids=["plain", "queued", "everything"],
)
def test_the_whole_manifest(spec, snapshot):
    manifest = job(**spec)
    kubernetes_validate.validate(manifest, "1.37", strict=True)
    assert manifest == snapshot


def test_it_holds_what_pod_security_restricted_demands_and_no_token():
    p = pod(job())
    assert p["automountServiceAccountToken"] is False
    assert p["securityContext"]["runAsNonRoot"] and p["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in p["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
    assert {next(iter(v.keys() - {"name"})) for v in p["volumes"]} <= {"emptyDir", "configMap", "persistentVolumeClaim"}


def test_the_deadline_that_was_reserved_is_enforced_twice_and_nothing_retries_unreserved():
    manifest = job()
    assert manifest["spec"]["activeDeadlineSeconds"] == 600
    # the Pod ends first, with its grace, since the Job's deadline deletes the Pod and its report
    ends = pod(manifest)["activeDeadlineSeconds"] + pod(manifest)["terminationGracePeriodSeconds"]
    assert 590 <= ends < 600
    assert manifest["spec"]["backoffLimit"] == 0
    assert pod(manifest)["restartPolicy"] == "Never"


def test_a_disruption_replaces_the_pod_and_any_exit_code_ends_the_job():
    first, second = job()["spec"]["podFailurePolicy"]["rules"]
    assert (first["action"], first["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert second["action"] == "FailJob"


def test_only_a_named_queue_suspends_the_job():
    assert "suspend" not in job()["spec"]
    queued = job(scheduling={"queueName": "gpu", "priorityClassName": "low"})
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "low"
    assert "priorityClassName" not in pod(queued)  # it names Kueue's class there, which need not exist as the Pod's
    assert pod(job(scheduling={"priorityClassName": "low"}))["priorityClassName"] == "low"


def test_weights_and_data_are_mounted_read_only_and_only_the_cache_is_writable():
    manifest = job(
        models=[{"name": "m", "source": {"pvc": {"claimName": "models", "path": "llama"}}}],
        task={"dataset": {"source": {"pvc": {"claimName": "data", "path": "tickets.csv"}}}},
        modelCache={"claimName": "weights"},
    )
    writable = [m["mountPath"] for m in pod(manifest)["containers"][0]["volumeMounts"] if not m.get("readOnly")]
    assert sorted(writable) == ["/cache", "/tmp"]
    assert env(manifest)["HF_HOME"] == "/cache/huggingface"
    assert "HF_HUB_OFFLINE" not in env(manifest)


def test_a_token_is_optional_so_that_offline_clusters_need_none():
    assert "HF_TOKEN" not in env(job())
    ref = env(job(hfTokenSecretRef={"name": "hub"}))["HF_TOKEN"]["secretKeyRef"]
    assert ref == {"name": "hub", "key": "token", "optional": True}


def test_the_spec_survives_the_kubelet_and_only_the_probes_own_spec_is_passed():
    p = plan(task={"dataset": {"source": {"builtin": {"name": "a/b"}}}, "template": {"example": "$(HOME) {input}:"}})
    asked = probe(p)
    value = env(build_probe_job(asked, 1, p.spec, SETTINGS))["ORRERY_PROBE_SPEC"]
    assert not re.search(r"(?<!\$)\$\(", value)
    assert json.loads(value.replace("$$(", "$(")) == asked.spec.to_wire()


def test_names_are_deterministic_and_short_enough_for_the_pods_that_derive_from_them():
    assert job()["metadata"]["name"] == job()["metadata"]["name"]
    assert len(job_name("probe-0123456789abcdef", 99)) <= 63 - len("-abcde")


@pytest.mark.parametrize(
    "spec, field",
    [
        ({"models": [{"name": "m", "source": {"local": {"path": "./w"}}}]}, r"spec.models\[m\].source.local is './w'"),
        ({"task": {"dataset": {"source": {"local": {"path": "d.csv"}}}}}, r"spec.task.dataset.source.local is 'd.csv'"),
    ],
)
def test_a_path_of_one_machine_is_refused_with_the_mend(spec, field):
    with pytest.raises(ValueError, match=field + ".*in a cluster write pvc"):
        job(**spec)
