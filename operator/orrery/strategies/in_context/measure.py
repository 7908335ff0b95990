"""Measure in-context learning: demonstrations before the request, chosen from the training examples."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.parameters import evaluation_items, read_parameters, require_direct
from orrery.probes.retrieval import RETRIEVERS, pool_of
from orrery.probes.session import Session
from orrery.probes.showing import PARAMETERS, Showing


def measure(session: Session, trial: Trial) -> TrialResult:
    """One pass over the evaluation items, each after its demonstrations.

    Parameters ``shots`` (default 8), ``retriever`` (random, bm25, dense; default random) and ``calibration`` (none,
    contextual). The fidelity's ``training_examples`` bounds the pool that demonstrations are drawn from; 0 is all.
    """
    require_direct(trial)
    showing = Showing.of(session, read_parameters(trial, PARAMETERS), RETRIEVERS)
    pool = pool_of(session.data.train, trial.fidelity.training_examples, trial.seed)
    result = showing.evaluate(session, session.model, evaluation_items(session, trial), pool).result(trial.name)
    if showing.shots > len(pool):
        short = f"only {len(pool)} training examples for {showing.shots} shots"
        result = result.model_copy(update={"message": "; ".join(filter(None, (short, result.message)))})
    return result
