"""The affine calibration of a proxy: its intervals hold, and a small sample looks small."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import affine
from orrery.laws.posterior import Link

pytestmark = pytest.mark.unit


def world(rng: np.random.Generator, n: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """(proxy, real accuracy) drawn from the documented prior around a proxy level of its own."""
    p = affine.AffinePrior()
    z = rng.normal(0.5, 1) + rng.normal(0, 0.6, n)
    deviation = p.deviation_median * np.exp(p.deviation_spread * rng.standard_normal())
    real = z.mean() + rng.normal(p.shift_mean, p.shift_sd) + rng.normal(p.scale_mean, p.scale_sd) * (z - z.mean())
    return Link.LOGIT.inverse(z), Link.LOGIT.inverse(real + deviation * rng.standard_normal(n))


@pytest.mark.parametrize("points", [0, 1, 2, 5, 15])
def test_intervals_hold_at_their_rate_for_every_size_of_calibration_sample(points: int) -> None:
    rng = np.random.default_rng(points)
    held = []
    for _ in range(300):
        proxy, real = world(rng)
        index = rng.permutation(20)[:points]
        measured = rng.binomial(200, real[index]) / 200
        low, high = (
            affine.calibrate(proxy, measured, index, real_sd=np.sqrt(real[index] * (1 - real[index]) / 200))
            .predict()
            .interval()
        )
        held.append(np.mean((low <= real) & (real <= high)))
    # Candidates of one world share their error; the worlds are independent, so their spread is the noise.
    assert np.mean(held) == pytest.approx(0.9, abs=0.01 + 3 * np.std(held) / np.sqrt(len(held)))


def test_the_interval_narrows_as_real_measurements_arrive_and_the_error_with_it() -> None:
    rng = np.random.default_rng(7)
    widths, errors = [], []
    for points in (0, 1, 3, 10):
        width, error = [], []
        for _ in range(60):
            proxy, real = world(rng)
            post = affine.calibrate(proxy, real[:points], np.arange(points), real_sd=0.01).predict()
            width.append(post.sd[-5:].mean())
            error.append(np.abs(post.median() - real)[-5:].mean())
        widths.append(np.mean(width))
        errors.append(np.mean(error))
    assert widths == sorted(widths, reverse=True)
    assert errors[-1] < 0.6 * errors[0]


def test_many_exact_points_on_a_line_recover_scale_and_shift() -> None:
    z = np.linspace(-1, 2, 30)
    real = Link.LOGIT.inverse(z.mean() + 0.4 + 0.7 * (z - z.mean()))
    post = affine.calibrate(Link.LOGIT.inverse(z), real, np.arange(30), real_sd=0.001)
    assert post.scale[0] == pytest.approx(0.7, abs=4 * post.scale[1])
    assert post.shift[0] == pytest.approx(0.4, abs=4 * post.shift[1])
    assert post.scale[1] < 0.05 and post.deviation_sd < 0.1


def test_no_measurement_gives_the_proxy_itself_widely() -> None:
    post = affine.calibrate([0.5, 0.9], [], [], real_sd=[]).predict()
    assert post.median() == pytest.approx([0.5, 0.9], abs=1e-9)
    assert (post.sd > 0.8).all()


def test_an_exactly_measured_candidate_is_known_and_the_others_are_not() -> None:
    post = affine.calibrate([0.5, 0.6, 0.7], [0.8], [1], real_sd=0.0).predict()
    assert post.median()[1] == pytest.approx(0.8, abs=1e-6)
    assert post.sd[1] < 1e-3 < 0.1 < post.sd[0]


def test_expected_sd_is_what_the_next_measurement_leaves_on_average() -> None:
    rng = np.random.default_rng(5)
    before, promised, kept = [], [], []
    for _ in range(150):
        proxy, real = world(rng)
        post = affine.calibrate(proxy, real[:4], np.arange(4), real_sd=0.02)
        after = affine.calibrate(proxy, np.r_[real[:4], real[19]], [0, 1, 2, 3, 19], real_sd=0.02)
        before.append(post.predict().sd.mean())
        promised.append(post.expected_sd_after(19, 0.02).mean())
        kept.append(after.predict().sd.mean())
    assert np.mean(promised) == pytest.approx(np.mean(kept), rel=0.1)
    assert np.mean(promised) < 0.95 * np.mean(before)


def test_measuring_never_widens_and_measuring_a_candidate_tells_most_about_itself() -> None:
    post = affine.calibrate([0.4, 0.6, 0.8, 0.9], [0.7], [2], real_sd=0.03)
    sd = post.predict().sd
    for i in range(4):
        after = post.expected_sd_after(i, 0.03)
        assert (after <= sd + 1e-12).all()
        assert after[i] < sd[i]
    assert np.sqrt(post.covariance(1)[1]) == pytest.approx(sd[1])
    assert post.covariance(1)[3] == pytest.approx(post.covariance(3)[1])


def test_a_noisier_measurement_promises_less() -> None:
    post = affine.calibrate([0.4, 0.6, 0.8], [], [], real_sd=[])
    assert (post.expected_sd_after(0, 0.2) > post.expected_sd_after(0, 0.01)).all()


def test_repeats_of_one_candidate_do_not_count_as_new_candidates() -> None:
    proxy = [0.4, 0.6, 0.8]
    repeated = affine.calibrate(proxy, [0.7] * 50, [0] * 50, real_sd=0.02 * np.sqrt(50)).predict()
    once = affine.calibrate(proxy, [0.7], [0], real_sd=0.02).predict()
    assert repeated.sd == pytest.approx(once.sd, rel=0.05)


def test_losses_are_calibrated_on_the_log_scale() -> None:
    post = affine.calibrate([1.0, 2.0, 4.0], [0.5, 1.0], [0, 1], real_sd=0.01, link=Link.LOG).predict()
    assert post.link is Link.LOG
    assert post.median()[2] == pytest.approx(2.0, rel=0.3)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7), st.floats(0, 2)), max_size=8),
)
def test_any_valid_input_gives_a_finite_posterior(proxy: list[float], measured: list[tuple[float, int, float]]) -> None:
    index = np.array([m[1] % len(proxy) for m in measured], dtype=int)
    post = affine.calibrate(proxy, [m[0] for m in measured], index, real_sd=[m[2] for m in measured])
    forecast = post.predict()
    assert np.isfinite(forecast.mean).all() and np.isfinite(forecast.sd).all()
    assert (post.expected_sd_after(0) <= forecast.sd + 1e-9).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"proxy": []}, "proxy is empty"),
        ({"proxy": [np.nan, 0.5]}, "proxy[0] is nan: give a share in [0, 1]"),
        ({"real": [1.5]}, "real[0] is 1.5: give a share in [0, 1]"),
        ({"index": [2]}, "index has 2: give a candidate from 0 to 1"),
        ({"index": [0, 1]}, "index has shape (2,)"),
        ({"index": [0.0]}, "type float64: give 1 integers"),
        ({"real_sd": -0.1}, "real_sd[0] is -0.1: give a standard error of 0 or more"),
        ({"real_sd": [0.1, 0.2]}, "real_sd does not fit 1 measurements"),
        ({"link": Link.LOG, "proxy": [0.0, 1.0]}, "proxy[0] is 0: give a number above 0"),
    ],
)
def test_what_cannot_be_is_refused_by_place_and_value(call: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"proxy": [0.5, 0.6], "real": [0.5], "index": [0], "real_sd": 0.1} | call
    with pytest.raises(ValueError) as refusal:
        affine.calibrate(**arguments)  # type: ignore[arg-type]
    assert sentence in str(refusal.value)


def test_unknown_candidates_and_impossible_priors_are_refused() -> None:
    post = affine.calibrate([0.5], [], [], real_sd=[])
    with pytest.raises(IndexError, match="candidate 3 does not exist: give an index from 0 to 0"):
        post.expected_sd_after(3)
    with pytest.raises(ValueError, match="scale_sd is 0: give a number above 0"):
        affine.AffinePrior(scale_sd=0)
