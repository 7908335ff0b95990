"""The Job of one attempt at a probe: a pure function from what was asked to a manifest.

A probe runs other people's models on other people's data, so its Pod is the most restricted that Kubernetes knows: no token,
no privilege, no writable root, and it says what it measured through its termination message alone.

The name of the Job is the probe's with the attempt's number, so creating it twice is a conflict, not a second bill.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orrery.api.base import API_VERSION, GROUP
from orrery.api.machines import Accelerator
from orrery.api.models import Model
from orrery.api.plan import PlanSpec
from orrery.api.probe import AdaptationProbe
from orrery.api.task import Task

PROBE_LABEL = f"{GROUP}/probe"
ATTEMPT_LABEL = f"{GROUP}/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
CONTAINER = "probe"

#: Seconds a probe has to write what it measured after it is asked to end; the Job's deadline bounds it all the same.
GRACE_SECONDS = 10
#: Job and Pod stay this long for a person to look at; what they measured is in the probe's status long before.
KEEP_SECONDS = 24 * 3600


@dataclass(frozen=True)
class JobSettings:
    """What the operator's own configuration adds to every probe's Job."""

    image: str
    image_pull_policy: str = "IfNotPresent"
    cache_claim_root: str = "/cache"
    default_cpu: str = "1"
    default_memory: str | None = None
    assets_claim: str | None = None  #: claim with the assets of ``builtin:`` sources, mounted read-only


def pod_deadline(deadline_seconds: int) -> int:
    """Seconds after which the kubelet ends the Pod and keeps what it reported; its grace is within the reserved deadline.

    >>> pod_deadline(600), pod_deadline(10)
    (588, 5)
    """
    return max(deadline_seconds - GRACE_SECONDS - 2, (deadline_seconds + 1) // 2)


def job_name(probe: str, attempt: int) -> str:
    """Deterministic and within 63 characters, for any probe name that ``probe_name`` gives.

    >>> job_name("probe-0123456789abcdef", 2)
    'probe-0123456789abcdef-2'
    """
    return f"{probe}-{attempt}"


def build_probe_job(probe: AdaptationProbe, attempt: int, plan: PlanSpec, settings: JobSettings) -> dict[str, Any]:
    """Manifest of a ``batch/v1`` Job that runs one attempt.

    Raises ``ValueError`` with a sentence for what cannot run in a cluster (a ``local`` source), or when the probe's
    accelerator is not the plan's.
    """
    accelerator = _accelerator(probe, plan)
    model, task = probe.spec.model, probe.spec.task
    refuse_local_sources(model, task)
    name = job_name(probe.metadata.name, attempt)
    labels = {
        **plan.probe_template.labels,
        "app.kubernetes.io/name": "orrery-probe",
        "app.kubernetes.io/managed-by": "orrery",
        PROBE_LABEL: probe.metadata.name,
        ATTEMPT_LABEL: str(attempt),
    }
    queue = plan.scheduling.queue_name
    job_labels = dict(labels)
    if queue:
        job_labels[QUEUE_LABEL] = queue
        if plan.scheduling.priority_class_name:
            job_labels[PRIORITY_LABEL] = plan.scheduling.priority_class_name
    deadline = probe.spec.deadline_seconds
    pod: dict[str, Any] = {
        "metadata": {"labels": labels, "annotations": dict(plan.probe_template.annotations)},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            # The Job's deadline bounds all Pods that disruptions make of it, and deletes the Pod with its report; so the Pod's
            # own comes first, by the time the probe has to end in.
            "activeDeadlineSeconds": pod_deadline(deadline),
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(probe, plan, settings, accelerator)],
            "volumes": _volumes(model, task, plan, settings),
            **_placement(plan, accelerator, queue),
        },
    }
    spec: dict[str, Any] = {
        # Every further attempt is another Job, reserved and counted by the plan; a disrupted Pod is replaced, not counted.
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "activeDeadlineSeconds": deadline,
        "ttlSecondsAfterFinished": KEEP_SECONDS,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "NotIn", "values": [0]},
                },
            ]
        },
        "template": pod,
    }
    if queue:
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": probe.metadata.namespace,
            "labels": job_labels,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "AdaptationProbe",
                    "name": probe.metadata.name,
                    "uid": probe.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": spec,
    }


def refuse_local_sources(model: Model, task: Task) -> None:
    """Raise ``ValueError`` with a sentence when a source is a path of somebody's machine."""
    if model.source.local is not None:
        raise ValueError(
            f"spec.models[{model.name}].source.local is '{model.source.local.path}', a path of one machine: in a cluster "
            "write pvc, huggingFace or builtin"
        )
    if task.dataset.source.local is not None:
        raise ValueError(
            f"spec.task.dataset.source.local is '{task.dataset.source.local.path}', a path of one machine: in a cluster "
            "write pvc, configMap, huggingFace or builtin"
        )


def _accelerator(probe: AdaptationProbe, plan: PlanSpec) -> Accelerator:
    for accelerator in plan.accelerators:
        if accelerator.name == probe.spec.accelerator:
            return accelerator
    names = ", ".join(a.name for a in plan.accelerators)
    raise ValueError(f"the probe's accelerator '{probe.spec.accelerator}' is not one of the plan's: {names}")


def _container(
    probe: AdaptationProbe, plan: PlanSpec, settings: JobSettings, accelerator: Accelerator
) -> dict[str, Any]:
    template = plan.probe_template
    requests = {"cpu": template.cpu or settings.default_cpu}
    limits: dict[str, str] = {}
    if memory := template.memory or settings.default_memory:
        requests["memory"] = limits["memory"] = memory
    if accelerator.resource:
        limits[accelerator.resource] = str(accelerator.count)
    return {
        "name": CONTAINER,
        "image": template.image or settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        # the image's entry point is `orrery`, so that a mirrored or rebuilt image may keep it where it likes
        "args": ["probe", "--report", "/dev/termination-log"],
        "env": _environment(probe, plan, settings),
        "resources": {"requests": requests, **({"limits": limits} if limits else {})},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(probe.spec.model, probe.spec.task, plan, settings),
    }


def _environment(probe: AdaptationProbe, plan: PlanSpec, settings: JobSettings) -> list[dict[str, Any]]:
    spec = json.dumps(probe.spec.to_wire(), sort_keys=True, separators=(",", ":"))
    cache = settings.cache_claim_root if plan.model_cache else "/tmp"
    env: list[dict[str, Any]] = [
        # $(NAME) is expanded by the kubelet in values; a template may hold it literally.
        {"name": "ORRERY_PROBE_SPEC", "value": spec.replace("$(", "$$(")},
        {"name": "HOME", "value": "/tmp"},
        {"name": "HF_HOME", "value": f"{cache}/huggingface"},
        {"name": "OMP_NUM_THREADS", "value": "1"},
        {"name": "ORRERY_PVC_ROOT", "value": "/volumes/pvc"},
        {"name": "ORRERY_CONFIGMAP_ROOT", "value": "/volumes/configmap"},
    ]
    if settings.assets_claim:
        env.append({"name": "ORRERY_CACHE", "value": "/assets"})
    if plan.model_cache and plan.model_cache.offline:
        env += [{"name": "HF_HUB_OFFLINE", "value": "1"}, {"name": "HF_DATASETS_OFFLINE", "value": "1"}]
    if ref := plan.hf_token_secret_ref:
        # optional: an air-gapped cluster has no token, and public weights need none
        env.append(
            {
                "name": "HF_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": ref.name, "key": ref.key, "optional": True}},
            }
        )
    return env


def _claims(model: Model, task: Task) -> list[str]:
    return sorted({s.claim_name for s in (model.source.pvc, task.dataset.source.pvc) if s is not None})


def _volumes(model: Model, task: Task, plan: PlanSpec, settings: JobSettings) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    for i, claim in enumerate(_claims(model, task)):
        volumes.append({"name": f"claim-{i}", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if source := task.dataset.source.config_map:
        volumes.append({"name": "data", "configMap": {"name": source.name}})
    if plan.model_cache:
        volumes.append({"name": "model-cache", "persistentVolumeClaim": {"claimName": plan.model_cache.claim_name}})
    if settings.assets_claim:
        volumes.append(
            {"name": "assets", "persistentVolumeClaim": {"claimName": settings.assets_claim, "readOnly": True}}
        )
    return volumes


def _mounts(model: Model, task: Task, plan: PlanSpec, settings: JobSettings) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]
    for i, claim in enumerate(_claims(model, task)):
        mounts.append({"name": f"claim-{i}", "mountPath": f"/volumes/pvc/{claim}", "readOnly": True})
    if source := task.dataset.source.config_map:
        mounts.append({"name": "data", "mountPath": f"/volumes/configmap/{source.name}", "readOnly": True})
    if plan.model_cache:
        mounts.append({"name": "model-cache", "mountPath": settings.cache_claim_root})
    if settings.assets_claim:
        mounts.append({"name": "assets", "mountPath": "/assets", "readOnly": True})
    return mounts


def _placement(plan: PlanSpec, accelerator: Accelerator, queue: str | None) -> dict[str, Any]:
    placement: dict[str, Any] = {}
    if accelerator.node_selector:
        placement["nodeSelector"] = dict(accelerator.node_selector)
    if accelerator.tolerations:
        placement["tolerations"] = [t.model_dump(mode="json", exclude_none=True) for t in accelerator.tolerations]
    if plan.scheduling.runtime_class_name:
        placement["runtimeClassName"] = plan.scheduling.runtime_class_name
    # With a queue the class is Kueue's WorkloadPriorityClass; without one it is the Pod's own.
    if plan.scheduling.priority_class_name and not queue:
        placement["priorityClassName"] = plan.scheduling.priority_class_name
    return placement
