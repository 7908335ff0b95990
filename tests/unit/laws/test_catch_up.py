import numpy as np
import pytest
from scipy.linalg import expm

from orrery.laws import catch_up

pytestmark = pytest.mark.unit


def simulate(pull: float, count: int, seed: int = 0, noise: float = 0.003, q: float = 0.006) -> np.ndarray:
    """Deviations (count, 15) at doublings 0 ... 14 by small Euler steps: independent of the kernel under test."""
    rng = np.random.default_rng(seed)
    d, v = rng.normal(0, 0.3, count), rng.normal(0, 0.03, count)
    out, dt = [d], 1 / 50
    for _ in range(14):
        for _ in range(50):
            d, v = d + dt * v, v - dt * pull * d + q * np.sqrt(dt) * rng.normal(size=count)
        out.append(d)
    return np.array(out).T + rng.normal(0, noise, (count, 15))


def covariance_by_ode(x: np.ndarray, pull: float, q: float) -> np.ndarray:
    """The same covariance by the matrix exponential and a fine sum over the noise."""
    drift = np.array([[0.0, 1.0], [-pull, 0.0]])
    start = np.diag([0.4**2, 0.03**2])
    steps = (np.arange(400) + 0.5) / 400

    def at(t: float) -> np.ndarray:
        f = expm(drift * t)
        columns = np.array([expm(drift * t * s)[:, 1] for s in steps])
        return f @ start @ f.T + q**2 * t * (columns[:, :, None] * columns[:, None, :]).mean(axis=0)

    k = np.empty((len(x), len(x)))
    for i, a in enumerate(x):
        for j, b in enumerate(x):
            early, late = min(a, b), max(a, b)
            k[i, j] = (expm(drift * (late - early)) @ at(early))[0, 0]
    return k


@pytest.mark.parametrize("pull", [0.0, 0.01, 0.03])
def test_kernel_is_that_of_the_equation(pull: float) -> None:
    x = np.array([0.0, 0.7, 2.0, 5.0, 11.0])
    start, noise = catch_up.kernel(x, pull)
    assert start + 0.01**2 * noise == pytest.approx(covariance_by_ode(x, pull, 0.01), rel=1e-3, abs=1e-6)


def test_infers_the_pull_and_beats_a_straight_line() -> None:
    x = np.arange(15.0)
    for pull in (0.0, 0.015):
        d = simulate(pull, 60)
        found = catch_up.forecast(x[:9], d[:, :9], np.zeros((60, 9)), x[14:])
        assert abs(found.pulls @ found.pull_probability - pull) < 0.004
        line = d[:, 8] + 6 * (d[:, 8] - d[:, 6]) / 2
        error = found.mean[:, 0] - d[:, 14]
        assert np.abs(error).mean() < (0.8 if pull else 1.1) * np.abs(line - d[:, 14]).mean()
        assert 0.8 < np.mean(np.abs(error) < 1.645 * np.sqrt(found.variance[:, 0])) <= 1.0


def test_a_step_in_one_curve_does_not_bend_its_forecast() -> None:
    x = np.arange(10.0)
    d = np.outer(np.linspace(-1, 1, 20), 0.1 + 0.01 * x) + np.random.default_rng(0).normal(0, 0.002, (20, 10))
    stepped = d.copy()
    stepped[3, 5:] -= 0.15
    straight = catch_up.forecast(x, d, np.zeros_like(d), np.array([16.0])).mean[3, 0]
    bent = catch_up.forecast(x, stepped, np.zeros_like(d), np.array([16.0])).mean[3, 0]
    assert bent == pytest.approx(straight - 0.15, abs=0.05)


def test_missing_points_and_curves() -> None:
    d = simulate(0.01, 30)[:, :8]
    d[4, 3:] = np.nan
    d[5] = np.nan
    f = catch_up.forecast(np.arange(8.0), d, np.zeros_like(d), np.array([12.0]))
    assert np.isfinite(f.mean).all() and np.sqrt(f.variance[5, 0]) > 3 * np.median(np.sqrt(f.variance))
    assert f.variance[4, 0] > np.median(f.variance) and abs(f.mean[5, 0]) < 1e-9


def test_learning_from_a_part_serves_all() -> None:
    d = simulate(0.01, 200)[:, :7]
    args = (np.arange(7.0), d, np.zeros_like(d), np.array([13.0]))
    some, everyone = catch_up.forecast(*args, learn_from=60), catch_up.forecast(*args)
    assert np.corrcoef(some.mean[:, 0], everyone.mean[:, 0])[0, 1] > 0.98


def test_two_sizes_tell_no_pull_and_straight_curves_stay_straight() -> None:
    x = np.arange(10.0)
    d = np.outer(np.linspace(-0.3, 0.3, 30), 1 - 0.03 * x) + np.random.default_rng(0).normal(0, 0.002, (30, 10))
    found = catch_up.forecast(x[:2], d[:, :2], np.zeros((30, 2)), x[9:])
    bent = catch_up.forecast(
        x[:2], d[:, :2], np.zeros((30, 2)), x[9:], mean_pull=np.inf, no_pull=1 / len(catch_up.PULLS)
    )
    off, flat = (np.abs(f.mean[:, 0] - d[:, 9]).mean() for f in (found, bent))
    assert off < 0.7 * flat and found.pull_probability[0] > 0.4
