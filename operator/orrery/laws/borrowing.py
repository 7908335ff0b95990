"""What a model's family and size tell about a curve that was never measured.

Ridge regression of the measured models' deviations on log parameters and family, its strengths chosen by the evidence:
where family and size tell nothing, the strengths vanish and the guess is the task's course with the models' spread. This is
Gaussian process regression with linear kernels (Rasmussen and Williams 2006, section 2.1), its hyperparameters averaged over a grid by
the evidence (section 5.2); that curves of a family resemble each other is in Choshen et al., arXiv 2410.11840.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.laws.posterior import Array

_OWN = (0.02, 0.05, 0.1, 0.2, 0.4)
_SHARED = (0.0, 0.03, 0.06, 0.12, 0.25)
_MOST = 400  # measured models that are learned from


def borrow(
    deviations: Array,
    variance: Array,
    measured: NDArray[np.bool_],
    parameters: ArrayLike | None,
    family: Sequence[str] | None,
    *,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """Mean and variance of the deviations of the u unmeasured curves among n, each (u, p).

    Args:
        deviations, variance: (n, p); from the task's course, on the link scale, and their variances; rows that are not
            ``measured`` are not read.
        measured: (n,); which curves have a measurement.
        parameters, family: (n,), optional; model sizes and family names.
        scale: size of deviations relative to those of log losses.

    Raises:
        ValueError: a size that is not positive, or not one size and name a curve.
    """
    features = _features(len(measured), parameters, family)
    known = np.flatnonzero(measured)
    known = known[np.linspace(0, len(known) - 1, min(_MOST, len(known))).astype(np.int64)]
    unknown = np.flatnonzero(~measured)
    mean, spread = np.empty((2, len(unknown), deviations.shape[1]))
    for p in range(deviations.shape[1]):
        d, noise = deviations[known, p], variance[known, p]
        scores, means, variances = [], [], []
        for own, *shared in itertools.product(_OWN, *([_SHARED] * len(features))):
            similar = sum(
                (s**2 * (f @ f.T) for s, f in zip(shared, features, strict=True)), np.zeros((len(measured),) * 2)
            )
            covariance = scale**2 * (similar[np.ix_(known, known)] + own**2 * np.eye(len(known))) + np.diag(noise)
            root = np.linalg.cholesky(covariance)
            white = np.linalg.solve(root, d)
            lifted = np.linalg.solve(root, scale**2 * similar[np.ix_(known, unknown)])
            scores.append(-0.5 * white @ white - np.log(np.diag(root)).sum())
            means.append(white @ lifted)
            variances.append(scale**2 * (np.diag(similar)[unknown] + own**2) - (lifted**2).sum(axis=0))
        weight = np.exp(np.array(scores) - max(scores))
        weight /= weight.sum()
        mean[:, p] = weight @ np.array(means)
        spread[:, p] = weight @ (np.array(variances) + (np.array(means) - mean[:, p]) ** 2)
    return mean, spread


def _features(count: int, parameters: ArrayLike | None, family: Sequence[str] | None) -> list[Array]:
    found = []
    if parameters is not None:
        size = np.asarray(parameters, dtype=np.float64)
        if size.shape != (count,) or not (np.isfinite(size).all() and (size > 0).all()):
            raise ValueError(
                f"parameters must be one positive number a model, {count} in all; found shape {size.shape}"
            )
        logs = np.log(size)
        found.append(((logs - logs.mean()) / (logs.std() or 1.0))[:, None])
    if family is not None:
        if len(family) != count:
            raise ValueError(f"family must be one name a model, {count} in all; found {len(family)}")
        names = sorted(set(family))
        found.append(np.array([[float(f == n) for n in names] for f in family]))
    return found
