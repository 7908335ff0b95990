"""Measure zero-shot quality: the request alone, options scored as ``orrery.probes.evaluation`` says."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.evaluation import evaluate
from orrery.probes.parameters import evaluation_items, read_parameters, require_direct
from orrery.probes.session import Session


def measure(session: Session, trial: Trial) -> TrialResult:
    """One pass over the evaluation items; parameter ``calibration`` (none, contextual)."""
    require_direct(trial)
    parameters = read_parameters(trial, ("calibration",))
    return evaluate(
        session.model,
        session.spec.task,
        evaluation_items(session, trial),
        calibration=parameters.get("calibration", "none"),
    ).result(trial.name)
