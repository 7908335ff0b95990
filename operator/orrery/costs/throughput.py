"""How fast work runs: model FLOP utilisation, calibrated by what probes measured.

A forward (and backward) pass over n tokens takes as long as one over n + r tokens would at full speed: r is the roofline's
ridge, peak / bandwidth (Williams et al. 2009), since a pass reads every weight once however few tokens it is for; on CPUs
what the framework does between kernels sets a floor. So ``effort = FLOPs + r x FLOPs a token x passes`` is what speed is a
ratio to. Of routed experts a pass reads all that any of its tokens is sent to, and full fine-tuning's optimizer moves all
weights and their state through memory once a step (``counted_passes``); each training has some set-up beside. In this form throughput saturates in the
batch: from its speed at one sequence a step it gives the published speeds of Mixtral at 2 to 17 (``costs.batches``).

Utilisation u = achieved / peak FLOP/s is modelled on the log scale as a sum of normal effects: the kind of work, the
accelerator, the model, and their interaction; a measurement moves all that share an effect with it, most of all itself.
Between two accelerators the effect is shared by exp(-distance), the distance being that of their log peaks and log
bandwidths: a utilisation measured on an H100 says much of an H200 and nothing of a CPU, and the interval widens with it.
Priors: torchtune's single-GPU recipes on a 4090 (README of 0.4.0) have LoRA 1.2 times as efficient as full fine-tuning and QLoRA
.78 of LoRA; the level, about a third of the peak, is an assumption that each plan's first probe corrects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.api.models import ModelFacts
from orrery.costs.accelerators import AcceleratorFacts
from orrery.costs.flops import Training, active_parameters, touched_parameters
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
    WorkKind.ADAPTER_TRAINING: 0.42,
    WorkKind.QUANTIZED_TRAINING: 0.33,
    WorkKind.INFERENCE: 0.30,
}
# Standard deviations of log-utilisation effects, by assumption, together wide: exp(+-1.64 * .79) spans 3.7 times.
_COMMON_SD = 0.35  # everything of this plan together (software, sequence lengths)
_ACCELERATOR_SD = 0.45
_UNKNOWN_ACCELERATOR_SD = 1.5
_KIND_SD = 0.35
_MODEL_SD = 0.40
#: Least tokens that a pass costs beside its own, on a CPU: what starting kernels takes, more of them with adapters. From
#: single steps of one thread, docs/benchmarks/costs.md: 87 and 116 tokens of two models with LoRA, 36 and 37 in full.
_LEAST_RIDGE = {WorkKind.FULL_TRAINING: 37.0, WorkKind.ADAPTER_TRAINING: 100.0, WorkKind.QUANTIZED_TRAINING: 100.0}
#: Seconds that a training takes beside its steps, whatever the model: adapters put in and merged (.46 for SmolLM2-135M), the
#: optimizer's state allocated and its pages touched for the first time.
SETUP_SECONDS = 0.5
#: Bytes a trained parameter that an optimizer's step moves: gradient in 16 and 32 bits, its norm and clipping, two moments,
#: fp32 weights read and written, 16-bit weights written; as a multiple of a pass that reads 16-bit weights at full
#: bandwidth, which takes as long as 6 FLOPs for each of the ridge's tokens. It is not slowed by a utilisation below one, by
#: which all effort is divided, so that it is multiplied with here.
_STEP_BYTES = 50.0
_STEP_PASSES = _STEP_BYTES / 6.0 * _PRIOR_UTILISATION[WorkKind.FULL_TRAINING]
_NOISE_SD = 0.20  # run to run, batch to batch: seen on repeated probes of one model


@dataclass(frozen=True)
class Observation:
    """Work that was measured, ``runs`` of it together: FLOPs done in seconds, and what ``effort`` counts beside them."""

    model: str
    accelerator: AcceleratorFacts
    kind: WorkKind
    flops: float
    seconds: float
    pass_flops: float = 0.0
    runs: float = 1.0


def ridge(accelerator: AcceleratorFacts, kind: WorkKind = WorkKind.INFERENCE) -> float:
    """Tokens a pass costs beside its own: peak / bandwidth, in FLOPs a byte, which for 16-bit weights is tokens.

    >>> h100 = AcceleratorFacts("h100", 989e12, 80e9, 3.35e12, True)
    >>> round(ridge(h100))
    295
    """
    return max(accelerator.peak_flops / accelerator.bandwidth, _LEAST_RIDGE.get(kind, 0.0))


def counted_passes(facts: ModelFacts | None, training: Training, steps: ArrayLike, tokens: ArrayLike = 0.0) -> Array:
    """Passes over the parameters that a token is multiplied with which ``steps`` steps over ``tokens`` in all count as.

    More where experts are routed: a step's tokens are multiplied with those they are sent to, but read all that any of them
    is sent to (``touched_parameters``). And more in full fine-tuning, whose optimizer moves every parameter once a step.

    >>> mixtral = ModelFacts(parameters=47_000_000_000, active_parameters=13_000_000_000, experts=8, experts_per_token=2)
    >>> counted_passes(mixtral, Training.ADAPTER, 100, [100, 100_000]).round(1).tolist()
    [100.0, 361.5]
    >>> round(float(counted_passes(None, Training.FULL, 100)), 1)
    391.7
    """
    n = np.asarray(steps, dtype=np.float64)
    moved = _STEP_PASSES if training is Training.FULL else 0.0
    if facts is None:
        return np.asarray(n * (1.0 + moved))
    read = touched_parameters(facts, np.asarray(tokens, dtype=np.float64) / np.maximum(n, 1.0))
    return np.asarray(n * (read + moved * facts.parameters) / active_parameters(facts))


def effort(
    accelerator: AcceleratorFacts,
    flops: ArrayLike,
    pass_flops: ArrayLike = 0.0,
    kind: WorkKind = WorkKind.INFERENCE,
    runs: float = 1.0,
) -> Array:
    """FLOPs that would take as long at full speed: passes over few tokens waste the rest of the accelerator.

    ``pass_flops`` are one trained token's FLOPs times the ``counted_passes``; each of ``runs`` trainings has its set-up.
    """
    done = np.asarray(flops, dtype=np.float64)
    setup = 0.0 if kind is WorkKind.INFERENCE else SETUP_SECONDS * accelerator.peak_flops * _PRIOR_UTILISATION[kind]
    wasted = ridge(accelerator, kind) * np.asarray(pass_flops, dtype=np.float64)
    return done + wasted + np.where(done > 0, runs * setup, 0.0)


def distance(a: AcceleratorFacts, b: AcceleratorFacts) -> float:
    """How unlike two accelerators are: the length of the difference of their log peaks and log bandwidths."""
    return float(np.hypot(np.log(a.peak_flops / b.peak_flops), np.log(a.bandwidth / b.bandwidth)))


@dataclass(frozen=True)
class _Key:
    model: str
    accelerator: AcceleratorFacts
    kind: WorkKind


def _covariance(a: _Key, b: _Key) -> float:
    value = _COMMON_SD**2
    if a.accelerator.name == b.accelerator.name:
        value += (_ACCELERATOR_SD if a.accelerator.known else _UNKNOWN_ACCELERATOR_SD) ** 2
    elif a.accelerator.known and b.accelerator.known:
        value += _ACCELERATOR_SD**2 * float(np.exp(-distance(a.accelerator, b.accelerator)))
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
                done = float(effort(o.accelerator, o.flops, o.pass_flops, o.kind, o.runs))
                achieved = np.log(done / o.seconds / o.accelerator.peak_flops)
                grouped.setdefault(_Key(o.model, o.accelerator, o.kind), []).append(float(achieved))
        keys = tuple(sorted(grouped, key=lambda k: (k.model, k.accelerator.name, k.kind)))
        if not keys:
            return Throughput((), np.zeros(0), np.zeros((0, 0)))
        # repeated measurements of one key enter as their mean
        y = np.array([np.mean(sorted(grouped[k])) - np.log(_PRIOR_UTILISATION[k.kind]) for k in keys])
        noise = np.diag([_NOISE_SD**2 / len(grouped[k]) for k in keys])
        inverse = np.linalg.inv(np.array([[_covariance(a, b) for b in keys] for a in keys]) + noise)
        return Throughput(keys, inverse @ y, inverse)

    def seconds(
        self,
        model: str,
        accelerator: AcceleratorFacts,
        kind: WorkKind,
        flops: ArrayLike,
        pass_flops: ArrayLike = 0.0,
        runs: float = 1.0,
    ) -> Posterior:
        """Seconds that ``flops`` (n,) take in ``runs`` trainings, as a log-normal posterior with a run's own variation.

        >>> gpu = AcceleratorFacts("h100", 989e12, 80e9, 3.35e12, True)
        >>> seen = Observation("m", gpu, WorkKind.INFERENCE, 989e12, 5.0)
        >>> t = Throughput.fit([seen] * 3).seconds("m", gpu, WorkKind.INFERENCE, np.array([989e12]))
        >>> bool(4.5 < t.median()[0] < 5.5)
        True
        """
        work = effort(accelerator, flops, pass_flops, kind, runs)
        key = _Key(model, accelerator, kind)
        mean, variance = float(np.log(_PRIOR_UTILISATION[kind])), _covariance(key, key)
        if self.keys:
            k = np.array([_covariance(key, other) for other in self.keys])
            mean += float(k @ self.weights)
            variance -= float(k @ self.inverse @ k)
        sd = float(np.sqrt(max(variance, 0.0) + _NOISE_SD**2))
        log_seconds = np.log(np.maximum(work, 1e-12)) - np.log(accelerator.peak_flops) - mean
        return Posterior(log_seconds, np.where(work > 0, sd, 0.0), Link.LOG)
