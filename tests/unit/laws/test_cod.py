"""Clustering on difficulty: the large sibling's score from the small ones' items, with an interval that holds."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.laws import _mean_shift, _monotone_map, cod

pytestmark = pytest.mark.unit

SMALL = np.geomspace(1, 30, 6)
LARGE = 300.0


def clustered(rng: np.random.Generator, items: int = 400, attempts: int = 50) -> tuple[np.ndarray, float]:
    """Pass rates of six small models and the large one's true score; eight difficulties, each with an exponent of its own."""
    kind = rng.integers(0, 8, items)
    eta = np.linspace(-1, 3.5, 8)[kind] + 0.15 * rng.standard_normal(items)
    eta = eta[:, None] - (0.25 + 0.5 * rng.random(8))[kind][:, None] * np.log(np.r_[SMALL, LARGE])
    p = np.exp(-np.exp(eta) - rng.choice([0, 0.05], 8)[kind][:, None])
    return rng.binomial(attempts, p[:, :-1]) / attempts, float(p[:, -1].mean())


def logistic(rng: np.random.Generator, items: int = 400, attempts: int = 50) -> tuple[np.ndarray, float]:
    """The same from item response theory: two parameters an item, ability linear in log compute. Not the law COD assumes."""
    difficulty, discrimination = rng.normal(1.5, 2, items), rng.lognormal(0, 0.3, items)
    p = 1 / (1 + np.exp(-discrimination[:, None] * (0.6 * np.log(np.r_[SMALL, LARGE]) - difficulty[:, None])))
    return rng.binomial(attempts, p[:, :-1]) / attempts, float(p[:, -1].mean())


@pytest.mark.parametrize("world", [clustered, logistic])
def test_with_one_attempt_an_item_the_interval_is_wider_and_still_holds(world: object) -> None:
    """Clusters are then patterns of luck and less of the task can be extrapolated: the price shows in the width."""
    held, width = [], []
    for seed in range(12):
        rates, truth = world(np.random.default_rng(seed), attempts=1)  # type: ignore[operator]
        low, high = cod.fit(rates, SMALL).predict([LARGE]).interval(0.9)
        held.append(low[0] <= truth <= high[0])
        width.append(high[0] - low[0])
    assert sum(held) >= 9
    assert 0.15 < np.mean(width) < 0.4


@pytest.mark.parametrize("world", [clustered, logistic])
def test_ten_times_the_largest_sibling_is_covered_and_close(world: object) -> None:
    errors, held = [], []
    for seed in range(12):
        rates, truth = world(np.random.default_rng(seed))  # type: ignore[operator]
        post = cod.fit(rates, SMALL, attempts=50).predict([LARGE])
        low, high = post.interval(0.9)
        errors.append(abs(post.median()[0] - truth))
        held.append(low[0] <= truth <= high[0])
        assert high[0] - low[0] < 0.45
    # Of 12 intervals at 90 %, 9 or more hold with probability .97.
    assert sum(held) >= 9
    assert np.mean(errors) < 0.06


def test_on_items_of_differing_exponents_it_is_closer_than_one_law_over_all_items() -> None:
    """The point of the paper: half the items are hard and steep, half easy and flat."""
    mine, end_to_end = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        steep = rng.random(400) < 0.5
        eta = np.where(steep, 3.0, -0.5) + 0.1 * rng.standard_normal(400)
        eta = eta[:, None] - np.where(steep, 0.9, 0.15)[:, None] * np.log(np.r_[SMALL, LARGE])
        p = np.exp(-np.exp(eta))
        rates = rng.binomial(50, p[:, :-1]) / 50
        for errors, fit in ((mine, cod.fit), (end_to_end, cod.fit_end_to_end)):
            errors.append(abs(fit(rates, SMALL, attempts=50).predict([LARGE]).median()[0] - p[:, -1].mean()))
    assert np.mean(mine) < 0.7 * np.mean(end_to_end)


def test_more_siblings_narrow_the_interval() -> None:
    rates, _ = clustered(np.random.default_rng(3))
    width = [cod.fit(rates[:, :m], SMALL[:m], attempts=50).predict([LARGE]).sd[0] for m in (1, 3, 6)]
    assert width[0] > width[1] > width[2]


def test_items_that_never_improve_are_not_extrapolated_as_if_they_would() -> None:
    rng = np.random.default_rng(0)
    p = np.r_[np.full((100, 6), 0.3), np.exp(-np.exp(1.5 - 0.5 * np.log(SMALL))) * np.ones((100, 1))]
    post = cod.fit(rng.binomial(100, p) / 100, SMALL, attempts=100)
    flat, growing = post.label[:100], post.label[100:]
    flat_kept = [post.kept[c] for c in set(flat[flat >= 0].tolist())]
    growing_kept = [post.kept[c] for c in set(growing[growing >= 0].tolist())]
    assert max(flat_kept) < 0.5 < max(growing_kept)


def test_items_nobody_solves_stay_outside_the_clusters_but_count_in_the_score() -> None:
    rates, _ = clustered(np.random.default_rng(1))
    with_dead = np.r_[rates, np.zeros((100, 6))]
    post = cod.fit(with_dead, SMALL, attempts=50)
    assert (post.label[400:] == -1).all()
    full, part = (
        post.predict([SMALL[-1]]).median()[0],
        cod.fit(rates, SMALL, attempts=50).predict([SMALL[-1]]).median()[0],
    )
    assert full == pytest.approx(0.8 * part, abs=0.05)


def test_without_a_cluster_to_keep_one_law_over_all_items_answers_and_says_so() -> None:
    post = cod.fit([[0.2, 0.3], [0.4, 0.5]], [1.0, 2.0], attempts=10)
    assert post.end_to_end
    low, high = post.predict([4.0]).interval(0.9)
    assert high[0] - low[0] > 0.2


def test_nothing_solved_anywhere_gives_a_low_and_open_forecast() -> None:
    post = cod.fit(np.zeros((50, 3)), [1.0, 2.0, 4.0], attempts=20).predict([4.0, 400.0])
    assert post.median()[0] < 0.05
    assert post.sd[1] > post.sd[0]


def test_chance_is_a_floor() -> None:
    rng = np.random.default_rng(4)
    rates = rng.binomial(1, 0.25, (300, 4)).astype(float)
    post = cod.fit_end_to_end(rates, [1.0, 2.0, 4.0, 8.0], chance=0.25).predict([0.01, 16.0])
    assert (post.median() > 0.24).all() and post.median()[1] < 0.4


def test_the_order_of_the_models_and_the_unit_of_compute_do_not_matter() -> None:
    rates, _ = clustered(np.random.default_rng(5))
    order = [3, 0, 5, 1, 4, 2]
    plain = cod.fit(rates, SMALL, attempts=50).predict([LARGE])
    other = cod.fit(rates[:, order], SMALL[order] * 1e18, attempts=50).predict([LARGE * 1e18])
    assert other.mean == pytest.approx(plain.mean, abs=1e-6)
    again = cod.fit(rates, SMALL, attempts=50).predict([LARGE])
    assert (again.mean.tobytes(), again.sd.tobytes()) == (plain.mean.tobytes(), plain.sd.tobytes())


def test_mean_shift_finds_the_blobs_and_leaves_out_what_belongs_to_none() -> None:
    rng = np.random.default_rng(0)
    blobs = np.r_[0.2 + 0.02 * rng.standard_normal((40, 3)), 0.8 + 0.02 * rng.standard_normal((60, 3))]
    label = _mean_shift.cluster_until_stable(np.r_[blobs, [[0.5, 0.0, 1.0]]])
    assert label[-1] == -1
    assert not set(label[:40].tolist()) & (set(label[40:100].tolist()) - {-1})
    assert (label[:100] >= 0).mean() > 0.75
    assert np.bincount(label[label >= 0]).min() >= 10


def test_mean_shift_agrees_with_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.cluster")
    rng = np.random.default_rng(1)
    points = np.concatenate([c + 0.05 * rng.standard_normal((50, 2)) for c in ([0.2, 0.2], [0.8, 0.3], [0.5, 0.9])])
    width = _mean_shift.bandwidth(points, 0.1)
    assert width == pytest.approx(sklearn.estimate_bandwidth(points, quantile=0.1), rel=1e-6)
    ours, _ = _mean_shift.cluster(points, 0.2)
    theirs = sklearn.MeanShift(bandwidth=0.2).fit(points).labels_
    assert len(set(zip(ours.tolist(), theirs.tolist(), strict=True))) == 3


def test_identical_items_are_one_cluster() -> None:
    assert _mean_shift.cluster_until_stable(np.tile([0.5, 0.5], (30, 1))).tolist() == [0] * 30


def test_the_map_passes_both_ends_rises_and_is_unsure_only_beyond_what_was_measured() -> None:
    x, y = np.array([0.2, 0.4, 0.41, 0.6]), np.array([0.1, 0.25, 0.24, 0.4])
    at = np.repeat(np.linspace(0, 1, 21)[:, None], 200, axis=1)
    value = _monotone_map.draws(x, y, np.full(4, 1e-9), at, seed=0)
    assert (value[0], value[-1]) == (pytest.approx(0.0), pytest.approx(1.0))
    assert (np.diff(value, axis=0) >= -1e-12).all()
    assert value[4].mean() == pytest.approx(0.1, abs=1e-6)
    spread = value.std(1)
    assert spread[:13].max() < 0.02 < spread[16]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"pass_rates": [[1.2, 0.5]]}, "pass_rates[0, 0] is 1.2: give a share of attempts in [0, 1]"),
        ({"pass_rates": [[np.nan, 0.5]]}, "pass_rates[0, 0] is nan"),
        ({"pass_rates": [[0.5]]}, "pass_rates has shape (1, 1): give (items, 2)"),
        ({"pass_rates": np.zeros((0, 2))}, "pass_rates has shape (0, 2)"),
        ({"compute": [0.0, 1.0]}, "compute[0] is 0: give a number above 0"),
        ({"compute": [1.0, np.inf]}, "compute[1] is inf"),
        ({"attempts": 0}, "attempts[0, 0] is 0: give 1 or more attempts"),
        ({"attempts": [1, 2, 3]}, "attempts does not fit pass_rates of shape (1, 2)"),
        ({"chance": 1.0}, "chance[0] is 1: give a share in [0, 1)"),
    ],
)
def test_what_cannot_be_is_refused_by_place_and_value(call: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"pass_rates": [[0.2, 0.5]], "compute": [1.0, 2.0]} | call
    with pytest.raises(ValueError) as refusal:
        cod.fit(**arguments)  # type: ignore[arg-type]
    assert sentence in str(refusal.value)
    with pytest.raises(ValueError, match="give a number above 0"):
        cod.fit([[0.2, 0.5]], [1.0, 2.0]).predict([-1.0])
