"""Measure QLoRA: adapters on weights quantised to four bits."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.finetune.direct import QLORA
from orrery.probes.finetune.methods import measure_by_method
from orrery.probes.session import Session


def measure(session: Session, trial: Trial) -> TrialResult:
    """Adapters of ``rank`` on the NF4-quantised model, trained with ``learningRate`` for ``epochs`` (``batchSize``)."""
    return measure_by_method(session, trial, QLORA)
