import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import pooled, rectified
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Link, Posterior
from orrery.laws.priors import shipped_prior

pytestmark = pytest.mark.unit
SIZES = 200.0 * 2.0 ** np.arange(14)


def planted(count: int = 30, seed: int = 0) -> np.ndarray:
    """Log losses (count, 14) of models that share a course: rectified curves with varied start and worth."""
    rng = np.random.default_rng(seed)
    theta = np.column_stack(
        [
            rng.normal(1.1, 0.2, count),
            rng.normal(-1.2, 0.2, count),
            rng.normal(9.5, 0.8, count),
            rng.normal(-1.4, 0.05, count),
        ]
    )
    return rectified.curve(theta, SIZES, Link.LOG) + rng.normal(0, 0.003, (count, 14))


def error(z: np.ndarray, k: int, **given: object) -> tuple[float, float]:
    p = pooled.forecast(SIZES[:k], np.exp(z[:, :k]), SIZES[-1:], link=Link.LOG, **given)  # type: ignore[arg-type]
    e = np.abs(p.mean[:, 0] - z[:, -1])
    return float(e.mean()), float(np.mean(e < 1.645 * p.sd[:, 0]))


def test_beats_the_last_two_points_and_covers() -> None:
    z = planted()
    found, lines = [], []
    for k in (6, 8, 10):
        off, covered = error(z, k)
        found.append(off)
        lines.append(np.abs(z[:, k - 1] + (14 - k) * (z[:, k - 1] - z[:, k - 2]) - z[:, -1]).mean())
        assert covered >= 0.8
    assert np.mean(found) < 0.6 * np.mean(lines)


@pytest.mark.parametrize("unit", [0.2, 5.0])
def test_losses_in_other_units_are_forecast_as_honestly(unit: float) -> None:
    z = planted()
    plain, (found, covered) = error(z, 7)[0], error(z + np.log(unit), 7)
    assert covered >= 0.8 and found < 3 * plain


def test_what_was_learned_from_fewer_tasks_is_less_sure_of_a_further_one() -> None:
    z, law = planted(), shipped_prior(Link.LOG)
    few, many = (error_sd(z, PooledPrior(law, tasks)) for tasks in (1, 50))
    assert few > 1.1 * many
    assert [PooledPrior(law, t).widening for t in (0, 1, 3)] == [1.0, 1.5, 1.25]
    with pytest.raises(ValueError, match="mean of positive pulls"):
        PooledPrior(law, mean_pull=0.0)
    with pytest.raises(ValueError, match=r"weight in \[0, 1\]"):
        PooledPrior(law, present=2.0)
    with pytest.raises(ValueError, match="number of tasks"):
        PooledPrior(law, -1)


def error_sd(z: np.ndarray, prior: PooledPrior) -> float:
    p = pooled.forecast(SIZES[:6], np.exp(z[:, :6]), SIZES[-1:], link=Link.LOG, prior=prior)
    return float(p.sd.mean())


def test_zero_one_and_two_sizes_narrow_step_by_step() -> None:
    z = planted()
    widths = [
        float(np.median(pooled.forecast(SIZES[:k], np.exp(z[:, :k]), SIZES[-1:], link=Link.LOG).sd))
        for k in (0, 1, 2, 5, 9)
    ]
    assert widths == sorted(widths, reverse=True) and widths[0] > 0.3


def test_a_single_model_is_the_rectified_law() -> None:
    z = planted(1)
    p = pooled.forecast(SIZES[:6], np.exp(z[:, :6]), SIZES[-1:], link=Link.LOG)
    alone = rectified.fit(SIZES[:6], np.exp(z[:, :6]), link=Link.LOG, prior=shipped_prior(Link.LOG))
    assert p.mean == pytest.approx(alone.predict(SIZES[-1:]).mean, abs=0.02)
    assert p.sd[0, 0] >= 0.9 * alone.predict(SIZES[-1:]).sd[0, 0]


def test_rising_losses_do_not_become_a_confident_fall() -> None:
    rising = np.log([[2.0, 2.1, 2.2, 2.35, 2.5]])
    p = pooled.forecast(SIZES[:5], np.exp(rising), SIZES[-1:], link=Link.LOG)
    assert p.interval()[1][0, 0] > 2.0


def test_an_unmeasured_model_borrows_from_its_family() -> None:
    rng = np.random.default_rng(1)
    families = [f"family {i % 5}" for i in range(40)]
    shift = np.array([-0.3, -0.15, 0.0, 0.15, 0.3])[np.arange(40) % 5] + rng.normal(0, 0.02, 40)
    z = planted(1) + shift[:, None] + rng.normal(0, 0.003, (40, 14))
    hidden = z[:, :9].copy()
    hidden[:5] = np.nan
    with_family = pooled.forecast(SIZES[:9], np.exp(hidden), SIZES[-1:], link=Link.LOG, family=families)
    without = pooled.forecast(SIZES[:9], np.exp(hidden), SIZES[-1:], link=Link.LOG)
    truth = z[:5, -1:]
    assert np.abs(with_family.mean[:5] - truth).mean() < 0.4 * np.abs(without.mean[:5] - truth).mean()
    assert with_family.sd[:5].mean() < without.sd[:5].mean()


def test_accuracies_with_their_own_sizes_stay_in_range() -> None:
    x = np.array([[16.0, 64, 256], [32, 128, 512], [32, 128, 512]])
    y = np.array([[0.4, 0.6, 0.8], [0.5, 0.7, np.nan], [np.nan, np.nan, np.nan]])
    p = pooled.forecast(
        x, y, [64, 4096], link=Link.LOGIT, noise_sd=np.full((3, 3), 0.2), zero_shot=[0.3, np.nan, 0.35], chance=0.25
    )
    low, high = p.interval()
    assert p.mean.shape == (3, 2) and (low > 0).all() and (high < 1).all() and p.median()[0, 1] > 0.75


def test_ten_thousand_models_and_order_of_sizes() -> None:
    z = np.tile(planted(50), (200, 1)) + np.random.default_rng(0).normal(0, 0.002, (10_000, 14))
    p = pooled.forecast(SIZES[:4], np.exp(z[:, :4]), SIZES[-1:], link=Link.LOG)
    assert p.mean.shape == (10_000, 1)
    small = np.exp(z[:30, :5])
    a = pooled.forecast(SIZES[:5], small, SIZES[-1:], link=Link.LOG)
    b = pooled.forecast(SIZES[:5][::-1], small[:, ::-1], SIZES[-1:], link=Link.LOG)
    assert a.mean == pytest.approx(b.mean, abs=1e-4)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1e3) | st.just(float("nan")), min_size=4, max_size=4), min_size=1, max_size=5))
def test_any_measured_losses_give_a_finite_forecast(rows: list[list[float]]) -> None:
    p = pooled.forecast([100, 100, 400, 50], rows, [1e5], link=Link.LOG)
    assert np.isfinite(p.mean).all() and (p.sd > 0).all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sizes": [0, 200]}, "give scores before tuning as zero_shot"),
        ({"at": [0.0]}, "> 0"),
        ({"zero_shot": [1.0]}, "one score a curve, 2"),
        ({"parameters": [1e9, -1.0], "scores": [[2.0, 1.9], [np.nan, np.nan]]}, "one positive number a model"),
        ({"family": ["gpt"], "scores": [[2.0, 1.9], [np.nan, np.nan]]}, "one name a model"),
    ],
)
def test_bad_input_is_a_sentence(given: dict[str, object], says: str) -> None:
    call: dict[str, object] = {"sizes": [200, 400], "scores": [[2.0, 1.9], [2.5, 2.4]], "at": [1e5], "link": Link.LOG}
    with pytest.raises(ValueError, match=says):
        pooled.forecast(**(call | given))  # type: ignore[arg-type]


def test_who_is_to_overtake_by_a_hair_is_not_preferred_and_who_is_to_overtake_by_much_is() -> None:
    present = Posterior(np.log([[2.0], [2.4], [2.4]]), np.full((3, 1), 0.01), Link.LOG)
    ahead = Posterior(np.log([[1.80], [1.78], [1.5]]), np.full((3, 1), 0.1), Link.LOG)
    found = pooled.preference(ahead, present, 0.2)[:, 0]
    assert found[2] < found[0] < found[1]
    assert np.argmin(pooled.preference(ahead, ahead, 0.2)) == np.argmin(ahead.mean)
