"""The forms a shot curve may take, and what is believed about them before anything is measured.

Every form is linear in three coefficients once its shape (a speed, a place) is fixed, so a grid of shapes turns all
forms together into a finite mixture of linear-Gaussian models whose evidence is exact: no sampling, no local optimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orrery.laws.posterior import Array

FORMS = ("constant", "exponential", "power", "dip-then-rise", "peak-then-fall")

#: The shots at which ``gain`` is read: the largest prompt small models are usually given.
REFERENCE_SHOTS = 32.0

#: (form, speed of the rise, place or speed of the dent); zero where the form has none.
COMPONENTS: tuple[tuple[int, float, float], ...] = (
    (0, 0.0, 0.0),
    *((1, c, 0.0) for c in (0.03, 0.1, 0.25, 0.6, 2.0)),
    *((2, b, 0.0) for b in (0.05, 0.5, 1.0, 2.0)),
    *((3, c, d) for c in (0.1, 0.25, 0.6) for d in (0.7, 2.0)),
    *((4, c, p) for c in (0.25, 0.6, 2.0) for p in (4.0, 8.0, 16.0)),
)

#: Which form each component belongs to, shape (components,).
FORM_OF = np.array([form for form, _, _ in COMPONENTS])

#: Grid of the sd (logit) by which the accuracy at one k > 0 leaves its smooth curve.
DEVIATIONS = np.array([0.05, 0.2, 0.6, 1.6])


def design(shots: Array) -> Array:
    """Basis of (level, gain, dent) for each component at each number of shots, shape (components, p, 3).

    exponential: (1 - e^{-ck}) / (1 - e^{-32c}), COSMOS's a - b e^{-ck} (arXiv 2505.01449) with b read at 32 shots;
    power: the same with (1 + k)^-b; dip: -e^{-(k-1)/d} from the first demonstration on; fall: -log2(k / peak) past the
    peak.
    """
    out = np.zeros((len(COMPONENTS), shots.size, 3))
    out[:, :, 0] = 1.0
    for row, (form, rise, dent) in zip(out, COMPONENTS, strict=True):
        if form == 2:
            row[:, 1] = (1 - (1 + shots) ** -rise) / (1 - (1 + REFERENCE_SHOTS) ** -rise)
        elif form:
            row[:, 1] = np.expm1(-rise * shots) / np.expm1(-rise * REFERENCE_SHOTS)
        if form == 3:
            row[:, 2] = -np.minimum(shots, 1.0) * np.exp(-np.maximum(shots - 1, 0) / dent)
        elif form == 4:
            row[:, 2] = -np.log2(np.maximum(shots, dent) / dent)
    return out


def _spread_over_components(form_weights: tuple[float, ...]) -> tuple[float, ...]:
    size = np.bincount(FORM_OF)
    return tuple(float(form_weights[f] / size[f]) for f in FORM_OF)


@dataclass(frozen=True)
class ShotsPrior:
    """Beliefs about a shot curve before it is measured, all on the logit scale.

    The numbers are moderate on purpose. SmolLM2-135M-Instruct on a seven-intent task gave .36 without demonstrations
    (chance .14: level 1.2 above chance), .24 with one (a dent of .6) and .70 +- .06 with eight retrieved by BM25 (gain
    1.4). Larger models start higher and gain less, and random demonstrations gain less than retrieved ones, so the
    centres are pulled in and the spreads hold all of these within about one sd. Who dips can gain more: what was lost.
    ``learn_prior`` replaces these numbers by measured ones.

    Attributes:
        level_offset: mean of (zero-shot accuracy - chance).
        level_sd: its sd; ``level_sd_open`` where chance is below 5 % (free generation: anything from 0 up).
        gain_mean: mean gain at 32 shots for each form (FORMS order); ``gain_sd`` its sd.
        dent_mean: mean depth of the dip, or fall per doubling past the peak; ``dent_sd`` its sd.
        level_gain_correlation: below zero: who starts high has less to gain.
        component_weights: prior probability of each component (COMPONENTS order).
        deviation_weights: prior probability of each entry of DEVIATIONS.
        demonstration_sd: sd between seeds at one k: another draw or order of the demonstrations.
        group_share: share of the level's and of the gain's variance that curves of one group have in common.
    """

    level_offset: float = 0.9
    level_sd: float = 1.1
    level_sd_open: float = 2.0
    gain_mean: tuple[float, ...] = (0.0, 0.8, 0.8, 1.1, 0.8)
    gain_sd: tuple[float, ...] = (0.05, 0.9, 0.9, 0.9, 0.9)
    dent_mean: tuple[float, ...] = (0.0, 0.0, 0.0, 0.5, 0.3)
    dent_sd: tuple[float, ...] = (1.0, 1.0, 1.0, 0.4, 0.25)
    level_gain_correlation: float = -0.3
    component_weights: tuple[float, ...] = _spread_over_components((0.10, 0.25, 0.25, 0.25, 0.15))
    deviation_weights: tuple[float, ...] = (0.3, 0.5, 0.15, 0.05)
    demonstration_sd: float = 0.1
    group_share: float = 0.7

    def __post_init__(self) -> None:
        for name, size in (("gain_mean", 5), ("gain_sd", 5), ("dent_mean", 5), ("dent_sd", 5)):
            self._check_length(name, size)
        for name, size in (("component_weights", len(COMPONENTS)), ("deviation_weights", DEVIATIONS.size)):
            self._check_length(name, size)
            weights = np.asarray(getattr(self, name))
            if not (np.isfinite(weights).all() and (weights >= 0).all() and abs(weights.sum() - 1) < 1e-6):
                raise ValueError(f"{name} sums to {weights.sum():g}: give non-negative weights that sum to 1")
        for name in ("level_sd", "level_sd_open", "gain_sd", "dent_sd"):
            if not (np.asarray(getattr(self, name)) > 0).all():
                raise ValueError(f"{name} is {getattr(self, name)}: give standard deviations above 0")
        if not abs(self.level_gain_correlation) < 1:
            raise ValueError(f"level_gain_correlation is {self.level_gain_correlation}: give a value between -1 and 1")
        if not 0 <= self.group_share < 1:
            raise ValueError(f"group_share is {self.group_share}: give a share in [0, 1)")
        if not (np.isfinite(self.demonstration_sd) and self.demonstration_sd >= 0):
            raise ValueError(f"demonstration_sd is {self.demonstration_sd}: give 0 or more")

    def _check_length(self, name: str, size: int) -> None:
        if len(getattr(self, name)) != size:
            raise ValueError(f"{name} has {len(getattr(self, name))} entries: give {size}")


def _fast(form: int, speed: float) -> float:
    """Probability of a component for retrieved demonstrations: two thirds have risen by the second one."""
    rising = [c for c in COMPONENTS if c[0] in (1, 2)]
    quick = [c for c in rising if c[1] >= 0.6]
    if form in (1, 2):
        return 0.55 / len(quick) if speed >= 0.6 else 0.2 / (len(rising) - len(quick))
    share = {0: 0.05, 3: 0.1, 4: 0.1}[form]
    return share / sum(c[0] == form for c in COMPONENTS)


#: Where learning from retrieved demonstrations starts: gains larger than at random, far less certain, and often there at
#: the first one.
RETRIEVED_DEMONSTRATIONS = ShotsPrior(
    gain_mean=(0.0, 1.6, 1.6, 1.6, 1.6),
    gain_sd=(0.05, 1.3, 1.3, 1.3, 1.3),
    component_weights=tuple(_fast(form, speed) for form, speed, _ in COMPONENTS),
)

#: Where learning from randomly drawn demonstrations starts: most curves are flat, the others rise as often as they fall, and
#: what looks like a dip or a peak is a deviation. The gains and dips of ``ShotsPrior`` are those of good demonstrations;
#: from them the forecast at 16 and 32 shots from at most 2 errs by a sixth more (docs/decisions/shot-curves.md).
RANDOM_DEMONSTRATIONS = ShotsPrior(
    gain_mean=(0.0, 0.0, 0.0, 0.0, 0.0),
    gain_sd=(0.05, 0.5, 0.5, 0.5, 0.5),
    component_weights=_spread_over_components((0.6, 0.2, 0.2, 0.0, 0.0)),
)
