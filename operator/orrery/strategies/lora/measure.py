"""Measure LoRA: train adapters for real, or let the proxy stand in."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.finetune.direct import LORA
from orrery.probes.finetune.methods import measure_by_method
from orrery.probes.session import Session


def measure(session: Session, trial: Trial) -> TrialResult:
    """Adapters of ``rank`` on every linear layer, trained with ``learningRate`` for ``epochs`` (``batchSize``)."""
    return measure_by_method(session, trial, LORA)
