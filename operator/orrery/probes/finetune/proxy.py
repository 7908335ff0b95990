"""A light head on frozen features stands in for fine-tuning (COSMOS, arXiv 2505.01449, section 4.1).

One embedding pass serves every configuration; a head costs a tenth of a CPU-second. Its accuracy is not the tuned model's: it is an
indicator, which an affine calibration on a few real runs turns into a forecast (``orrery.strategies.tuning_curves``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.api.probe import Trial, TrialResult
from orrery.api.task import TaskType
from orrery.costs.flops import Training
from orrery.probes.finetune.answers import judge
from orrery.probes.finetune.direct import Kind, subset
from orrery.probes.finetune.features import features, request_text
from orrery.probes.finetune.logistic import fit_logistic, log_softmax
from orrery.probes.finetune.settings import Settings, parse_settings
from orrery.probes.likelihood import Meter
from orrery.probes.parameters import evaluation_items
from orrery.probes.report import number
from orrery.probes.session import Session, Unsupported

#: Ridge penalty times training time; see ``penalty``. Full fine-tuning's learning rates are about a tenth of LoRA's.
RIDGE = {Training.ADAPTER: 5e-3, Training.QUANTIZED_ADAPTER: 5e-3, Training.FULL: 5e-4}
#: Columns with less than this share of the mean spread are not blown up to unit variance.
FLOOR = 0.1
Array = NDArray[np.float64]


def penalty(settings: Settings, training: Training) -> float:
    """The head's ridge penalty: a long training at a high rate is a weak one.

    Gradient descent stopped after time t = learning rate x steps fits like ridge regression with penalty 1 / t (Ali,
    Kolter, Tibshirani 2019, arXiv 1810.10082, theorem 1). So configurations differ in their head as they differ in how
    far they move. Ranks do not show, nor does a rate so high that training breaks.
    """
    return RIDGE[training] / (settings.learning_rate * settings.steps)


@dataclass(frozen=True)
class Scaling:
    """Columns to about unit variance, by the training examples."""

    mean: Array
    spread: Array

    @classmethod
    def of(cls, x: Array) -> Scaling:
        """Fit; a column that hardly varies keeps its smallness."""
        spread = x.std(0)
        return cls(x.mean(0), np.hypot(spread, FLOOR * spread.mean()) + 1e-12)

    def __call__(self, x: Array) -> Array:
        """Scaled columns."""
        return (x - self.mean) / self.spread


def measure_proxy(session: Session, trial: Trial, kind: Kind) -> TrialResult:
    """Accuracy (or negative log-likelihood) of the configuration's light head on the evaluation items.

    Trained on the same nested subset as the real run would be. The embedding pass is charged to the trial that needs it
    first: later trials' seconds, tokens and FLOPs are those of the texts that are new to them.

    Raises ``Unsupported`` when items have no labels in common, and ``FloatingPointError``.
    """
    task = session.spec.task
    if task.type is not TaskType.CLASSIFICATION:
        raise Unsupported(
            f"the proxy is a head over labels, which {task.type} items do not share: write method Direct, or Classification"
        )
    settings = parse_settings(trial, len(session.data.train), kind.learning_rate)
    examples, items = subset(session, settings), evaluation_items(session, trial)
    source, labels = features(session), session.data.labels
    index = {label: i for i, label in enumerate(labels)}

    start, before = time.monotonic(), _read(source.meter)
    x = source.of([request_text(session, e.input) for e in examples])
    scale = Scaling.of(x)
    weight, bias = fit_logistic(
        scale(x), [index[e.target] for e in examples], len(labels), penalty(settings, kind.training), steps=100
    )
    training, middle = _since(source.meter, before), time.monotonic()

    before = _read(source.meter)
    asked = scale(source.of([request_text(session, e.input) for e in items]))
    found = log_softmax(asked @ weight.T + bias)
    meter = _since(source.meter, before)
    evaluation = judge(task, items, list(found), session.model.facts, meter, time.monotonic() - middle, 0.0)
    return evaluation.result(
        trial.name,
        train_seconds=number(middle - start),
        train_tokens=training.tokens,
        train_flops=number(training.flops(session.model.facts)),
        # A head is not what would be served, so it says nothing of a request's length.
        request_tokens=None,
        output_tokens=None,
    )


def _read(meter: Meter) -> Meter:
    return Meter(meter.tokens, meter.attended)


def _since(meter: Meter, before: Meter) -> Meter:
    return Meter(meter.tokens - before.tokens, meter.attended - before.attended)
