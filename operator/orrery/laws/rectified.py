"""The rectified scaling law of a learning curve, with a posterior instead of a point.

Loss, or error rate, after tuning on D examples falls as L(D) = B / (D_l + D^beta) + E (arXiv 2402.02314, eq. 1).
D_l is what pre-training is already worth in data: until D passes it the curve is flat, which a plain power law cannot
say. Early points do not identify E and beta (a bounded least-squares fit extrapolates worse than a sloppy one), so
every fit is Bayesian: the prior carries what curves of other models and tasks look like, and with no data it speaks
alone. Least squares for thousands of curves is one batch of damped Gauss-Newton steps, not a loop over curves.

Parameters are free of bounds and scale: L(D) = L0 (e + (1 - e) / (1 + (D / D0)^beta)) with L0 the start of the curve,
e = E / L0 and D0 = D_l^(1/beta), a number of examples. This is the published form with B = L0 (1 - e) D_l.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, ndtri

from orrery.laws.observations import Curves, check_curves, check_targets
from orrery.laws.posterior import Array, Link, Posterior

_PARAMETERS = 4
_LARGEST_EXPONENT = 50.0
_WIDE = 3.0
_STEPS = 20
_BLOCK = 128  # curves worked on at once: the draws of one block stay in cache


@dataclass(frozen=True)
class RectifiedPrior:
    """Normal prior over (start, logit e, ln D0, ln beta) and what the law leaves out.

    ``start`` is ln L0 for losses and logit(L0 / (1 - chance)) for error rates. ``zero_shot_gap`` and ``zero_shot_sd``
    say where a zero-shot measurement lies above the start of the curve on the link scale: an untuned model has not yet
    seen the task's format, so its score is only loosely tied to the curve. What the law leaves out is ``misfit_sd``, new
    at every size, and a slow drift: a Matern 3/2 process of ln D with standard deviation ``drift_sd`` and length
    ``drift_length`` (in units of ln D). The drift lets the last measured slopes outweigh the law where the two differ.
    """

    mean: Array
    covariance: Array
    zero_shot_gap: float
    zero_shot_sd: float
    misfit_sd: float
    drift_sd: float
    drift_length: float
    unseen_sd: float

    def __post_init__(self) -> None:
        if self.mean.shape != (_PARAMETERS,) or self.covariance.shape != (_PARAMETERS, _PARAMETERS):
            raise ValueError(
                f"a rectified prior has 4 means and 4 x 4 covariance: {self.mean.shape} and {self.covariance.shape}"
            )
        if np.linalg.eigvalsh(self.covariance).min() <= 0:
            raise ValueError("the covariance of a rectified prior must be positive definite")


#: Losses in nats per token: starts between 1 and 9, pre-training worth 10 to 10^6 examples, beta .1 to 1.
LOSS_PRIOR = RectifiedPrior(
    mean=np.array([np.log(3.0), -0.8, np.log(5e3), np.log(0.4)]),
    covariance=np.diag([0.55, 1.2, 2.5, 0.45]) ** 2,
    zero_shot_gap=0.5,
    zero_shot_sd=0.5,
    misfit_sd=0.004,
    drift_sd=0.02,
    drift_length=4.2,
    unseen_sd=0.5,
)

#: Error rates: anything between hopeless and nearly solved; pre-training is worth some hundreds of examples.
ERROR_PRIOR = RectifiedPrior(
    mean=np.array([0.8, -0.8, np.log(500.0), np.log(0.6)]),
    covariance=np.diag([1.6, 1.4, 2.0, 0.5]) ** 2,
    zero_shot_gap=0.2,
    zero_shot_sd=0.8,
    misfit_sd=0.03,
    drift_sd=0.12,
    drift_length=4.2,
    unseen_sd=0.5,
)


def default_prior(link: Link) -> RectifiedPrior:
    """The weak prior used when none is given: one for losses, one for shares."""
    if link is Link.LOG:
        return LOSS_PRIOR
    if link is Link.LOGIT:
        return ERROR_PRIOR
    raise ValueError(
        "the rectified law needs link 'log' (losses) or 'logit' (shares such as accuracy); found 'identity'"
    )


def curve(parameters: Array, sizes: ArrayLike, link: Link, chance: float = 0.0) -> Array:
    """Link-scale score at ``sizes`` (..., m) for ``parameters`` (..., 4); size 0 gives the start of the curve.

    >>> float(np.exp(curve(np.array([np.log(3), -50.0, np.log(1000), 0.0]), [1000.0], Link.LOG))[0]).__round__(6)
    1.5
    """
    start, share, fall, _ = _shape(parameters, np.asarray(sizes, dtype=np.float64))
    return _score(start, share + (1 - share) * fall, link, chance)


def _shape(parameters: Array, sizes: Array) -> tuple[Array, Array, Array, Array]:
    """Start, floor share e, fall 1 / (1 + (D / D0)^beta) and its exponent, shapes that broadcast to (..., m)."""
    start, floor, scale, log_beta = (parameters[..., i, None] for i in range(_PARAMETERS))
    with np.errstate(divide="ignore"):
        exponent = _power(log_beta) * (np.log(sizes) - scale)
    exponent = np.clip(exponent, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
    return start, expit(floor), expit(-exponent), exponent


def _power(log_beta: Array) -> Array:
    """beta; a wide proposal may ask for more than a float holds, and its exponent is cut anyway."""
    return np.exp(np.minimum(log_beta, _LARGEST_EXPONENT))


def _score(start: Array, relative: Array, link: Link, chance: float) -> Array:
    if link is Link.LOG:
        return np.asarray(start + np.log(relative))
    error = np.clip((1 - chance) * expit(start) * relative, 1e-12, 1 - 1e-12)
    return np.asarray(np.log1p(-error) - np.log(error))


def _evaluate(parameters: Array, sizes: Array, link: Link, chance: float) -> tuple[Array, Array]:
    """Score (..., m) and its derivative (..., m, 4) by the parameters, both on the link scale."""
    start, share, fall, exponent = _shape(parameters, sizes)
    relative = share + (1 - share) * fall
    by_floor = (1 - fall) * share * (1 - share) / relative
    by_exponent = -(1 - share) * fall * (1 - fall) / relative
    by_scale, by_beta = -_power(parameters[..., 3, None]) * by_exponent, by_exponent * exponent
    value = _score(start, relative, link, chance)
    by_start, chain = np.ones_like(value), np.ones_like(value)
    if link is Link.LOGIT:
        top = expit(start)
        by_start = (1 - top) * by_start
        chain = -1 / np.maximum(1 - (1 - chance) * top * relative, 1e-12)
    jacobian = np.stack(np.broadcast_arrays(by_start, by_floor, by_scale, by_beta), axis=-1)
    return value, jacobian * chain[..., None]


def _unit_draws(count: int, seed: int) -> Array:
    """Quasi-random standard normal points (count, 4)."""
    from scipy.stats import qmc  # 30 MiB and a second, which an operator without such plans need not spend

    with np.errstate(all="ignore"):
        uniform = qmc.Sobol(_PARAMETERS, seed=np.random.default_rng(seed)).random(count)
    return np.asarray(ndtri(np.clip(uniform, 1e-6, 1 - 1e-6)), dtype=np.float64)


@dataclass(frozen=True)
class RectifiedPosterior:
    """Weighted parameter draws (n, K, 4) of n curves, what they were fitted to, and how badly the law fits each."""

    draws: Array
    weights: Array
    misfit: Array
    link: Link
    chance: float
    prior: RectifiedPrior = field(repr=False)
    data: Curves = field(repr=False)
    whitening: Array = field(repr=False)

    def predict(self, sizes: ArrayLike) -> Posterior:
        """Posterior of the curve at ``sizes`` (p,): mean and sd have shape (n, p).

        The standard deviation holds the spread of the draws and the law's misfit and drift; sampling noise of a new
        measurement is not in it.
        """
        at = check_targets(sizes, zero=True)
        parts = [self._block(slice(i, i + _BLOCK), at) for i in range(0, len(self.draws), _BLOCK)]
        mean, variance = (np.concatenate(p) for p in zip(*parts, strict=True))
        return Posterior(mean, np.sqrt(variance), self.link)

    def _block(self, rows: slice, at: Array) -> tuple[Array, Array]:
        data, whitening = self.data.rows(rows), self.whitening[rows]
        cross = _drift(data.sizes[:, :, None], at[None, None, :], self.prior) * data.seen[:, :, None]
        lifted = whitening @ cross
        residual = data.values[:, None] - curve(self.draws[rows], data.sizes[:, None], self.link, self.chance)
        values = curve(self.draws[rows], at, self.link, self.chance)
        values += residual @ np.swapaxes(whitening, 1, 2) @ lifted
        mean = np.einsum("nk,nkp->np", self.weights[rows], values)
        spread = np.einsum("nk,nkp->np", self.weights[rows], (values - mean[:, None]) ** 2)
        own = self.prior.misfit_sd**2 + np.maximum(self.prior.drift_sd**2 - (lifted**2).sum(axis=1), 0.0)
        unseen = np.where(data.seen.any(axis=1, keepdims=True), 0.0, self.prior.unseen_sd**2)
        return mean, (spread + own) * self.misfit[rows, None] + unseen


def _drift(a: Array, b: Array, prior: RectifiedPrior) -> Array:
    """Covariance of the drift between sizes; a zero-shot score (size 0) has a gap of its own and shares none."""
    both = (a > 0) & (b > 0)
    ratio = np.log(np.where(a > 0, a, 1.0)) - np.log(np.where(b > 0, b, 1.0))
    distance = np.sqrt(3) * np.abs(ratio) / prior.drift_length
    return np.asarray(np.where(both, prior.drift_sd**2 * (1 + distance) * np.exp(-distance), 0.0))


def _whitening(data: Curves, prior: RectifiedPrior) -> Array:
    """W (n, m, m) with W r of unit covariance for a residual r; columns of what was not measured are 0."""
    own = np.where(data.sizes == 0, prior.zero_shot_sd**2, prior.misfit_sd**2)
    noise = np.where(data.seen, np.where(data.seen, data.noise_sd, 0.0) ** 2 + own, 1.0)
    together = data.seen[:, :, None] & data.seen[:, None, :]
    covariance = np.where(together, _drift(data.sizes[:, :, None], data.sizes[:, None, :], prior), 0.0)
    root = np.linalg.cholesky(covariance + noise[:, :, None] * np.eye(noise.shape[1]))
    return np.linalg.inv(root) * data.seen[:, None, :]


def fit(
    sizes: ArrayLike,
    scores: ArrayLike,
    *,
    link: Link,
    noise_sd: ArrayLike | None = None,
    prior: RectifiedPrior | None = None,
    chance: float = 0.0,
    draws: int = 256,
    seed: int = 0,
) -> RectifiedPosterior:
    """Posterior of the rectified law for n curves at once.

    Args:
        sizes: (m,) or (n, m); training examples; 0 is the zero-shot score; any order, repeats allowed.
        scores: (n, m) or (m,); losses (``Link.LOG``) or shares such as accuracy (``Link.LOGIT``); NaN where not
            measured. A row of NaN, or m = 0, is legal: the forecast is then the prior's.
        noise_sd: (n, m), optional; standard error of each score on the link scale; none means the law's own misfit is
            all there is.
        chance: score of guessing: accuracy starts there at worst.

    Notes:
        Prior draws are screened, the best starts damped Gauss-Newton on the log posterior, and draws from the Laplace
        approximation are reweighted to the true posterior. Where the residuals are larger than noise and drift allow (a
        rising loss, a wrong law), all spread is widened by their ratio.
    """
    prior = default_prior(link) if prior is None else prior
    default_prior(link)
    if not 0 <= chance < 1:
        raise ValueError(f"chance is the score of guessing, a share in [0, 1); found {chance}")
    data = check_curves(sizes, scores, link=link, noise_sd=noise_sd)
    shift = prior.zero_shot_gap if link is Link.LOG else -prior.zero_shot_gap
    data = replace(data, values=data.values - shift * ((data.sizes == 0) & data.seen))
    whitening = _whitening(data, prior)
    target = _Target(prior, np.asarray(np.linalg.inv(prior.covariance), dtype=np.float64), link, chance)
    unit = _unit_draws(draws, seed)
    blocks = [slice(i, i + _BLOCK) for i in range(0, len(data.values), _BLOCK)]
    parts = [_fit_block(data.rows(rows), whitening[rows], target, unit) for rows in blocks]
    theta, weights, misfit = (np.concatenate(p) for p in zip(*parts, strict=True))
    return RectifiedPosterior(theta, weights, misfit, link, chance, prior, data, whitening)


@dataclass(frozen=True)
class _Target:
    """The unnormalised log posterior and its pieces."""

    prior: RectifiedPrior
    precision: Array
    link: Link
    chance: float

    def log_density(self, theta: Array, data: Curves, whitening: Array) -> Array:
        """For theta (n, k, 4), shape (n, k)."""
        residual = data.values[:, None] - curve(theta, data.sizes[:, None], self.link, self.chance)
        whitened = residual @ np.swapaxes(whitening, 1, 2)
        offset = theta - self.prior.mean
        return np.asarray(-0.5 * ((whitened**2).sum(axis=2) + ((offset @ self.precision) * offset).sum(axis=2)))


def _fit_block(data: Curves, whitening: Array, target: _Target, unit: Array) -> tuple[Array, Array, Array]:
    prior = target.prior
    starts = np.vstack([prior.mean, prior.mean + unit[:64] @ np.linalg.cholesky(prior.covariance).T])
    score = target.log_density(np.broadcast_to(starts, (len(data.values), *starts.shape)), data, whitening)
    theta, hessian = _climb(starts[np.argmax(score, axis=1)], score.max(axis=1), data, whitening, target)
    # The posterior of an unidentified floor is long and bent, and a Laplace proposal never reaches its ends: half of
    # the proposals come from a normal three times as wide, weighted by the mixture they were drawn from.
    points = unit.copy()
    points[len(unit) // 2 :] *= _WIDE
    radius = 0.5 * (points**2).sum(axis=1)
    log_mixture = np.logaddexp(-radius, -radius / _WIDE**2 - _PARAMETERS * np.log(_WIDE))
    proposals = theta[:, None] + points @ np.swapaxes(np.linalg.cholesky(np.linalg.inv(hessian)), 1, 2)
    log_weight = target.log_density(proposals, data, whitening) - log_mixture
    weights = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    residual = data.values - curve(theta, data.sizes, target.link, target.chance)
    chi_square = (np.einsum("nij,nj->ni", whitening, residual) ** 2).sum(axis=1)
    return proposals, weights, np.maximum(1.0, (3 + chi_square) / (3 + data.seen.sum(axis=1)))


def _climb(theta: Array, best: Array, data: Curves, whitening: Array, target: _Target) -> tuple[Array, Array]:
    """Damped Gauss-Newton for all curves at once: the modes (n, 4) and the curvature there (n, 4, 4)."""
    prior, precision = target.prior, target.precision

    def linearised(at: Array) -> tuple[Array, Array]:
        value, jacobian = _evaluate(at, data.sizes, target.link, target.chance)
        lifted = whitening @ jacobian
        residual = np.einsum("nij,nj->ni", whitening, data.values - value)
        gradient = np.einsum("nmi,nm->ni", lifted, residual) - (at - prior.mean) @ precision
        return np.swapaxes(lifted, 1, 2) @ lifted + precision, gradient

    damping = np.full(len(theta), 1e-2)
    for _ in range(_STEPS):
        hessian, gradient = linearised(theta)
        damped = hessian + (damping[:, None] * np.einsum("nii->ni", hessian))[..., None] * np.eye(_PARAMETERS)
        trial = theta + np.linalg.solve(damped, gradient[..., None])[..., 0]
        reached = target.log_density(trial[:, None], data, whitening)[:, 0]
        better = reached > best
        gain = float(np.max(np.where(better, reached - best, 0.0), initial=0.0))
        theta = np.where(better[:, None], trial, theta)
        best = np.where(better, reached, best)
        damping = np.clip(np.where(better, damping / 5, damping * 8), 1e-8, 1e6)
        if gain < 1e-3 and better.mean() < 1:
            break
    return theta, linearised(theta)[0]
