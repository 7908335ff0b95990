"""LENSLLM's NTK-rectified law: what pre-training is worth, read off the model before tuning instead of fitted.

L(D) = B / (F + D^beta) + E with F = || exp(-eta K t) (f0(X) - y) ||^2, K the empirical neural tangent kernel on a sample
X, f0 the untuned model's outputs, exp the matrix exponential (arXiv 2505.03793). F is what gradient descent in the
kernel regime leaves of the residual after time t: small for a model whose features already span the task.

K is symmetric, so one eigendecomposition gives F for every time at once (the probe reports its modes); the paper's released code
takes exp elementwise, which is another function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws import power
from orrery.laws.posterior import Array, Link
from orrery.laws.power import PowerPosterior


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
