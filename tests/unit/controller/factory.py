"""Plans and probes for the controller's tests, built through the same parser as a user's."""

from __future__ import annotations

from typing import Any

from orrery.api.plan import AdaptationPlan
from orrery.api.probe import AdaptationProbe, Fidelity, ProbeSpec, Trial, probe_name


def plan(**spec: Any) -> AdaptationPlan:
    """A small valid plan; keywords (camelCase) replace fields of its spec."""
    base: dict[str, Any] = {
        "task": {"dataset": {"source": {"configMap": {"name": "tickets", "key": "tickets.jsonl"}}}},
        "models": [{"name": "small", "source": {"huggingFace": {"repo": "org/small", "revision": "abc123"}}}],
        "strategies": [{"name": "zero", "type": "ZeroShot"}],
        "workload": {"requestsPerDay": 1000},
        "objective": {"minQuality": "0.8"},
        "budget": {"maxProbeCost": "5"},
        "pricing": {"priceListRef": {"name": "cloud"}},
        "accelerators": [{"name": "l4", "resource": "nvidia.com/gpu"}],
    }
    return AdaptationPlan.model_validate(
        {
            "apiVersion": "orrery.dev/v1alpha1",
            "kind": "AdaptationPlan",
            "metadata": {"name": "support", "namespace": "team-a", "uid": "plan-uid"},
            "spec": base | spec,
        }
    )


def probe(of: AdaptationPlan, **spec: Any) -> AdaptationProbe:
    """A zero-shot probe of the plan's first model."""
    asked = ProbeSpec(
        **{
            "model": of.spec.models[0],
            "task": of.spec.task,
            "trials": [Trial(name="t0", strategy="ZeroShot", fidelity=Fidelity(evaluation_items=200))],
            "accelerator": of.spec.accelerators[0].name,
            "deadline_seconds": 600,
        }
        | spec
    )
    return AdaptationProbe.model_validate(
        {
            "apiVersion": "orrery.dev/v1alpha1",
            "kind": "AdaptationProbe",
            "metadata": {"name": probe_name(asked), "namespace": of.metadata.namespace, "uid": "probe-uid"},
            "spec": asked.to_wire(),
        }
    )
