"""Throughput of fine-tuning over batch sizes, as a logarithm fitted to sweeps: Xia et al. 2024, arXiv 2408.04693, equation 2.

    sequences a second = C4 + C2 ln(batch^e),   e = 1 dense, 1 / (sparsity x C3) sparse

Sparsity is the share of experts that a token is sent to, C3 how much of it the whole model feels. The paper prints the
batch's term as ``batch / (sparsity x C3)``; its text (the logarithm is zero at a batch of one) and its released code
(github.com/stsxxx/finetune, analytical_model/analytical_throughput/plot.py) have the exponent, and so have its published errors.

Planning knows no sweep: it has a batch and one probe's speed, and ``throughput.counted_passes`` for what other batches
read. This is the form to fit where a sweep was measured, and what that model is held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BatchFit:
    """The fitted constants, and the root of the mean squared error in sequences a second."""

    intercept: float  #: C4: sequences a second at a batch of one
    slope: float  #: C2
    attenuation: float  #: C3; 1 where only one sparsity was measured
    rmse: float

    def at(self, batch_size: ArrayLike, sparsity: ArrayLike = 1.0) -> Array:
        """Sequences a second at other batches; never below zero."""
        term = _exponent(sparsity, self.attenuation) * np.log(np.asarray(batch_size, dtype=np.float64))
        return np.maximum(self.intercept + self.slope * term, 0.0)


def fit_batches(batch_size: ArrayLike, throughput: ArrayLike, sparsity: ArrayLike = 1.0) -> BatchFit:
    """Least squares over a sweep of one model on one accelerator, dense (sparsity 1) and with one sparsity beside it.

    Raises ``ValueError`` for fewer than two batches and for more than one sparsity below 1.

    >>> fit = fit_batches([1, 2, 4, 1, 2, 4], [1.0, 1.5, 2.0, 1.0, 2.0, 3.0], [1, 1, 1, 0.25, 0.25, 0.25])
    >>> round(fit.attenuation, 3), fit.at([8, 8], [1, 0.25]).round(2).tolist()
    (2.0, [2.5, 4.0])
    """
    b, t = np.asarray(batch_size, dtype=np.float64), np.asarray(throughput, dtype=np.float64)
    s = np.broadcast_to(np.asarray(sparsity, dtype=np.float64), b.shape)
    sparse = s < 1
    shares = np.unique(s[sparse])
    if len(np.unique(b)) < 2:
        raise ValueError("throughput over batches needs at least two different batch sizes")
    if len(shares) > 1:
        raise ValueError(f"one sparsity can be fitted beside the dense model, and {shares.tolist()} were given")
    logs = np.log(b)
    columns = [np.ones_like(b)] + [logs * mask for mask in (~sparse, sparse) if logs[mask].any()]
    solved, *_ = np.linalg.lstsq(np.stack(columns, axis=1), t, rcond=None)
    rmse = float(np.sqrt(np.mean((np.stack(columns, axis=1) @ solved - t) ** 2)))
    slope, attenuation = float(solved[1]), 1.0
    if len(solved) == 3:
        attenuation = float(solved[1] / (solved[2] * shares[0]))
    elif logs[sparse].any():
        slope *= float(shares[0])
    return BatchFit(float(solved[0]), slope, attenuation, rmse)


def _exponent(sparsity: ArrayLike, attenuation: float) -> Array:
    s = np.asarray(sparsity, dtype=np.float64)
    return np.where(s < 1, 1.0 / (s * attenuation), 1.0)


def fine_tuning_cost(examples: float, epochs: float, throughput: float, price_per_hour: float) -> float:
    """Money of a fine-tuning run: examples x epochs / throughput x price (arXiv 2408.04693, section V.C).

    >>> round(fine_tuning_cost(15_000, 10, 2.74, 1.67), 1)
    25.4
    """
    return examples * epochs / throughput / 3600 * price_per_hour
