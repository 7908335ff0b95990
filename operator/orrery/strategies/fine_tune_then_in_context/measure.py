"""Measure LoRA followed by in-context learning: train without demonstrations, then answer with them."""

from __future__ import annotations

import time

from orrery.api.models import Architecture
from orrery.api.probe import Trial, TrialResult
from orrery.probes.evaluation import evaluate
from orrery.probes.finetune.direct import LORA, tuned
from orrery.probes.finetune.settings import parse_settings
from orrery.probes.likelihood import Meter
from orrery.probes.parameters import evaluation_items, require_direct
from orrery.probes.retrieval import demonstrations, pool_of
from orrery.probes.session import Session, Unsupported

RETRIEVERS = ("random", "bm25")
_IN_CONTEXT = frozenset({"shots", "retriever", "calibration"})


def measure(session: Session, trial: Trial) -> TrialResult:
    """Parameters of LoRA (``learningRate``, ``epochs``, ``rank``, ``batchSize``) and of in-context learning (``shots``,
    default 8; ``retriever``, random or bm25; ``calibration``).

    Demonstrations come from the examples that were trained on, since a size of the data is a size for both. Retrieval by
    the model's own embeddings is refused: the tuned weights would embed differently after every training, and the
    index would have to be made again.
    """
    require_direct(trial)
    if session.model.architecture is Architecture.ENCODER:
        raise Unsupported(
            f"model '{session.spec.model.name}' is an Encoder, which reads no demonstrations: choose a Causal model"
        )
    given = {p.name: p.value for p in trial.parameters}
    shots, retriever = given.get("shots", "8"), given.get("retriever", "random")
    if not shots.isdecimal() or not shots.isascii() or int(shots) > 1024:
        raise Unsupported(f"shots is '{shots}': write a whole number from 0 to 1024")
    if retriever not in RETRIEVERS:
        raise Unsupported(f"retriever is '{retriever}': write one of {', '.join(RETRIEVERS)}")
    settings = parse_settings(trial, len(session.data.train), LORA.learning_rate, ignore=_IN_CONTEXT)
    items = evaluation_items(session, trial)
    with tuned(session, LORA, settings) as trained:
        started, meter = time.monotonic(), Meter()
        pool = pool_of(trained.examples, 0, settings.seed)
        shown = demonstrations(trained.model, pool, items, int(shots), retriever, meter)
        evaluation = evaluate(
            trained.model,
            session.spec.task,
            items,
            shown,
            given.get("calibration", "none"),
            meter=meter,
            started=started,
        )
        return evaluation.result(trial.name, **trained.fields())
