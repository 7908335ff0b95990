"""The plans that the end-to-end benchmarks answer: one grid, several builtin tasks, and every candidate's full trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orrery.api.load import parse_model
from orrery.api.models import Model
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Trial
from orrery.local.facts import read_facts
from orrery.planning.candidates import Space, expand
from orrery.planning.evidence import gather
from orrery.planning.forecasts import Groups
from orrery.planning.types import Facts
from orrery.probes.locations import SourceRoots
from orrery.strategies.trials import make_trial

#: Builtin task: the prompt of its requests.
TASKS: dict[str, dict[str, str]] = {
    "bigbench/intent_recognition": {
        "instruction": "Name the intent of each utterance.",
        "example": "Utterance: {input}\nIntent:",
    },
    "bigbench/implicatures": {
        "instruction": "Does the answer mean yes or no?",
        "example": "{input}\nMeaning:",
    },
    "bigbench/fact_checker/politifact": {
        "instruction": "Say whether each claim is true or false.",
        "example": "Claim: {input}\nTruth:",
    },
    "bigbench/multiemo/reviews_sentence_en": {
        "instruction": "Name the sentiment of each sentence.",
        "example": "Sentence: {input}\nSentiment:",
    },
    "bigbench/sports_understanding": {
        "instruction": "Is each sentence about sport plausible?",
        "example": "Sentence: {input}\nIt is",
    },
    "bigbench/metaphor_boolean": {
        "instruction": "Is the paraphrase of each metaphor right?",
        "example": "{input}\nRight:",
    },
}

#: Share of a task's examples that is kept for evaluation, where it is not the default: it leaves about 250 for training,
#: so that measuring every candidate takes a quarter of an hour.
EVALUATION_PERCENT = {
    "bigbench/multiemo/reviews_sentence_en": 90,
    "bigbench/sports_understanding": 75,
    "bigbench/metaphor_boolean": 62,
}

MODELS = [
    {
        "name": "smollm2",
        "architecture": "Causal",
        "family": "smollm2",
        "source": {"builtin": {"name": "smollm2-135m-instruct"}},
    },
    {
        "name": "minilm",
        "architecture": "Encoder",
        "family": "minilm",
        "source": {"builtin": {"name": "all-minilm-l6-v2"}},
    },
]


def _axes(**values: list[Any]) -> list[dict[str, Any]]:
    return [{"name": k, "values": [str(x) for x in v]} for k, v in values.items()]


#: 40 candidates with two models, one of them without in-context learning.
STRATEGIES = [
    {"name": "zero-shot", "type": "ZeroShot"},
    {"name": "in-context", "type": "InContext", "grid": _axes(shots=[1, 2, 4, 8, 16], retriever=["random", "bm25"])},
    {
        "name": "lora",
        "type": "LoRA",
        "grid": _axes(rank=[4, 16], learningRate=["1e-3"], epochs=[1, 3], dataPercent=[25, 100]),
    },
    {
        "name": "qlora",
        "type": "QLoRA",
        "grid": _axes(rank=[16], learningRate=["1e-3"], epochs=[1, 3], dataPercent=[100]),
    },
    {
        "name": "full",
        "type": "FullFineTuning",
        "grid": _axes(learningRate=["5e-5"], epochs=[1, 3], dataPercent=[25, 100]),
    },
]

PRICES = parse_model(
    PriceList,
    {
        "apiVersion": "orrery.dev/v1alpha1",
        "kind": "PriceList",
        "metadata": {"name": "benchmark"},
        "spec": {
            "currency": "USD",
            "source": "a dollar a CPU-hour, so that cents are readable",
            "date": "2026-11-22",
            "accelerators": [{"name": "cpu", "pricePerHour": "1"}],
        },
    },
)


def plan(task: str, **spec: Any) -> AdaptationPlan:
    """The benchmark's plan of one task; keywords (camelCase) replace fields of its spec."""
    dataset: dict[str, Any] = {"source": {"builtin": {"name": task}}}
    if task in EVALUATION_PERCENT:
        dataset["splits"] = {"evaluationPercent": EVALUATION_PERCENT[task]}
    base: dict[str, Any] = {
        "task": {"dataset": dataset, "template": TASKS[task]},
        "models": MODELS,
        "strategies": STRATEGIES,
        "workload": {"requestsPerDay": 1000, "horizonDays": 30},
        "objective": {"goal": "MaximizeQuality"},
        "budget": {"maxProbeCost": "1"},
        "pricing": {"priceListRef": {"name": "benchmark"}},
        "accelerators": [{"name": "cpu"}],
        "probing": {"parallelism": 1, "evaluationItems": 200, "deadlineSeconds": 900},
    }
    return parse_model(
        AdaptationPlan,
        {
            "apiVersion": "orrery.dev/v1alpha1",
            "kind": "AdaptationPlan",
            "metadata": {"name": task.rpartition("/")[2].replace("_", "-")},
            "spec": base | spec,
        },
    )


@dataclass(frozen=True)
class Full:
    """A candidate and the trial that measures it in full."""

    candidate: str
    model: Model
    strategy: str
    trial: Trial


def facts_of(of: AdaptationPlan) -> Facts:
    """What is known without measuring."""
    return read_facts(of, SourceRoots.from_environment())


def full_trials(of: AdaptationPlan) -> Iterator[Full]:
    """Every candidate that a strategy does not refuse, in the planner's own naming."""
    space: Space = expand(of.spec)
    groups = Groups(of.spec, space, gather(of.spec, [], facts_of(of)))
    for g, group in enumerate(space.groups):
        if group.refusal is not None:
            continue
        view = groups.build(g)
        assert view.task_facts is not None
        for i in range(group.size):
            parameters = {k: v[i] for k, v in view.columns.items() if k != "dataPercent"}
            examples = 0
            if "dataPercent" in view.columns:
                examples = max(1, int(view.columns["dataPercent"][i]) * view.task_facts.train_examples // 100)
            trial = make_trial(view, group.strategy.type, parameters, examples=examples)
            yield Full(space.label(group.first + i * len(space.accelerators)), group.model, group.strategy.type, trial)
