"""Measure full fine-tuning: every weight is trained."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.finetune.direct import FULL
from orrery.probes.finetune.methods import measure_by_method
from orrery.probes.session import Session


def measure(session: Session, trial: Trial) -> TrialResult:
    """Every weight, trained with ``learningRate`` for ``epochs`` (``batchSize``)."""
    return measure_by_method(session, trial, FULL)
