"""What a probe does for the strategy NearestNeighbours. The one module that may use torch, here through Orrery's embeddings."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from orrery.api.probe import Trial, TrialResult
from orrery.probes.embedding import embed
from orrery.probes.evaluation import Evaluation
from orrery.probes.likelihood import Meter
from orrery.probes.parameters import evaluation_items, read_parameters, require_direct
from orrery.probes.session import Session, Unsupported


def measure(session: Session, trial: Trial) -> TrialResult:
    """Embed the training examples and the evaluation items, and let the nearest vote; parameter ``neighbours``."""
    require_direct(trial)
    neighbours = int(read_parameters(trial, ("neighbours",)).get("neighbours", "5"))
    train, items = session.data.train, evaluation_items(session, trial)
    if not train:
        raise Unsupported("NearestNeighbours needs training examples: give the dataset a training split")
    started, meter = time.monotonic(), Meter()
    table = embed(session.model, [example.input for example in train], meter)
    before = meter.tokens
    nearest = np.argsort(-embed(session.model, [item.input for item in items], meter) @ table.T, kind="stable")
    right = []
    for item, order in zip(items, nearest[:, :neighbours], strict=True):
        votes = Counter(train[i].target for i in order)  # of equal votes, the nearer came first
        right.append(votes.most_common(1)[0][0] == item.target)
    return Evaluation(
        scores=np.array(right, dtype=np.float64),
        binary=True,
        log_probabilities=(),
        tokens=meter.tokens,
        flops=meter.flops(session.model.facts),
        seconds=time.monotonic() - started,
        request_tokens=(meter.tokens - before) / len(items),
        output_tokens=0.0,
    ).result(trial.name)
