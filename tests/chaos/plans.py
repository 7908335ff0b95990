"""Plans for the interruptions: several namespaces, and in each some plans that need the same measurements."""

from __future__ import annotations

import random
from typing import Any

from orrery.api.base import API_VERSION

PRICES = "prices"
NAMESPACES = ("chaos-a", "chaos-b", "chaos-c")
#: A probe may run this long: hanging ones end here.
DEADLINE_SECONDS = 14
PRICE_PER_HOUR = "36"  # one cent a second, so that a budget is used up within seconds


def price_list() -> dict[str, Any]:
    """The one price list."""
    return {
        "apiVersion": API_VERSION,
        "kind": "PriceList",
        "metadata": {"name": PRICES},
        "spec": {
            "currency": "USD",
            "source": "made up for tests",
            "date": "2026-01-01",
            "accelerators": [{"name": "cpu", "pricePerHour": PRICE_PER_HOUR}],
        },
    }


def plan(namespace: str, name: str, task: str, models: list[str], **spec: Any) -> dict[str, Any]:
    """An AdaptationPlan manifest; ``spec`` replaces whole fields."""
    return {
        "apiVersion": API_VERSION,
        "kind": "AdaptationPlan",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "task": {
                "type": "Classification",
                "dataset": {"source": {"builtin": {"name": task}}},
                "template": {"example": "Input: {input}\nAnswer:"},
                "metric": {"name": "Accuracy"},
            },
            "models": [
                {
                    "name": model,
                    "source": {"builtin": {"name": model}},
                    "architecture": "Causal",
                    "facts": {
                        "parameters": 134515008,
                        "layers": 30,
                        "hiddenSize": 576,
                        "heads": 9,
                        "kvHeads": 3,
                        "contextLength": 8192,
                    },
                }
                for model in models
            ],
            "strategies": [{"name": "zero-shot", "type": "ZeroShot"}],
            "workload": {"requestsPerDay": 10000},
            "objective": {"goal": "MaximizeQuality"},
            "budget": {"maxProbeCost": "100"},
            "pricing": {"priceListRef": {"name": PRICES}},
            "accelerators": [{"name": "cpu"}],
            **spec,
        },
    }


def draw(rng: random.Random, number: int) -> dict[str, Any]:
    """The next plan. Every third shares task and models with the one before it in its namespace; budgets are tight for some."""
    group = number // 3
    namespace = NAMESPACES[group % len(NAMESPACES)]
    shared = random.Random(group)
    models = [f"model-{shared.randrange(12)}-{i}" for i in range(shared.randint(3, 5))]
    if number % 3 == 2:  # overlaps, and asks for something of its own
        models = [*models[:2], f"own-{number}"]
    strategies: list[dict[str, Any]] = [{"name": "zero-shot", "type": "ZeroShot"}]
    if rng.random() < 0.5:
        grid = [{"name": "shots", "values": [1, 4]}, {"name": "retriever", "values": ["random"]}]
        strategies.append({"name": "in-context", "type": "InContext", "grid": grid})
    # one probe's worst case is DEADLINE_SECONDS of a cent: a tight budget holds three of them at a time
    budget = rng.choice(["0.45", "0.8", "3"])
    return plan(
        namespace,
        f"plan-{number}",
        f"task-{group}",
        models,
        strategies=strategies,
        budget={"maxProbeCost": budget},
        probing={
            "parallelism": rng.randint(2, 4),
            "maxProbes": 10,
            "evaluationItems": 200,
            "deadlineSeconds": DEADLINE_SECONDS,
            "retries": 6,
        },
    )
