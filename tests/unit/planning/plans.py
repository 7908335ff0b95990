"""Plans that end within a second, and what their steps say."""

from __future__ import annotations

from typing import Any

from orrery.api.plan import AdaptationPlan
from orrery.api.status import Condition
from orrery.planning.types import Step
from tests.unit.planning.world import make_plan, make_prices, model

PRICES = make_prices()
#: Three ways on one small model: runs end within a second.
SMALL: dict[str, Any] = {
    "models": [model("small")],
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {"name": "in-context", "type": "InContext", "grid": [{"name": "shots", "values": [1, 8]}]},
        {"name": "lora", "type": "LoRA", "grid": [{"name": "epochs", "values": [1]}]},
    ],
    "objective": {"goal": "MaximizeQuality"},
}
#: Two ways on one small model, for what is run often.
TINY: dict[str, Any] = SMALL | {
    "strategies": [
        {"name": "zero-shot", "type": "ZeroShot"},
        {"name": "lora", "type": "LoRA", "grid": [{"name": "epochs", "values": [1, 3]}]},
    ],
    "probing": {"fidelities": [16]},
}
#: A designer that is never content.
GREEDY = {"designer": "Uniform"}


def small(**changes: Any) -> AdaptationPlan:
    return make_plan(**(SMALL | changes))


def tiny(**changes: Any) -> AdaptationPlan:
    return make_plan(**(TINY | changes))


def condition(step: Step, kind: str) -> Condition:
    return next(c for c in step.status.conditions if c.type == kind)


def states(step: Step) -> dict[str, str]:
    return {c.type: c.status for c in step.status.conditions}
