"""LENSLLM's NTK-rectified law: what pre-training is worth, read off the model before tuning instead of fitted.

L(D) = B / (F + D^beta) + E with F = || exp(-eta K t) (f0(X) - y) ||^2, K the empirical neural tangent kernel on a sample
X, f0 the untuned model's outputs, exp the matrix exponential (arXiv 2505.03793). F is what gradient descent in the
kernel regime leaves of the residual after time t: small for a model whose features already span the task.

K is symmetric, so one eigendecomposition gives F for every time at once; the paper's released code takes exp elementwise,
which is another function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import power
from orrery.laws.posterior import Array, Link
from orrery.laws.power import PowerPosterior


def transfer_gap(kernel: ArrayLike, residual: ArrayLike, learning_rate: float, time: ArrayLike) -> Array:
    """F = || exp(-eta K t) r ||^2 for times ``time`` (k,), shape (k,).

    Parameters
    ----------
    kernel : (n, n)
        Empirical neural tangent kernel: symmetric, positive semi-definite up to rounding.
    residual : (n,) or (n, outputs)
        f0(X) - y; with several outputs the squares are summed.
    learning_rate, time
        eta > 0 and t >= 0; only their product matters.

    Examples
    --------
    >>> transfer_gap([[2.0, 0.0], [0.0, 0.0]], [1.0, 3.0], 0.5, [0.0, 100.0]).tolist()
    [10.0, 9.0]
    """
    k = np.asarray(kernel, dtype=np.float64)
    r = np.asarray(residual, dtype=np.float64)
    t = np.atleast_1d(np.asarray(time, dtype=np.float64))
    if k.ndim != 2 or k.shape[0] != k.shape[1] or r.shape[:1] != k.shape[:1] or r.ndim > 2:
        raise ValueError(f"kernel has shape {k.shape}, residual {r.shape}: give (n, n) and (n,) or (n, outputs)")
    if not (np.isfinite(k).all() and np.isfinite(r).all() and np.isfinite(t).all()):
        raise ValueError("kernel, residual and time must be finite")
    if learning_rate <= 0 or (t < 0).any():
        raise ValueError(f"learning_rate must be > 0 and time >= 0; found {learning_rate} and {t.min():g}")
    size = float(np.abs(k).max(initial=0.0))
    if not np.allclose(k, k.T, atol=1e-6 * size):
        raise ValueError("kernel must be symmetric: it holds inner products of gradients")
    values, vectors = np.linalg.eigh((k + k.T) / 2)
    if values[0] < -1e-6 * max(size, 1e-300) * len(k):
        raise ValueError(f"kernel must be positive semi-definite; its smallest eigenvalue is {values[0]:g}")
    power_by_mode = ((vectors.T @ r.reshape(len(k), -1)) ** 2).sum(axis=1)
    return np.asarray(np.exp(-2 * learning_rate * np.outer(t, np.maximum(values, 0.0))) @ power_by_mode)


def gap_of_modes(eigenvalues: ArrayLike, powers: ArrayLike, time: ArrayLike) -> Array:
    """F for times ``time`` (k,) = eta t, shape (k,), from a kernel's eigenvalues and the residual's power along each.

    What a kernel probe reports: K / n and mean squares, so that samples of different sizes give comparable numbers.

    >>> gap_of_modes([2.0, 0.0], [1.0, 9.0], [0.0, 50.0]).tolist()
    [10.0, 9.0]
    """
    values, power_by_mode, t = (np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in (eigenvalues, powers, time))
    if values.shape != power_by_mode.shape or values.ndim != 1 or t.ndim != 1:
        raise ValueError(
            f"eigenvalues have shape {values.shape}, powers {power_by_mode.shape}, time {t.shape}: give one power each"
        )
    for name, given in (("eigenvalues", values), ("powers", power_by_mode), ("time", t)):
        if not np.isfinite(given).all() or (given < 0).any():
            raise ValueError(f"{name} must be finite and >= 0; found {given.tolist()}")
    return np.asarray(np.exp(-2 * np.outer(t, values)) @ power_by_mode)


def fit(
    sizes: ArrayLike, losses: ArrayLike, gap: ArrayLike, *, link: Link = Link.LOG, noise_sd: ArrayLike | None = None
) -> PowerPosterior:
    """Posterior of the NTK-rectified law for n curves (n, m) with measured ``gap`` F (n,), in units of D^beta."""
    return power.fit(sizes, losses, link=link, noise_sd=noise_sd, worth=gap)
