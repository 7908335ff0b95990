"""The recommended strategy as manifests that can be applied: pure, from a plan and its answer to documents.

What trains weights becomes a Job, and a Kubeflow ``TrainJob``, that run ``orrery train`` in the probe's image, placed and
restricted as the plan's probes are, and write to a volume. What only prompts becomes a ConfigMap with the prompt; the Job
beside it writes the demonstrations, which the operator never reads.

TrainJob: trainer.kubeflow.org/v1alpha1 as of Kubeflow Trainer 2.2 (``runtimePatches``), on the runtime ``torch-distributed``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orrery.api.base import GROUP
from orrery.api.plan import AdaptationPlan
from orrery.api.probe import AdaptationProbe, Fidelity, Parameter, ProbeSpec, Trial
from orrery.api.status import Choice
from orrery.controller.jobs import JobSettings, build_probe_job
from orrery.strategies import registry

Manifest = dict[str, Any]
PLAN_LABEL = f"{GROUP}/plan"
OUTPUT = "/output"
#: The claim that is written to, unless another is named.
CLAIM = "trained-models"
RUNTIME = "torch-distributed"
#: The container of Kubeflow's runtimes that trains.
_NODE = "node"
#: What fits in a ConfigMap beside its metadata.
_LIMIT = 900_000


@dataclass(frozen=True)
class Target:
    """Where the training is to run and to write."""

    jobs: JobSettings
    claim: str = CLAIM
    runtime: str = RUNTIME


def training_spec(plan: AdaptationPlan, choice: Choice) -> ProbeSpec:
    """What ``orrery train`` is asked: the choice's configuration on its whole share of the data.

    Raises ``ValueError`` when the plan has changed since and no longer knows the choice.
    """
    models = {m.name: m for m in plan.spec.models}
    types = {s.name: s.type for s in plan.spec.strategies}
    accelerators = {a.name for a in plan.spec.accelerators}
    if choice.model not in models or choice.strategy not in types or choice.accelerator not in accelerators:
        raise ValueError(
            f"the plan has no {choice.model} with {choice.strategy} on {choice.accelerator} any more: run it again first"
        )
    trial = Trial(
        name="full",
        strategy=types[choice.strategy],
        parameters=[Parameter(name=c.name, value=c.value) for c in choice.configuration],
        fidelity=Fidelity(evaluation_items=plan.spec.probing.evaluation_items),
        seed=plan.spec.probing.seed,
    )
    return ProbeSpec(
        model=models[choice.model],
        task=plan.spec.task,
        trials=[trial],
        accelerator=choice.accelerator,
        deadline_seconds=plan.spec.probing.deadline_seconds,
    )


def render(plan: AdaptationPlan, choice: Choice, target: Target) -> dict[str, Manifest]:
    """Every manifest of the choice, by what it is: ``job``, and ``trainjob`` or ``configmap``.

    Raises ``ValueError`` with a sentence for what cannot run in a cluster.
    """
    spec = training_spec(plan, choice)
    job = build_job(plan, spec, target)
    if trains(spec):
        return {"job": job, "trainjob": build_train_job(plan, spec, target)}
    return {"configmap": build_prompt(plan, spec), "job": job}


def trains(spec: ProbeSpec) -> bool:
    """Whether weights are trained; else the prompt is all there is."""
    return registry.get(spec.trials[0].strategy).training is not None


def name_of(plan: AdaptationPlan, choice: ProbeSpec) -> str:
    """A DNS label for the plan's training; another configuration has another name, so that none writes over another.

    Of at most 52 characters, since Kubernetes and JobSet append to it.
    """
    trial = choice.trials[0]
    content = json.dumps([choice.model.to_wire(), trial.to_wire(), plan.metadata.namespace, plan.metadata.name])
    stem = re.sub(r"[^a-z0-9]+", "-", plan.metadata.name.lower()).strip("-")[:40]
    if not stem[:1].isalpha():
        stem = f"plan-{stem}".strip("-")
    return f"{stem[:42].rstrip('-')}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def build_job(plan: AdaptationPlan, spec: ProbeSpec, target: Target) -> Manifest:
    """A ``batch/v1`` Job that trains and writes to ``OUTPUT/NAME`` on the target's claim.

    The plan's own probe Job, with what belongs to measuring taken off: no deadline, no owner, kept until somebody deletes it.
    """
    name = name_of(plan, spec)
    probe = AdaptationProbe.model_validate(
        {"metadata": {"name": name, "namespace": plan.metadata.namespace}, "spec": spec}
    )
    job = copy.deepcopy(build_probe_job(probe, 1, plan.spec, target.jobs))
    labels = _labels(plan)
    pod = job["spec"]["template"]
    pod["metadata"]["labels"] = {**plan.spec.probe_template.labels, **labels}
    queue = {k: v for k, v in job["metadata"]["labels"].items() if k.startswith("kueue.")}
    job["metadata"] = {"name": name, "namespace": plan.metadata.namespace, "labels": {**labels, **queue}}
    for field in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        job["spec"].pop(field, None)
    pod["spec"].pop("activeDeadlineSeconds", None)
    container = pod["spec"]["containers"][0]
    container["name"] = "train"
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if "onExitCodes" in rule:
            rule["onExitCodes"]["containerName"] = "train"
    container["args"] = _arguments(name)
    for field in ("terminationMessagePath", "terminationMessagePolicy"):
        container.pop(field, None)
    container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    container["volumeMounts"].append({"name": "output", "mountPath": OUTPUT})
    pod["spec"]["volumes"].append({"name": "output", "persistentVolumeClaim": {"claimName": target.claim}})
    return job


def build_train_job(plan: AdaptationPlan, spec: ProbeSpec, target: Target) -> Manifest:
    """The same as a Kubeflow Trainer ``TrainJob`` of one node."""
    job = build_job(plan, spec, target)
    pod = job["spec"]["template"]
    container = pod["spec"]["containers"][0]
    patch: Manifest = {
        "volumes": pod["spec"]["volumes"],
        "securityContext": pod["spec"]["securityContext"],
        "containers": [
            {
                "name": _NODE,
                "volumeMounts": container["volumeMounts"],
                "securityContext": container["securityContext"],
            }
        ],
        **{field: pod["spec"][field] for field in ("nodeSelector", "tolerations") if field in pod["spec"]},
    }
    metadata = {k: v for k, v in pod["metadata"].items() if v}
    node = {"name": _NODE, "template": {"spec": {"template": {"metadata": metadata, "spec": patch}}}}
    made: Manifest = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": job["metadata"],
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "ClusterTrainingRuntime",
                "name": target.runtime,
            },
            "trainer": {
                "image": container["image"],
                "command": ["orrery"],
                "args": container["args"],
                "env": container["env"],
                "numNodes": 1,
                "resourcesPerNode": container["resources"],
            },
            "runtimePatches": [
                {
                    "manager": f"{GROUP}/render",
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [node]}}},
                }
            ],
        },
    }
    if job["spec"].get("suspend"):
        made["spec"]["suspend"] = True
    return made


def build_prompt(plan: AdaptationPlan, spec: ProbeSpec, prompt: Mapping[str, Any] | None = None) -> Manifest:
    """A ConfigMap with the prompt: ``prompt.json`` as ``orrery train`` writes it, or without demonstrations when none are given.

    Raises ``ValueError`` when it is too large for a ConfigMap.
    """
    trial = spec.trials[0]
    parameters = {p.name: p.value for p in trial.parameters}
    content = prompt or {
        "template": spec.task.template.to_wire(),
        "shots": int(parameters.get("shots", "0")),
        "retriever": parameters.get("retriever", "none"),
        "calibration": parameters.get("calibration", "none"),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    if len(text.encode()) > _LIMIT:
        raise ValueError(
            f"the prompt and its pool of demonstrations are {len(text.encode()):,} bytes, more than a ConfigMap holds: take "
            "--format job, whose Job writes them to a volume"
        )
    data = {"prompt.json": text, "model.json": json.dumps(spec.model.to_wire(), indent=2, sort_keys=True) + "\n"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name_of(plan, spec), "namespace": plan.metadata.namespace, "labels": _labels(plan)},
        "data": data,
    }


def _labels(plan: AdaptationPlan) -> dict[str, str]:
    # not managed-by: orrery, by which the operator finds what is its own
    return {
        "app.kubernetes.io/name": "orrery-train",
        "app.kubernetes.io/part-of": "orrery",
        PLAN_LABEL: plan.metadata.name[:63].rstrip("-."),
    }


def _arguments(name: str) -> Sequence[str]:
    return ["train", "--output", f"{OUTPUT}/{name}"]
