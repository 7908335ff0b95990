"""Measure in-context learning: demonstrations before the request, chosen from the training examples."""

from __future__ import annotations

import time

from orrery.api.models import Architecture
from orrery.api.probe import Trial, TrialResult
from orrery.probes.evaluation import evaluate
from orrery.probes.likelihood import Meter
from orrery.probes.parameters import evaluation_items, read_parameters, require_direct
from orrery.probes.retrieval import RETRIEVERS, demonstrations, pool_of
from orrery.probes.session import Session, Unsupported


def measure(session: Session, trial: Trial) -> TrialResult:
    """One pass over the evaluation items, each after its demonstrations.

    Parameters ``shots`` (default 8), ``retriever`` (random, bm25, dense; default random) and ``calibration`` (none,
    contextual). The fidelity's ``training_examples`` bounds the pool that demonstrations are drawn from; 0 is all.
    """
    require_direct(trial)
    if session.model.architecture is Architecture.ENCODER:
        raise Unsupported(
            f"model '{session.spec.model.name}' is an Encoder, which reads no demonstrations: use InContext with Causal "
            "models"
        )
    parameters = read_parameters(trial, ("shots", "retriever", "calibration"))
    shots = _shots(parameters.get("shots", "8"))
    retriever = parameters.get("retriever", "random")
    if retriever not in RETRIEVERS:
        raise Unsupported(f"retriever is '{retriever}': write one of {', '.join(RETRIEVERS)}")
    started, meter = time.monotonic(), Meter()
    items = evaluation_items(session, trial)
    pool = pool_of(session.data.train, trial.fidelity.training_examples, trial.seed)
    shown = demonstrations(session.model, pool, items, shots, retriever, meter)
    evaluation = evaluate(
        session.model,
        session.spec.task,
        items,
        shown,
        parameters.get("calibration", "none"),
        meter=meter,
        started=started,
    )
    result = evaluation.result(trial.name)
    if shots > len(pool):
        short = f"only {len(pool)} training examples for {shots} shots"
        result = result.model_copy(update={"message": "; ".join(filter(None, (short, result.message)))})
    return result


def _shots(value: str) -> int:
    if not value.isdecimal() or int(value) > 1024:
        raise Unsupported(f"shots is '{value}': write a whole number from 0 to 1024")
    return int(value)
