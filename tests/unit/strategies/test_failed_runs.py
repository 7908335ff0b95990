"""A training that failed, whatever its configuration: what one bad score does to the forecasts of the others."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.costs.flops import Training
from orrery.laws.posterior import Link
from orrery.strategies.tuning_curves import Points, TuningCurves

pytestmark = pytest.mark.unit

FULL = Points.of([Training.ADAPTER], [0.1], [3.0], [8.0], [400.0])


def curves(scores: dict[float, float], link: Link = Link.LOGIT) -> TuningCurves:
    """One configuration trained on so many examples each, with what came of it, on a model whose zero-shot is .3 (a loss of 3)."""
    n = len(scores)
    points = Points.of([Training.ADAPTER] * n, [0.1] * n, [3.0] * n, [8.0] * n, list(scores))
    values = link.forward(np.array(list(scores.values())))
    start = float(link.forward(np.array([0.3 if link is Link.LOGIT else 3.0]))[0])
    return TuningCurves(
        False, (start, 0.15), points, values, np.full(n, 0.15 if link is Link.LOGIT else 0.02), link, 0.14
    )


def full(c: TuningCurves) -> tuple[float, float]:
    mean, sd = c.predict(FULL)
    return float(mean[0]), float(sd[0])


@pytest.mark.parametrize("link", [Link.LOGIT, Link.LOG])
def test_one_bad_score_among_good_ones_is_left_alone(link: Link) -> None:
    good, bad = ({16: 0.5, 32: 0.62, 128: 0.85}, 0.05) if link is Link.LOGIT else ({16: 2.5, 32: 2.1, 128: 1.5}, 8.0)
    without, with_it = curves(good, link), curves({**good, 64: bad}, link)
    assert without.doubt < 0.05 and with_it.doubt > 0.9
    assert full(with_it)[0] == pytest.approx(full(without)[0], abs=0.6 * full(without)[1])


def test_a_bad_score_alone_leaves_room_for_what_was_expected() -> None:
    nothing, bad = full(curves({})), curves({64: 0.14})
    mean, sd = full(bad)
    assert 0.1 < bad.doubt < 0.9 and mean < nothing[0], "it may have failed, and may be what it is worth"
    assert mean + 2 * sd > nothing[0]


def test_luck_and_what_was_expected_raise_no_doubt() -> None:
    for scores in ({64: 0.98}, {64: 0.5}, {16: 0.35, 64: 0.5, 400: 0.8}, {16: 0.3, 64: 0.28, 400: 0.31}):
        c = curves(scores)
        assert c.doubt == 0 and len(c.readings) == 1, "nothing to weigh, and nothing more to compute"


def test_two_bad_scores_are_believed() -> None:
    c = curves({16: 0.05, 64: 0.04})
    assert c.doubt < 0.3 and Link.LOGIT.inverse(np.array(full(c)[0])) < 0.3


def test_shifts_stay_within_the_forecasts_sd() -> None:
    """What a further training would tell where a failure is credible, as everywhere."""
    c = curves({64: 0.02})
    asked = Points.of([Training.ADAPTER] * 2, [0.1] * 2, [3.0] * 2, [8.0] * 2, [16.0, 400.0])
    shifts, _ = c.tell(FULL, asked, np.array([0.15, 0.15]))
    assert (np.abs(shifts) <= full(c)[1] + 1e-9).all() and np.abs(shifts[1, 0]) > 0.5 * full(c)[1]
    assert np.allclose(c.covariance(asked, asked), c.covariance(asked, asked).T)
    _, sd = c.predict(asked)
    assert np.allclose(np.diag(c.covariance(asked, asked)), sd**2, rtol=1e-6)
