"""How fast work runs: model FLOP utilisation, calibrated by what probes measured.

Utilisation u = achieved / peak FLOP/s is modelled on the log scale as a sum of normal effects: the kind of work, the
accelerator, the model, and their interaction; a measurement moves all that share an effect with it, most of all itself.
A utilisation measured on one accelerator so carries to another by the ratio of peaks, with an interval that is wider
(roofline without its bandwidth leg; decode is bounded by bandwidth in ``forecast``). Priors: pre-training on H100 reaches
38-46 %, LoRA on a 70B only 17.8 %, so kinds have utilisations of their own; small batches on CPUs vary far more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.costs.accelerators import AcceleratorFacts
from orrery.costs.flops import Training
from orrery.laws.posterior import Link, Posterior

Array = NDArray[np.float64]


class WorkKind(StrEnum):
    """Kinds of work with utilisations of their own."""

    FULL_TRAINING = "FullTraining"
    ADAPTER_TRAINING = "AdapterTraining"
    QUANTIZED_TRAINING = "QuantizedTraining"
    INFERENCE = "Inference"

    @staticmethod
    def of(training: Training) -> WorkKind:
        """The kind of a training."""
        return {
            Training.FULL: WorkKind.FULL_TRAINING,
            Training.ADAPTER: WorkKind.ADAPTER_TRAINING,
            Training.QUANTIZED_ADAPTER: WorkKind.QUANTIZED_TRAINING,
        }[training]


#: Median utilisation before anything is measured.
_PRIOR_UTILISATION = {
    WorkKind.FULL_TRAINING: 0.35,
    WorkKind.ADAPTER_TRAINING: 0.25,
    WorkKind.QUANTIZED_TRAINING: 0.20,
    WorkKind.INFERENCE: 0.30,
}
# Standard deviations of log-utilisation effects. Set wide enough for the anchors above: exp(+-1.64 * .79) spans 3.7 times.
_COMMON_SD = 0.35  # everything of this plan together (software, sequence lengths)
_ACCELERATOR_SD = 0.45
_UNKNOWN_ACCELERATOR_SD = 1.5
_KIND_SD = 0.35
_MODEL_SD = 0.40
_NOISE_SD = 0.20  # run to run, batch to batch: seen on repeated probes of one model


@dataclass(frozen=True)
class Observation:
    """Work that was measured: FLOPs done in seconds."""

    model: str
    accelerator: AcceleratorFacts
    kind: WorkKind
    flops: float
    seconds: float


@dataclass(frozen=True)
class _Key:
    model: str
    accelerator: AcceleratorFacts
    kind: WorkKind


def _covariance(a: _Key, b: _Key) -> float:
    value = _COMMON_SD**2
    if a.accelerator.name == b.accelerator.name:
        value += (_ACCELERATOR_SD if a.accelerator.known else _UNKNOWN_ACCELERATOR_SD) ** 2
    if a.kind == b.kind:
        value += _KIND_SD**2
    if a.model == b.model:
        value += _MODEL_SD**2 * (1.0 if a.kind == b.kind else 0.5)
    return value


@dataclass(frozen=True)
class Throughput:
    """Posterior of log-utilisation given observations; deterministic, and the prior where there are none."""

    keys: tuple[_Key, ...]
    weights: Array  #: (m,) K^-1 (y - prior)
    inverse: Array  #: (m, m) K^-1

    @staticmethod
    def fit(observations: Sequence[Observation]) -> Throughput:
        """Condition on measurements; those without positive FLOPs and seconds say nothing and are left out."""
        grouped: dict[_Key, list[float]] = {}
        for o in observations:
            if o.flops > 0 and o.seconds > 0 and np.isfinite(o.flops) and np.isfinite(o.seconds):
                achieved = np.log(o.flops / o.seconds / o.accelerator.peak_flops)
                grouped.setdefault(_Key(o.model, o.accelerator, o.kind), []).append(float(achieved))
        keys = tuple(sorted(grouped, key=lambda k: (k.model, k.accelerator.name, k.kind)))
        if not keys:
            return Throughput((), np.zeros(0), np.zeros((0, 0)))
        # repeated measurements of one key enter as their mean
        y = np.array([np.mean(sorted(grouped[k])) - np.log(_PRIOR_UTILISATION[k.kind]) for k in keys])
        noise = np.diag([_NOISE_SD**2 / len(grouped[k]) for k in keys])
        inverse = np.linalg.inv(np.array([[_covariance(a, b) for b in keys] for a in keys]) + noise)
        return Throughput(keys, inverse @ y, inverse)

    def seconds(self, model: str, accelerator: AcceleratorFacts, kind: WorkKind, flops: ArrayLike) -> Posterior:
        """Seconds that ``flops`` (n,) take, as a log-normal posterior; includes one run's own variation.

        >>> gpu = AcceleratorFacts("h100", 989e12, 80e9, 3.35e12, True)
        >>> seen = Observation("m", gpu, WorkKind.INFERENCE, 989e12, 5.0)
        >>> t = Throughput.fit([seen] * 3).seconds("m", gpu, WorkKind.INFERENCE, np.array([989e12]))
        >>> bool(4.5 < t.median()[0] < 5.5)
        True
        """
        work = np.asarray(flops, dtype=np.float64)
        key = _Key(model, accelerator, kind)
        mean, variance = float(np.log(_PRIOR_UTILISATION[kind])), _covariance(key, key)
        if self.keys:
            k = np.array([_covariance(key, other) for other in self.keys])
            mean += float(k @ self.weights)
            variance -= float(k @ self.inverse @ k)
        sd = float(np.sqrt(max(variance, 0.0) + _NOISE_SD**2))
        log_seconds = np.log(np.maximum(work, 1e-12)) - np.log(accelerator.peak_flops) - mean
        return Posterior(log_seconds, np.where(work > 0, sd, 0.0), Link.LOG)
