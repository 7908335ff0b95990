"""Rates that a small sample calls 0: the line through them is honest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import pass_until
from orrery.laws.posterior import Link

pytestmark = pytest.mark.unit


def test_forecasts_of_a_larger_model_hold_at_their_rate_and_beat_the_last_value() -> None:
    rng = np.random.default_rng(3)
    compute = np.geomspace(1e18, 1e20, 6)
    held, error, naive = [], [], []
    for _ in range(120):
        level, slope = rng.normal(1.6, 0.4), rng.normal(-0.3, 0.12)
        y = level + slope * np.log(np.r_[compute, 1e21] / 1e19) + rng.normal(0, 0.05, 7)
        rate = np.exp(-np.exp(y))
        attempts = 20_000
        passes = rng.binomial(attempts, rate[:6])
        mean, smooth = passes / attempts, (passes + 0.5) / (attempts + 1)
        sd = np.sqrt(smooth * (1 - smooth) / attempts)
        post = pass_until.fit(mean, sd, compute).predict([1e21])
        low, high = post.interval(0.9)
        held.append(low[0] <= rate[6] <= high[0])
        error.append(abs(post.median()[0] - rate[6]))
        naive.append(abs(mean[-1] - rate[6]))
    # The intervals allow for a bend of the line that these worlds do not have: they may be wider, not narrower.
    assert 0.87 <= np.mean(held) <= 0.99
    assert np.mean(error) < 0.3 * np.mean(naive)


def test_uncertainty_grows_with_the_distance_and_shrinks_with_the_models() -> None:
    rate, sd, compute = [0.001, 0.01, 0.04, 0.12], [0.0003, 0.002, 0.005, 0.01], [1.0, 4.0, 16.0, 64.0]
    post = pass_until.fit(rate, sd, compute)
    spread = post.predict([64.0, 256.0, 1024.0]).sd
    assert spread.tolist() == sorted(spread)
    assert pass_until.fit(rate[:2], sd[:2], compute[:2]).predict([256.0]).sd[0] > 1.5 * spread[1]
    assert post.slope[0] < -2 * post.slope[1]


def test_no_model_gives_the_prior_widely() -> None:
    low, high = pass_until.fit([], [], []).predict([1e20]).interval(0.9)
    assert low[0] < 1e-4 and high[0] > 0.3


def test_the_log_link_gives_the_same_median_for_rare_passes() -> None:
    post = pass_until.fit([0.001, 0.002], [0.0002, 0.0003], [1.0, 2.0])
    logit, log = post.predict([2.0]), post.predict([2.0], link=Link.LOG)
    assert log.median() == pytest.approx(logit.median(), rel=0.02)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 2), st.floats(1e-3, 1e25)), max_size=5), st.floats(1e-3, 1e25)
)
def test_any_valid_input_gives_a_finite_forecast(models: list[tuple[float, float, float]], at: float) -> None:
    post = pass_until.fit([m[0] for m in models], [m[1] for m in models], [m[2] for m in models]).predict([at])
    assert np.isfinite(post.mean).all() and np.isfinite(post.sd).all()


@pytest.mark.parametrize(
    ("rate", "sd", "compute", "sentence"),
    [
        ([1.5], [0.1], [1.0], "rate[0] is 1.5: give a pass rate in [0, 1]"),
        ([0.5], [0.0], [1.0], "rate_sd[0] is 0: give a standard error above 0"),
        ([0.5], [0.1], [0.0], "compute[0] is 0: give a number above 0"),
        ([0.5], [0.1, 0.1], [1.0], "rate, rate_sd and compute have 1, 2 and 1 entries"),
    ],
)
def test_models_that_cannot_be_are_refused(
    rate: list[float], sd: list[float], compute: list[float], sentence: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        pass_until.fit(rate, sd, compute)
    assert sentence in str(refusal.value)
    with pytest.raises(ValueError, match="link is identity: give logit or log"):
        pass_until.fit([0.5], [0.1], [1.0]).predict([1.0], link=Link.IDENTITY)
