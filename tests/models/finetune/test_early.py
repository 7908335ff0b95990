"""Trainings that are stopped early: the very steps that the whole one begins with, and nothing scored."""

from __future__ import annotations

import pytest

from orrery.api.models import Architecture
from orrery.api.probe import Fidelity, Outcome, Report, Trial
from orrery.probes.models import fingerprint
from orrery.probes.report import encode
from orrery.probes.runner import measure_trial, measures

from .tiny import session, trial

pytestmark = pytest.mark.model


def early(percent: int, strategy: str = "LoRA", **parameters: str) -> Trial:
    asked = trial(strategy, 60, epochs="6", **parameters)
    fidelity = Fidelity.model_validate(
        {"method": "Early", "trainingExamples": 60, "evaluationItems": 1, "schedulePercent": percent}
    )
    return asked.model_copy(update={"fidelity": fidelity})


@pytest.mark.parametrize("architecture", [Architecture.CAUSAL, Architecture.ENCODER])
@pytest.mark.parametrize("strategy", ["LoRA", "FullFineTuning"])
def test_the_first_steps_are_those_of_the_whole_training(architecture: Architecture, strategy: str) -> None:
    s = session(architecture)
    mark = fingerprint(s.model.module)
    whole = measure_trial(s, trial(strategy, 60, epochs="6"), measures())
    stopped = measure_trial(s, early(50, strategy), measures())
    assert stopped.outcome is Outcome.MEASURED and stopped.score is None and stopped.items == 0
    assert len(whole.train_loss) == 16 and len(stopped.train_loss) == 2
    quarters = [sum(whole.train_loss[i : i + 4]) / 4 for i in (0, 4)]
    assert [float(v) for v in stopped.train_loss] == pytest.approx([float(q) for q in quarters], rel=0.01)
    assert 0 < stopped.train_tokens < whole.train_tokens and (stopped.train_flops or 0) < (whole.train_flops or 0)
    assert stopped.evaluation_flops is None
    assert strategy == "FullFineTuning" or fingerprint(s.model.module) == mark


def test_another_rate_falls_otherwise_from_the_same_start() -> None:
    s = session(Architecture.CAUSAL)
    slow, fast = (measure_trial(s, early(20, learningRate=r), measures()) for r in ("1e-5", "1e-2"))
    assert slow.train_loss[1] > fast.train_loss[1]


def test_a_full_report_keeps_the_losses_that_are_the_answer() -> None:
    s = session(Architecture.ENCODER)
    stopped = measure_trial(s, early(20), measures())
    scored = measure_trial(s, trial("LoRA"), measures()).model_copy(update={"bits": "A" * 1500})
    many = [stopped.model_copy(update={"name": f"e{i}"}) for i in range(4)]
    more = [scored.model_copy(update={"name": f"d{i}"}) for i in range(3)]
    kept = Report.model_validate_json(encode(Report(probe="p", complete=True, trials=[*many, *more])))
    assert all(r.train_loss for r in kept.trials[:4]) and not any(r.train_loss for r in kept.trials[4:])
