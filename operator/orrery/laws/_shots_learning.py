"""One maximisation step of learning the prior of shot curves from measured ones (empirical Bayes by EM)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from orrery.laws._shots_forms import FORM_OF, FORMS, ShotsPrior
from orrery.laws.posterior import Array

#: How many curves the starting prior is worth: a handful of measured tasks moves it, one task does not replace it.
PSEUDO_CURVES = 4.0


def maximise(start: ShotsPrior, level: Array, weight: Array, mean: Array, cov: Array) -> ShotsPrior:
    """The prior that explains the curves best, given what each curve says about itself.

    Args:
        start: the prior whose numbers act as ``PSEUDO_CURVES`` further curves.
        level: (n,) logit of chance, from which the level is counted.
        weight: (t, n, c) joint probability of deviation sd and component.
        mean: (t, n, c, 3) coefficients; cov: (t, n, c, 6) their covariance.
    """
    offset = mean[..., 0] - level[None, :, None]
    level_mean, level_sd = _blend(weight, offset, cov[..., 0], start.level_offset, start.level_sd)
    gains, dents = [], []
    for form in range(len(FORMS)):
        here = np.where(form == FORM_OF, weight, 0.0)
        gain = (start.gain_mean[form], start.gain_sd[form])
        dent = (start.dent_mean[form], start.dent_sd[form])
        gains.append(_blend(here, mean[..., 1], cov[..., 3], *gain) if form else gain)
        dents.append(_blend(here, mean[..., 2], cov[..., 5], *dent) if form >= 3 else dent)
    by_component = weight.sum((0, 1)) + PSEUDO_CURVES * np.asarray(start.component_weights)
    by_deviation = weight.sum((1, 2)) + PSEUDO_CURVES * np.asarray(start.deviation_weights)

    rising = np.where(FORM_OF > 0, weight, 0.0)
    centre = np.array([g for g, _ in gains])[FORM_OF]
    spread = np.array([s for _, s in gains])[FORM_OF]
    product = ((offset - level_mean) * (mean[..., 1] - centre) + cov[..., 1]) / (level_sd * spread)
    rho = (rising * product).sum() + PSEUDO_CURVES * start.level_gain_correlation
    return replace(
        start,
        level_offset=level_mean,
        level_sd=level_sd,
        gain_mean=tuple(g for g, _ in gains),
        gain_sd=tuple(s for _, s in gains),
        dent_mean=tuple(d for d, _ in dents),
        dent_sd=tuple(s for _, s in dents),
        level_gain_correlation=float(np.clip(rho / (rising.sum() + PSEUDO_CURVES), -0.9, 0.9)),
        component_weights=tuple((by_component / by_component.sum()).tolist()),
        deviation_weights=tuple((by_deviation / by_deviation.sum()).tolist()),
    )


def _blend(weight: Array, mean: Array, var: Array, start_mean: float, start_sd: float) -> tuple[float, float]:
    total = weight.sum() + PSEUDO_CURVES
    centre = ((weight * mean).sum() + PSEUDO_CURVES * start_mean) / total
    scatter = (weight * (var + (mean - centre) ** 2)).sum()
    scatter += PSEUDO_CURVES * (start_sd**2 + (start_mean - centre) ** 2)
    return float(centre), float(np.sqrt(scatter / total))
