"""From class log-probabilities to an evaluation: accuracy with its bits, or negative log-likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import ModelFacts
from orrery.api.task import MetricName, Task
from orrery.probes.evaluation import Evaluation
from orrery.probes.likelihood import Meter
from orrery.probes.session import Example


def judge(
    task: Task,
    items: Sequence[Example],
    log_probabilities: Sequence[NDArray[np.float64]],
    facts: ModelFacts,
    meter: Meter,
    seconds: float,
    request_tokens: float,
    output_tokens: float = 0.0,
) -> Evaluation:
    """The evaluation of a head whose log-probabilities are, per item, over the item's ``options`` in their order."""
    right = [e.options.index(e.target) for e in items]
    likelihood = task.metric.name is MetricName.NEGATIVE_LOG_LIKELIHOOD
    if likelihood:
        scores = np.array([-p[r] for p, r in zip(log_probabilities, right, strict=True)])
    else:
        scores = np.array([float(p.argmax() == r) for p, r in zip(log_probabilities, right, strict=True)])
    if not all(np.isfinite(p).all() for p in log_probabilities):
        raise FloatingPointError("a head's log-probability is not finite: take a lower learningRate")
    return Evaluation(
        scores=scores,
        binary=not likelihood,
        log_probabilities=tuple(log_probabilities),
        tokens=meter.tokens,
        flops=meter.flops(facts),
        seconds=seconds,
        request_tokens=request_tokens,
        output_tokens=output_tokens,
    )
