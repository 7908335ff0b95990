import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import rectified
from orrery.laws.posterior import Link

pytestmark = pytest.mark.unit
SIZES = 200.0 * 2.0 ** np.arange(14)


def planted(link: Link, count: int = 40, seed: int = 0) -> np.ndarray:
    """Curves drawn from the prior itself, link scale, at SIZES."""
    prior = rectified.default_prior(link)
    theta = np.random.default_rng(seed).multivariate_normal(prior.mean, prior.covariance, count)
    return rectified.curve(theta, SIZES, link)


@pytest.mark.parametrize("link", [Link.LOG, Link.LOGIT])
def test_recovers_planted_curves_and_covers_them(link: Link) -> None:
    truth = planted(link, 200)
    noise = 0.02
    seen = truth[:, :8] + np.random.default_rng(1).normal(0, noise, (200, 8))
    p = rectified.fit(SIZES[:8], link.inverse(seen), link=link, noise_sd=np.full((200, 8), noise)).predict(SIZES[-1:])
    error = np.abs(p.mean - truth[:, -1:])
    assert 0.80 <= np.mean(error < 1.645 * p.sd) <= 0.99
    prior_only = rectified.fit(SIZES[:0], np.empty((200, 0)), link=link).predict(SIZES[-1:])
    assert error.mean() < 0.35 * np.abs(prior_only.mean - truth[:, -1:]).mean()


@pytest.mark.parametrize("link", [Link.LOG, Link.LOGIT])
def test_every_measurement_narrows_the_forecast(link: Link) -> None:
    truth = link.inverse(planted(link))
    widths = [
        np.median(rectified.fit(SIZES[:k], truth[:, :k], link=link).predict(SIZES[-1:]).sd) for k in (0, 1, 2, 5, 10)
    ]
    assert widths == sorted(widths, reverse=True)


def test_curve_is_flat_until_pretraining_is_outweighed() -> None:
    theta = np.array([np.log(3.0), -1.0, np.log(1e5), np.log(0.8)])
    z = rectified.curve(theta, [0.0, 100.0, 1e5, 1e9], Link.LOG)
    assert (
        z[0] - z[1] < 0.01 and z[0] - z[2] > 0.3 and z[3] == pytest.approx(np.log(3) + np.log(1 / (1 + np.e)), abs=1e-2)
    )


def test_order_repeats_and_missing_columns_do_not_matter() -> None:
    y = np.array([[3.0, 2.8, 2.5, 2.1]])
    x = np.array([200.0, 800.0, 3200.0, 12800.0])
    a = rectified.fit(x, y, link=Link.LOG).predict([1e6])
    b = rectified.fit(x[::-1], y[:, ::-1], link=Link.LOG).predict([1e6])
    c = rectified.fit(np.append(x, 5.0), np.append(y, [[np.nan]], axis=1), link=Link.LOG).predict([1e6])
    assert a.mean == pytest.approx(b.mean, abs=1e-6) and a.mean == pytest.approx(c.mean, abs=1e-6)


def test_rising_loss_is_never_a_confident_improvement() -> None:
    rising = rectified.fit(SIZES[:5], [[2.0, 2.1, 2.25, 2.4, 2.6]], link=Link.LOG).predict(SIZES[-1:])
    falling = rectified.fit(SIZES[:5], [[2.6, 2.4, 2.25, 2.1, 2.0]], link=Link.LOG).predict(SIZES[-1:])
    assert rising.sd[0, 0] > 2 * falling.sd[0, 0] and rising.interval()[1][0, 0] > 1.9


def test_same_seed_same_answer() -> None:
    y = np.exp(planted(Link.LOG)[:, :4])
    first, second = (rectified.fit(SIZES[:4], y, link=Link.LOG, seed=3).predict(SIZES) for _ in range(2))
    assert np.array_equal(first.mean, second.mean) and np.array_equal(first.sd, second.sd)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=0, max_size=6), st.sampled_from([Link.LOGIT, Link.LOG]))
def test_any_curve_gives_a_finite_forecast(scores: list[float], link: Link) -> None:
    y = np.array([scores]) + (0.01 if link is Link.LOG else 0.0)
    p = rectified.fit(SIZES[: len(scores)], y, link=link).predict([0, 1e3, 1e9])
    assert p.mean.shape == (1, 3) and np.isfinite(p.mean).all()


@pytest.mark.parametrize(
    ("sizes", "scores", "link", "says"),
    [
        ([200, 400], [[1.0, 0.0]], Link.LOG, "a loss must be > 0"),
        ([200, 400], [[1.0, np.inf]], Link.LOG, "infinite"),
        ([200, np.nan], [[1.0, 2.0]], Link.LOG, "finite numbers of examples"),
        ([200, 400], [[71.0, 75.0]], Link.LOGIT, "divide percentages by 100"),
        ([200], [[1.0, 2.0]], Link.LOG, "one size for each column"),
        ([200], [[1.0]], Link.IDENTITY, "needs link"),
    ],
)
def test_bad_input_is_a_sentence(sizes: list[float], scores: list[list[float]], link: Link, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rectified.fit(sizes, scores, link=link)
