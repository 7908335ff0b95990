"""Multinomial logistic regression by L-BFGS: the light head of proxies and the start of encoders' heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]


def fit_logistic(
    features: ArrayLike, labels: ArrayLike, classes: int, penalty: float = 1e-2, steps: int = 200
) -> tuple[Array, Array]:
    """Weights (classes, d) and biases (classes,) of the regularised maximum-likelihood head.

    Minimises mean cross-entropy + penalty / 2 * ||W||^2 from zero, in at most ``steps`` L-BFGS iterations, so that few
    steps act as early stopping. Classes without an example get a bias that keeps them from being chosen by chance.

    Parameters
    ----------
    features: (n, d), of about unit variance a column.
    labels: (n,), in 0 .. classes - 1.
    """
    given, y = np.asarray(features, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    # The penalised solution lies in the span of the examples: with few of them that is a much smaller problem.
    basis = np.linalg.svd(given, full_matrices=False)[2]
    x = given @ basis.T
    n, d = x.shape
    truth = np.zeros((n, classes))
    truth[np.arange(n), y] = 1.0

    def objective(flat: Array) -> tuple[float, Array]:
        w, b = flat[: classes * d].reshape(classes, d), flat[classes * d :]
        scores = log_softmax(x @ w.T + b)
        slope = (np.exp(scores) - truth) / n
        value = -float((truth * scores).sum()) / n + 0.5 * penalty * float((w * w).sum())
        return value, np.concatenate([(slope.T @ x + penalty * w).ravel(), slope.sum(0)])

    # Only differences of scores matter, so the biases need no penalty; a missing class's would run to minus infinity.
    bounds = [(None, None)] * (classes * d) + [(-20.0, 20.0)] * classes
    solved = minimize(
        objective, np.zeros(classes * (d + 1)), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
    )
    return solved.x[: classes * d].reshape(classes, d) @ basis, solved.x[classes * d :]


def log_softmax(scores: ArrayLike) -> Array:
    """Log-probabilities over the last axis.

    >>> np.exp(log_softmax([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    s = np.asarray(scores, dtype=np.float64)
    s = s - s.max(-1, keepdims=True)
    return np.asarray(s - np.log(np.exp(s).sum(-1, keepdims=True)))
