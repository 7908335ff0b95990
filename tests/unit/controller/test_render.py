"""Rendered manifests: what the recommended strategy needs, as restricted as a probe, valid for Kubernetes and Kubeflow."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import ProbeSpec
from orrery.api.status import Choice, ConfigurationValue, CostForecast, QualityForecast
from orrery.controller.jobs import JobSettings
from orrery.controller.render import Target, build_prompt, name_of, render, training_spec
from tests.unit.controller import factory

pytestmark = pytest.mark.unit
TARGET = Target(JobSettings(image="registry.example.com/orrery-probe:1", assets_claim="assets"))
STRATEGIES = [
    {"name": "lora", "type": "LoRA"},
    {"name": "shots", "type": "InContext"},
    {"name": "zero", "type": "ZeroShot"},
]


def plan(**spec: Any) -> AdaptationPlan:
    return factory.plan(
        **{
            "strategies": STRATEGIES,
            "accelerators": [
                {
                    "name": "l4",
                    "resource": "nvidia.com/gpu",
                    "nodeSelector": {"gpu": "l4"},
                    "tolerations": [{"key": "gpu", "operator": "Exists"}],
                }
            ],
            "scheduling": {"queueName": "team", "priorityClassName": "low"},
            "hfTokenSecretRef": {"name": "hub"},
            "probeTemplate": {"memory": "16Gi", "labels": {"team": "a"}, "annotations": {"note": "b"}},
            **spec,
        }
    )


def choice(strategy: str = "lora", **parameters: str) -> Choice:
    quality = QualityForecast.model_validate({"predicted": "0.9", "lower": "0.8", "upper": "0.95"})
    cost = CostForecast.model_validate({"adaptation": 1, "serving": 1, "total": 2, "lower": 1, "upper": 3})
    return Choice(
        model="small",
        strategy=strategy,
        configuration=[ConfigurationValue(name=k, value=v) for k, v in parameters.items()],
        accelerator="l4",
        quality=quality,
        cost=cost,
        measured=True,
    )


def test_a_job_trains_the_very_configuration_in_full_and_keeps_it() -> None:
    asked = plan()
    made = render(asked, choice(rank="8", dataPercent="50"), TARGET)
    assert set(made) == {"job", "trainjob"}
    job = made["job"]
    kubernetes_validate.validate(job, "1.37", strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {e["name"]: e.get("value") for e in container["env"]}
    spec = ProbeSpec.model_validate(json.loads(env["ORRERY_PROBE_SPEC"] or ""))
    (trial,) = spec.trials
    assert trial.strategy == "LoRA" and trial.fidelity.training_examples == 0
    assert {p.name: p.value for p in trial.parameters} == {"rank": "8", "dataPercent": "50"}
    assert container["args"] == ["train", "--output", f"/output/{job['metadata']['name']}"]
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
    }
    assert claims == {"assets": "assets", "output": "trained-models"}
    # no deadline, no owner, not the operator's to find
    assert not {"activeDeadlineSeconds", "ttlSecondsAfterFinished"} & (set(job["spec"]) | set(pod))
    assert "ownerReferences" not in job["metadata"]
    assert job["metadata"]["labels"].get("app.kubernetes.io/managed-by") != "orrery"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team" and job["spec"]["suspend"] is True
    # as restricted as a probe
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert pod["nodeSelector"] == {"gpu": "l4"} and "HF_TOKEN" in env


def test_a_trainjob_is_what_kubeflow_takes() -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models")
    made = render(plan(), choice(rank="8"), TARGET)
    train, job = made["trainjob"], made["job"]
    parsed = models.TrainerV1alpha1TrainJob.from_dict(train)
    back = parsed.to_dict()

    def covered(wanted: Any, found: Any, path: str) -> None:
        if isinstance(wanted, dict):
            for key, value in wanted.items():
                assert key in found, f"{path}.{key} is not in Kubeflow's schema"
                covered(value, found[key], f"{path}.{key}")
        elif isinstance(wanted, list):
            assert len(wanted) == len(found), path
            for i, value in enumerate(wanted):
                covered(value, found[i], f"{path}[{i}]")
        else:
            assert wanted == found, path

    covered(train["spec"], back["spec"], "spec")
    assert train["spec"]["runtimeRef"]["name"] == "torch-distributed" and train["spec"]["suspend"] is True
    trainer, container = train["spec"]["trainer"], job["spec"]["template"]["spec"]["containers"][0]
    assert trainer["env"] == container["env"] and trainer["args"] == container["args"]
    (patch,) = train["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]
    assert pod["spec"]["volumes"] == job["spec"]["template"]["spec"]["volumes"]
    assert pod["spec"]["containers"][0]["volumeMounts"] == container["volumeMounts"]
    assert pod["metadata"]["labels"]["team"] == "a"


def test_what_only_prompts_is_a_configmap_and_a_job_that_writes_the_demonstrations() -> None:
    made = render(plan(), choice("shots", shots="4", retriever="random"), TARGET)
    assert set(made) == {"job", "configmap"}
    kubernetes_validate.validate(made["configmap"], "1.37", strict=True)
    prompt = json.loads(made["configmap"]["data"]["prompt.json"])
    assert (prompt["shots"], prompt["retriever"]) == (4, "random") and "demonstrations" not in prompt
    spec = training_spec(plan(), choice("zero"))
    with pytest.raises(ValueError, match="more than a ConfigMap holds: take --format job"):
        build_prompt(plan(), spec, {"pool": ["x" * 1000] * 1000})


def test_a_choice_that_the_plan_no_longer_has_and_local_sources_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no small with gone on l4 any more: run it again first"):
        render(plan(), choice("gone"), TARGET)
    local = plan(task={"dataset": {"source": {"local": {"path": "/home/me/data.csv"}}}})
    with pytest.raises(ValueError, match="a path of one machine"):
        render(local, choice(), TARGET)


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", fullmatch=True))
def test_names_fit_whatever_the_plan_is_called(name: str) -> None:
    asked = plan()
    asked = asked.model_copy(update={"metadata": asked.metadata.model_copy(update={"name": name})})
    made = name_of(asked, training_spec(asked, choice(rank="8")))
    assert len(made) <= 52 and made[0].isalpha() and made.replace("-", "").isalnum()
    assert made != name_of(asked, training_spec(asked, choice(rank="16")))
