"""COSMOS's proxy in the ensemble: an affine map to real scores, whose posterior shows how little calibrated it."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.costs.flops import Training
from orrery.laws.posterior import Link
from orrery.strategies.tuning_curves import Points, TuningCurves

pytestmark = pytest.mark.unit
PROXY = 0.9
RATES = np.array([0.05, 0.1, 0.2, 0.4, 0.15])


def points(kinds: list[Training | None], rates: list[float]) -> Points:
    n = len(kinds)
    return Points.of(kinds, rates, [3.0] * n, [8.0] * n, [400.0] * n)


def curves(*real: float, proxy: float | None = PROXY) -> TuningCurves:
    """Zero-shot .3, the proxy on all 400 examples, and real trainings on all of them at the first learning rates."""
    kinds: list[Training | None] = [Training.ADAPTER] * len(real)
    rates, scores = [float(r) for r in RATES[: len(real)]], list(real)
    if proxy is not None:
        kinds, rates, scores = [None, *kinds], [0.1, *rates], [proxy, *scores]
    zero = (float(Link.LOGIT.forward(0.3)), 0.1)
    values = Link.LOGIT.forward(np.array(scores))
    return TuningCurves(False, zero, points(kinds, rates), values, np.full(len(values), 0.1), Link.LOGIT, 0.1)


def unseen(c: TuningCurves) -> tuple[float, float]:
    mean, sd = c.predict(points([Training.ADAPTER], [float(RATES[-1])]))
    return float(Link.LOGIT.inverse(mean)[0]), float(sd[0])


def scale(c: TuningCurves) -> tuple[float, float]:
    mean = float(c.weight @ c.draws.scale)
    return mean, float(np.sqrt(c.weight @ (c.draws.scale - mean) ** 2))


def test_the_proxy_alone_is_a_forecast_and_a_wide_one() -> None:
    median, sd = unseen(curves())
    assert median == pytest.approx(PROXY, abs=0.07) and sd > 0.35
    assert sd < 0.8 * unseen(curves(proxy=None))[1]


def test_every_real_score_narrows_what_the_proxy_leaves_open() -> None:
    widths = [unseen(curves(*[0.8] * k))[1] for k in range(5)]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.5 * widths[0]


def test_real_scores_move_scale_and_shift_to_where_they_lie() -> None:
    before, above, below = curves(), curves(0.95, 0.95, 0.95), curves(0.6, 0.6, 0.6)
    assert scale(above)[0] < scale(before)[0] < scale(below)[0], (
        "a proxy that runs ahead has gone further than the curve"
    )
    assert unseen(below)[0] < 0.7 < PROXY < unseen(above)[0]
    proxied = [c.predict(points([None], [0.1]))[0][0] for c in (below, above)]
    assert Link.LOGIT.inverse(np.array(proxied)) == pytest.approx([PROXY, PROXY], abs=0.07), (
        "its own score stays what it is"
    )
