import numpy as np
import pytest
from scipy.linalg import expm

from orrery.laws import accept_then_stop, ntk, power
from orrery.laws.posterior import Link

pytestmark = pytest.mark.unit
SIZES = 200.0 * 2.0 ** np.arange(14)


def law(worth: float = 0.0) -> np.ndarray:
    """Losses of three curves B / (W + D^beta) + E."""
    b, beta, e = np.array([[8.0], [5.0], [12.0]]), np.array([[0.3], [0.2], [0.4]]), np.array([[0.9], [0.5], [1.2]])
    return b * (1 + worth) / (worth + SIZES**beta) + e


def test_power_law_is_recovered_and_covered() -> None:
    y = law() * np.exp(np.random.default_rng(0).normal(0, 0.003, (3, 14)))
    p = power.fit(SIZES[:9], y[:, :9], link=Link.LOG).predict(SIZES[[0, 13]])
    assert p.median()[:, 1] == pytest.approx(law()[:, 13], rel=0.06)
    assert (np.abs(p.mean[:, 1] - np.log(law()[:, 13])) < 2.5 * p.sd[:, 1]).all()


def test_power_law_of_accuracies() -> None:
    y = 1 - 0.9 * (SIZES / 200) ** -0.35
    p = power.fit(SIZES[:8], y[None, :8], link=Link.LOGIT, noise_sd=np.full((1, 8), 0.03)).predict(SIZES[-1:])
    assert p.median()[0, 0] == pytest.approx(y[-1], abs=0.03)


def test_the_gap_of_a_kernels_modes_is_the_matrix_exponential() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(12, 7))  # rank 7: five directions are never learned
    kernel, residual, times = gradients @ gradients.T, rng.normal(size=12), np.array([0.0, 0.1, 1.0, 7.0, 1e3])
    expected = [np.linalg.norm(expm(-0.05 * kernel * t) @ residual) ** 2 for t in times]
    values, vectors = np.linalg.eigh(kernel)
    gap = ntk.gap_of_modes(np.maximum(values, 0.0), (vectors.T @ residual) ** 2, 0.05 * times)
    assert gap == pytest.approx(expected, rel=1e-9)
    assert (np.diff(gap) < 0).all() and gap[-1] > 0.1


def test_ntk_law_with_the_right_gap_extrapolates_where_the_power_law_cannot() -> None:
    y = law(worth=20.0)
    with_gap = ntk.fit(SIZES[:7], y[:, :7], np.full(3, 20.0)).predict(SIZES[-1:])
    plain = power.fit(SIZES[:7], y[:, :7], link=Link.LOG).predict(SIZES[-1:])
    truth = y[:, -1:]
    assert np.abs(with_gap.median() - truth).mean() < 0.4 * np.abs(plain.median() - truth).mean()


def test_accept_then_stop_takes_the_line_and_leaves_the_flat_start() -> None:
    x = np.arange(10.0)
    bent = np.where(x < 5, 1.0, 1.0 - 0.1 * (x - 5)) + np.tile([0.001, -0.001], 5)
    straight = 1.0 - 0.1 * x + np.tile([0.001, -0.001], 5)
    found = accept_then_stop.fit(SIZES[:10], np.exp([bent, straight]), link=Link.LOG)
    assert found.accepted.tolist() == [5, 10]
    assert found.predict(SIZES[-1:]).mean[:, 0] == pytest.approx([0.2, -0.3], abs=0.02)


def test_accept_then_stop_equals_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    y = -0.05 * np.arange(9.0) - np.cumsum(rng.normal(0, 0.01, (40, 9)), axis=1)
    x, expected = np.log(SIZES[:9]), []
    for curve in y:
        first = 6
        line = np.polyfit(x[first:], curve[first:], 1)
        while first > 0:
            spread = np.std(curve[first:] - np.polyval(line, x[first:]))
            if abs(curve[first - 1] - np.polyval(line, x[first - 1])) > 5 * spread:
                break
            first -= 1
            line = np.polyfit(x[first:], curve[first:], 1)
        expected.append(np.polyval(line, np.log(SIZES[-1])))
    found = accept_then_stop.fit(SIZES[:9], np.exp(y), link=Link.LOG).predict(SIZES[-1:])
    assert found.mean[:, 0] == pytest.approx(expected)


def test_last_two_points_with_gaps_and_disorder() -> None:
    y = np.array([[2.0, np.nan, 1.5, 1.2], [3.0, 2.0, np.nan, np.nan], [np.nan, np.nan, 1.7, np.nan]])
    p = accept_then_stop.last_points([1600, 100, 400, 800], y, link=Link.LOG).predict([3200])
    slope = np.log(2.0 / 1.2) / np.log(2.0)
    assert p.mean[0, 0] == pytest.approx(np.log(2.0) + slope * np.log(2.0))
    assert p.mean[2, 0] == pytest.approx(np.log(1.7)) and p.sd[2, 0] > 0.25


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: accept_then_stop.fit([200], [[np.nan]], link=Link.LOG), "curve 0 has no measured score"),
        (lambda: accept_then_stop.fit([0, 200], [[2.0, 1.0]], link=Link.LOG), "no place for size 0"),
        (lambda: accept_then_stop.last_points([200], [[2.0]], link=Link.LOG, points=0), "at least 1"),
        (lambda: power.fit([0, 200], [[2.0, 1.0]], link=Link.LOG), "no place for size 0"),
        (lambda: power.fit([200], [[2.0]], link=Link.IDENTITY), "needs link"),
        (lambda: ntk.fit([200], [[2.0]], [-1.0]), "worth must be"),
        (lambda: ntk.gap_of_modes([1.0, 2.0], [1.0], [1.0]), "give one power each"),
        (lambda: ntk.gap_of_modes([-1.0], [1.0], [1.0]), "eigenvalues must be finite and >= 0"),
    ],
)
def test_bad_input_is_a_sentence(call: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()  # type: ignore[operator]


def test_nothing_measured_is_wide_not_wrong() -> None:
    p = power.fit(SIZES[:2], [[np.nan, np.nan]], link=Link.LOG).predict([1e6])
    assert p.sd[0, 0] > 3


@pytest.mark.parametrize("own_worth", [False, True])
def test_many_curves_are_forecast_as_each_alone(own_worth: bool) -> None:
    rng, sizes = np.random.default_rng(0), 200.0 * 2.0 ** np.arange(6)
    losses = np.exp(rng.normal(0, 0.1, (power._BLOCK + 40, 6)) - 0.05 * np.arange(6))
    worth = rng.uniform(0, 5, len(losses)) if own_worth else None
    together = power.fit(sizes, losses, link=Link.LOG, worth=worth).predict([1e5])
    for i in (0, power._BLOCK - 1, power._BLOCK, len(losses) - 1):
        alone = power.fit(sizes, losses[i], link=Link.LOG, worth=None if worth is None else worth[[i]]).predict([1e5])
        assert together.mean[i] == pytest.approx(alone.mean[0]) and together.sd[i] == pytest.approx(alone.sd[0])
