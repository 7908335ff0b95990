"""A plan, a probe and a price list as their authors write them, and the means to break them."""

from __future__ import annotations

import copy
from typing import Any

PLAN: dict[str, Any] = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "AdaptationPlan",
    "metadata": {"name": "intents", "namespace": "team-a"},
    "spec": {
        "task": {
            "type": "Classification",
            "dataset": {
                "source": {"huggingFace": {"repo": "team/intents", "revision": "0a1b2c3"}},
                "columns": {"input": "text", "target": "intent"},
            },
            "template": {"instruction": "Name the intent.", "example": "Request: {input}\nIntent:"},
        },
        "models": [
            {"name": "smollm2-135m", "source": {"builtin": {"name": "smollm2-135m-instruct"}}, "family": "smollm2"},
            {
                "name": "minilm",
                "source": {"pvc": {"claimName": "weights", "path": "minilm/v2"}},
                "architecture": "Encoder",
            },
        ],
        "strategies": [
            {"name": "zero", "type": "ZeroShot"},
            {"name": "shots", "type": "InContext", "grid": [{"name": "shots", "values": [1, 4, 8]}]},
            {
                "name": "lora",
                "type": "LoRA",
                "grid": [{"name": "learningRate", "values": ["2e-4", "1e-3"]}, {"name": "rank", "values": [8, "16"]}],
            },
        ],
        "exclude": [{"model": "minilm", "strategy": "shots"}],
        "workload": {"requestsPerDay": 10000},
        "objective": {"goal": "MinimizeCost", "minQuality": "0.85"},
        "budget": {"maxProbeCost": "2.50"},
        "pricing": {"priceListRef": {"name": "lab"}},
        "accelerators": [
            {"name": "cpu"},
            {"name": "h100", "resource": "nvidia.com/gpu", "memory": "80Gi", "capacityType": "Spot"},
        ],
        "probing": {"fidelities": [16, 64, 256], "parallelism": 4},
    },
}

PROBE: dict[str, Any] = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "AdaptationProbe",
    "metadata": {"name": "probe-1", "namespace": "team-a"},
    "spec": {
        "model": PLAN["spec"]["models"][0],
        "task": PLAN["spec"]["task"],
        "trials": [
            {
                "name": "t0",
                "strategy": "InContext",
                "parameters": [{"name": "shots", "value": "8"}, {"name": "retriever", "value": "random"}],
                "fidelity": {"evaluationItems": 200},
            },
            {"name": "t1", "strategy": "ZeroShot", "fidelity": {"evaluationItems": 200}},
        ],
        "accelerator": "cpu",
        "deadlineSeconds": 600,
    },
}

PRICES: dict[str, Any] = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "PriceList",
    "metadata": {"name": "lab"},
    "spec": {
        "currency": "USD",
        "source": "https://prices.example.com/accelerators",
        "date": "2026-01-31",
        "accelerators": [
            {"name": "cpu", "pricePerHour": "0.10"},
            {"name": "h100", "pricePerHour": "3.90"},
            {"name": "h100", "capacityType": "Spot", "pricePerHour": "1.95"},
        ],
        "hostedModels": [{"name": "large", "inputPerMillion": "0.50", "outputPerMillion": "1.50"}],
    },
}

BUDGET: dict[str, Any] = {
    "apiVersion": "orrery.dev/v1alpha1",
    "kind": "AdaptationBudget",
    "metadata": {"name": "month", "namespace": "team-a"},
    "spec": {"currency": "USD", "maxProbeCost": "50", "maxAcceleratorSeconds": 100000},
}


class _Remove:
    """Its name is a test's name, which must be the same in every process."""

    def __repr__(self) -> str:
        return "REMOVE"


REMOVE = _Remove()


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with the value at a dotted path replaced (or removed); digits step into lists, ``+`` appends."""
    made = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    at: Any = made
    for part in parents:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    if isinstance(at, list):
        if last == "+":
            at.append(value)
        else:
            at[int(last)] = value
    elif value is REMOVE:
        del at[last]
    else:
        at[last] = value
    return made


#: Path to break, what to put there, the whole sentence of our refusal, and what refuses it on the API server: a bound of
#: the schema, a key of a list-map, or a CEL rule.
BAD_PLANS: list[tuple[str, Any, str, str]] = [
    (
        "spec.probeTemplate",
        {"labels": {"team": "not a label!"}},
        "spec.probeTemplate.labels.team is 'not a label!': write letters, digits, '-', '_' and '.', such as 'team-a'",
        "schema",
    ),
    (
        "spec.probeTemplate",
        {"image": "probe 1"},
        "spec.probeTemplate.image is 'probe 1': write an image without spaces, such as 'registry.example.com/orrery-probe:1'",
        "schema",
    ),
    (
        "spec.accelerators.0.resource",
        "gpu",
        "spec.accelerators[cpu].resource is 'gpu': write an extended resource with its domain, such as 'nvidia.com/gpu'",
        "schema",
    ),
    (
        "spec.budget.maxProbeCost",
        2.5,
        "spec.budget.maxProbeCost is the float 2.5: write a decimal string such as '2.5' in quotes",
        "schema",
    ),
    (
        "spec.budget.maxProbeCost",
        -0.5,
        "spec.budget.maxProbeCost is the float -0.5: write a decimal string such as '2.50' in quotes",
        "schema",
    ),
    (
        "spec.budget.maxProbeCost",
        -5,
        "spec.budget.maxProbeCost is the number -5: write a decimal string such as '2.50' in quotes",
        "schema",
    ),
    ("spec.budget.maxProbeCost", 5, "spec.budget.maxProbeCost is the number 5: write it in quotes, '5'", "schema"),
    (
        "spec.budget.maxProbeCost",
        "-1",
        "spec.budget.maxProbeCost is '-1', below zero: write an amount of '0' or more, such as '2.50'",
        "schema",
    ),
    (
        "spec.budget.maxProbeCost",
        "NaN",
        "spec.budget.maxProbeCost is 'NaN': write a decimal string such as '2.50' in quotes",
        "schema",
    ),
    (
        "spec.budget.maxProbeCost",
        REMOVE,
        "spec.budget.maxProbeCost is missing: write it (Most that probing may cost, in the price list's currency)",
        "schema",
    ),
    (
        "spec.objective.goal",
        "MinimiseCost",
        "spec.objective.goal is 'MinimiseCost': write one of MinimizeCost, MaximizeQuality, Weighted "
        "(did you mean MinimizeCost?)",
        "schema",
    ),
    (
        "spec.strategies.2.grid.0.values.0",
        2e-4,
        "spec.strategies[lora].grid[learningRate].values[0] is the float 0.0002: write it as a string in quotes, "
        "such as '0.0002'",
        "schema",
    ),
    (
        "spec.strategies.2.grid.0.values.0",
        True,
        "spec.strategies[lora].grid[learningRate].values[0] is the boolean true: write it in quotes, 'true'",
        "schema",
    ),
    (
        "spec.strategies.1.grid.0.values",
        [4, 8, 4],
        "spec.strategies[shots].grid[shots].values names '4' twice: give every entry a name of its own",
        "key",
    ),
    (
        "spec.strategies.2.name",
        "zero",
        "spec.strategies names 'zero' twice: give every entry a name of its own",
        "key",
    ),
    (
        "spec.models.0.name",
        "minilm",
        "spec.models names 'minilm' twice: give every entry a name of its own",
        "key",
    ),
    ("spec.probing.parallelism", 65, "spec.probing.parallelism is 65: write at most 64", "schema"),
    ("spec.probing.parallelism", "4", "spec.probing.parallelism is '4': write a whole number without quotes", "schema"),
    (
        "spec.probing.fidelities",
        [64, 16],
        "spec.probing.fidelities is [64, 16]: write distinct sizes in ascending order, [16, 64]",
        "rule",
    ),
    (
        "spec.models.0.source.pvc",
        {"claimName": "weights", "path": "x"},
        "spec.models[smollm2-135m].source names pvc and builtin of the sources: write exactly one of "
        "huggingFace, pvc, builtin, local",
        "schema",
    ),
    (
        "spec.models.0.source",
        {},
        "spec.models[smollm2-135m].source names none of the sources: write exactly one of huggingFace, pvc, builtin, "
        "local",
        "schema",
    ),
    (
        "spec.models.1.source.pvc.path",
        "../other",
        "spec.models[minilm].source.pvc.path is '../other', which leaves its volume: write a relative path without "
        "'..'",
        "rule",
    ),
    (
        "spec.models.1.source.pvc.path",
        "/etc",
        "spec.models[minilm].source.pvc.path is '/etc', which leaves its volume: write a relative path without '..'",
        "rule",
    ),
    ("spec.models", [], "spec.models has 0 entries: write at least 1", "schema"),
    (
        "spec.task",
        "intents",
        "spec.task is 'intents': write a mapping with type, dataset, template, metric, maxOutputTokens",
        "schema",
    ),
    (
        "spec.models.0.name",
        "Big Model",
        "spec.models[Big Model].name is 'Big Model': write a name of at most 48 lower-case letters, digits, '-' and "
        "'.', such as 'lora-r8'",
        "schema",
    ),
    ("spec.suspend", "yes", "spec.suspend is 'yes': write true or false, without quotes", "schema"),
    (
        "spec.task.metric",
        {"direction": "Minimize"},
        "spec.task.metric.direction is Minimize, but Accuracy is Maximize: leave direction out",
        "rule",
    ),
    (
        "spec.task.metric",
        {"name": "TokenF1"},
        "spec.task.metric.name is TokenF1, which scores Generation tasks: write Accuracy or ExactMatch",
        "rule",
    ),
    (
        "spec.task.type",
        "MultipleChoice",
        "spec.task.dataset.columns.options is missing: write the name of the options' column, which a MultipleChoice task needs",
        "rule",
    ),
    (
        "spec.task.template.example",
        "{input} or {input}",
        "spec.task.template.example is '{input} or {input}': write the placeholder {input} exactly once, such as "
        "'Question: {input}\\nAnswer:'",
        "rule",
    ),
    (
        "spec.exclude.0.model",
        "other",
        "spec.exclude names the model 'other': write one of minilm, smollm2-135m",
        "rule",
    ),
    (
        "spec.exclude.0.strategy",
        "other",
        "spec.exclude names the strategy 'other': write one of lora, shots, zero",
        "rule",
    ),
    (
        "spec.objective.confidence",
        "1.5",
        "spec.objective.confidence is '1.5': write a share between '0' and '1' with at most 9 decimals, such as '0.9'",
        "schema",
    ),
    (
        "spec.objective.confidence",
        "1.0",
        "spec.objective.confidence is '1.0': write a share above '0' and below '1', such as '0.9'",
        "rule",
    ),
    (
        "spec.objective.minQuality",
        REMOVE,
        "spec.objective.minQuality is missing: write the least acceptable quality, such as '0.85', which goal MinimizeCost needs",
        "rule",
    ),
    (
        "spec.objective.minQuality",
        "85",
        "spec.objective.minQuality is '85', and Accuracy is at most 1: write a share such as '0.85'",
        "rule",
    ),
    (
        "spec.objective",
        {"goal": "Weighted"},
        "spec.objective.pointValue is missing: write the worth of a point of quality, such as '10', which goal Weighted needs",
        "rule",
    ),
    ("spec.models.0.family", 7, "spec.models[smollm2-135m].family is 7: write a string in quotes, '7'", "schema"),
    (
        "spec.accelerators.0.memory",
        "80GB",
        "spec.accelerators[cpu].memory is '80GB': write a size in Mi, Gi or Ti, such as '16Gi'",
        "schema",
    ),
    (
        "spec.confirm",
        {"mode": "Automatic"},
        "spec.confirm.budget is missing: write what confirming may cost, such as {maxCost: '5'}",
        "rule",
    ),
]
