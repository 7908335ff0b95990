"""What is expected of fine-tuned classifiers before any was trained: the numbers of ``strategies.tuning_curves``'s law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.laws.posterior import Array


@dataclass(frozen=True)
class TuningPrior:
    """Moments over models and tasks, on the logit scale where nothing else is said.

    ``law_mean`` and ``law_sd`` are those of the rectified law (start, logit floor, ln D0, ln beta) of error rates;
    ``need_mean`` and ``need_sd`` of the ln of learning rate (as a share of the harmful one) x steps that learns most. Standard
    deviations of effects: ``effect_sd`` of a configuration, shared with its neighbours; ``kind_sd`` of a kind of training as
    a whole on a model and task; ``own_sd`` of one configuration at one size, shared with nothing: what no forecast
    knows before it is measured. ``quantized_mean``, ``full_mean`` and ``proxy_mean`` are how far these kinds lie from LoRA
    on average, ``proxy_sd`` how far the proxy lies from that on one model and task; ``peer_sd`` how far two models' proxies
    lie from each other on one task.
    """

    law_mean: tuple[float, ...] = (0.8, -2.8, 5.52, 0.18)
    law_sd: tuple[float, ...] = (1.6, 1.3, 2.2, 0.4)
    need_mean: float = 0.69
    need_sd: float = 1.3
    effect_sd: float = 0.22
    kind_sd: float = 0.12
    own_sd: float = 0.07
    quantized_mean: float = 0.0
    full_mean: float = 0.0
    proxy_mean: float = 0.0
    proxy_sd: float = 0.4
    peer_sd: float = 0.35

    def law(self) -> tuple[Array, Array]:
        """Mean (4,) and covariance (4, 4) of the law's parameters."""
        return np.array(self.law_mean), np.diag(self.law_sd) ** 2


#: By assumption, wide: tasks that are learnt are learnt nearly to the end, from 20 examples or from 2,000, others not at all.
ASSUMED = TuningPrior()
