"""Measure LoRA followed by in-context learning: train without demonstrations, then answer with them."""

from __future__ import annotations

from orrery.api.probe import Trial, TrialResult
from orrery.probes.finetune.direct import LORA, tuned
from orrery.probes.finetune.settings import parse_settings
from orrery.probes.parameters import evaluation_items, require_direct
from orrery.probes.retrieval import pool_of
from orrery.probes.session import Session
from orrery.probes.showing import PARAMETERS, Showing

RETRIEVERS = ("random", "bm25")


def measure(session: Session, trial: Trial) -> TrialResult:
    """Parameters of LoRA (``learningRate``, ``epochs``, ``rank``, ``batchSize``) and of in-context learning (``shots``,
    default 8; ``retriever``, random or bm25; ``calibration``).

    Demonstrations come from the examples that were trained on, since a size of the data is a size for both. Retrieval by
    the model's own embeddings is refused: the tuned weights would embed differently after every training, and the
    index would have to be made again.
    """
    require_direct(trial)
    showing = Showing.of(session, {p.name: p.value for p in trial.parameters}, RETRIEVERS)
    settings = parse_settings(trial, len(session.data.train), LORA.learning_rate, ignore=frozenset(PARAMETERS))
    items = evaluation_items(session, trial)
    with tuned(session, LORA, settings) as trained:
        pool = pool_of(trained.examples, 0, settings.seed)
        evaluation = showing.evaluate(session, trained.model, items, pool)
        return evaluation.result(trial.name, **trained.fields())
