"""What the attempts at a probe told together, and what is left for the next."""

from __future__ import annotations

from decimal import Decimal

import pytest

from orrery.api.probe import Fidelity, Outcome, ProbeSpec, Report, Trial, TrialResult, probe_name
from orrery.planning.reports import left_to_do, merge
from tests.unit.planning.plans import small

pytestmark = pytest.mark.unit

PLAN = small()
SPEC = ProbeSpec(
    model=PLAN.spec.models[0],
    task=PLAN.spec.task,
    trials=[
        Trial(name=n, strategy="ZeroShot", seed=i, fidelity=Fidelity(evaluation_items=8)) for i, n in enumerate("abc")
    ],
    accelerator="cpu",
    deadline_seconds=60,
)


def told(*, complete: bool = False, facts: dict[str, int] | None = None, **outcomes: str) -> Report:
    trials = [
        TrialResult(name=name, outcome=Outcome.MEASURED, score=Decimal(said), items=8)
        if said.startswith("0")
        else TrialResult(name=name, outcome=Outcome(said))
        for name, said in outcomes.items()
    ]
    return Report(probe="of-an-attempt", complete=complete, trials=trials, model_facts=facts)


def test_a_later_attempt_overrules_and_an_earlier_one_fills_in() -> None:
    found = merge(SPEC, [told(a="0.25", b="Failed", facts={"parameters": 7}), told(b="0.5")])
    assert found is not None and found.probe == probe_name(SPEC) and found.model_facts == {"parameters": 7}
    assert {t.name: t.score for t in found.trials} == {"a": Decimal("0.25"), "b": Decimal("0.5")}
    assert not found.complete, "c has no outcome"
    whole = merge(SPEC, [told(a="0.25", b="0.125"), told(c="OutOfMemory", b="0.5")])
    assert whole is not None and whole.complete and [t.name for t in whole.trials] == ["a", "b", "c"]
    assert whole.trials[1].score == Decimal("0.5")
    assert merge(SPEC, []) is None


def test_what_failed_is_tried_again_and_what_is_an_answer_is_not() -> None:
    def names(report: Report | None) -> list[str]:
        left = left_to_do(SPEC, report)
        return [] if left is None else [t.name for t in left.trials]

    assert names(None) == ["a", "b", "c"]
    assert names(told(a="0.25", b="Failed")) == ["b", "c"]
    assert names(told(a="Diverged", b="Unsupported", c="OutOfMemory")) == []
