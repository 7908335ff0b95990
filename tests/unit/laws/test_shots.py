"""Shot curves: honest from nothing, sharp from much, and never sure of nonsense."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import shots
from orrery.laws._shots_forms import COMPONENTS, DEVIATIONS, FORM_OF, design
from orrery.laws.posterior import Link, Posterior

pytestmark = pytest.mark.unit

NAN = np.nan
GRID = np.array([0.0, 1, 2, 4, 8, 16, 32])


def draw_from_prior(n: int, items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(true accuracy, measured score) of n curves drawn from the documented prior at GRID, chance 1/4."""
    rng = np.random.default_rng(seed)
    p = shots.ShotsPrior()
    component = rng.choice(len(COMPONENTS), n, p=np.asarray(p.component_weights))
    form = FORM_OF[component]
    a, b = rng.standard_normal((2, n))
    rho = np.where(form > 0, p.level_gain_correlation, 0)
    level = Link.LOGIT.forward(0.25) + p.level_offset + p.level_sd * a
    gain = np.asarray(p.gain_mean)[form] + np.asarray(p.gain_sd)[form] * (rho * a + np.sqrt(1 - rho**2) * b)
    dent = np.asarray(p.dent_mean)[form] + np.asarray(p.dent_sd)[form] * rng.standard_normal(n)
    z = np.einsum("nkc,nc->nk", design(GRID)[component], np.stack([level, gain, dent], 1))
    z += rng.choice(DEVIATIONS, (n, 1), p=np.asarray(p.deviation_weights)) * rng.standard_normal(z.shape)
    seen = Link.LOGIT.inverse(z + (GRID > 0) * p.demonstration_sd * rng.standard_normal(z.shape))
    return Link.LOGIT.inverse(z), rng.binomial(items, seen) / items


def coverage(post: Posterior, truth: np.ndarray) -> float:
    low, high = post.interval(0.9)
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("measured", [0, 1, 2, 3, 5])
def test_curves_drawn_from_the_prior_lie_in_the_90_percent_interval_at_that_rate(measured: int) -> None:
    truth, score = draw_from_prior(1500, items=200, seed=measured)
    seen = np.where(np.arange(GRID.size) < measured, score, NAN)
    post = shots.fit(GRID, seen, items=200, chance=0.25)
    # The share has a sampling sd of .008 over 1,500 curves; a normal stands for a mixture, which may cost two points.
    assert coverage(post.predict([32]), truth[:, -1:]) == pytest.approx(0.9, abs=0.035)
    assert coverage(post.predict([0]), truth[:, :1]) == pytest.approx(0.9, abs=0.035)


def test_the_score_of_a_further_evaluation_is_covered_too() -> None:
    _, score = draw_from_prior(1500, items=50, seed=9)
    seen = np.where(GRID <= 2, score, NAN)
    post = shots.fit(GRID, seen, items=50, chance=0.25)
    assert coverage(post.predict([32], items=50), score[:, -1:]) == pytest.approx(0.9, abs=0.04)
    assert (post.predict([32], items=50).sd > post.predict([32]).sd).all()


@pytest.mark.parametrize("speed", [0.1, 0.4, 1.5])
def test_exponential_saturation_in_accuracy_itself_is_recovered_from_shots_up_to_eight(speed: float) -> None:
    """The law of the paper, which is not among the forms (they saturate in logit): misspecified on purpose."""
    rng = np.random.default_rng(3)
    truth = 0.8 - 0.4 * np.exp(-speed * GRID)
    score = rng.binomial(400, truth, (400, GRID.size)) / 400
    post = shots.fit(GRID[:5], score[:, :5], items=400, chance=0.25).predict([16, 32])
    assert coverage(post, truth[-2:]) > 0.85
    # A curve that has not begun to bend by eight shots (.1) can only be covered, not known.
    assert np.abs(post.median() - truth[-2:]).mean() < (0.06 if speed > 0.1 else 0.12)


def test_more_measured_points_narrow_the_forecast() -> None:
    _, score = draw_from_prior(300, items=300, seed=5)
    width = [
        shots.fit(GRID, np.where(np.arange(GRID.size) < m, score, NAN), items=300, chance=0.25).predict([32]).sd.mean()
        for m in (0, 1, 3, 5, 7)
    ]
    assert width == sorted(width, reverse=True)
    assert width[-1] < 0.25 * width[0]


def test_nothing_measured_gives_a_wide_interval_around_the_chance_level() -> None:
    low, high = shots.fit([0], [[NAN], [NAN]], items=100, chance=[1 / 7, 0.5]).predict([0, 8]).interval(0.9)
    assert (high - low > 0.45).all()
    assert (low[1] > low[0]).all()


def test_a_dip_at_one_shot_is_recognised_and_does_not_pull_the_far_end_down_to_it() -> None:
    post = shots.fit([0, 1, 2, 4], [[0.36, 0.24, 0.40, 0.58]], items=1000, chance=1 / 7)
    assert post.weights[0, shots.FORMS.index("dip-then-rise")] > 0.8
    assert post.probability_hurts(1)[0] > 0.95
    assert post.probability_hurts(32)[0] < 0.1
    assert post.predict([32]).median()[0, 0] > 0.55


def test_a_fall_after_a_peak_is_recognised() -> None:
    scores = [[0.40, 0.62, 0.70, 0.72, 0.60, 0.46]]
    post = shots.fit([0, 1, 2, 4, 8, 16], scores, items=1000, chance=0.25)
    assert post.weights[0, shots.FORMS.index("peak-then-fall")] > 0.8
    assert post.predict([32]).median()[0, 0] < 0.46


def test_a_flat_curve_stays_flat() -> None:
    post = shots.fit([0, 1, 2, 4, 8], [[0.6, 0.61, 0.6, 0.59, 0.6]], items=2000, chance=0.25)
    assert post.predict([32]).median()[0, 0] == pytest.approx(0.6, abs=0.03)
    assert post.weights[0, 0] == post.weights[0].max()


def test_demonstrations_that_hurt_are_called_so_in_the_measured_share_of_cases() -> None:
    truth, score = draw_from_prior(3000, items=100, seed=11)
    seen = np.where(np.isin(GRID, [0, 1]), score, NAN)
    chance_to_hurt = shots.fit(GRID, seen, items=100, chance=0.25).probability_hurts(8)
    hurts = truth[:, 4] < truth[:, 0]
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 1.0)):
        bin_ = (chance_to_hurt >= low) & (chance_to_hurt < high)
        # Three standard errors of a share over the bin.
        assert hurts[bin_].mean() == pytest.approx(chance_to_hurt[bin_].mean(), abs=3 * 0.5 / np.sqrt(bin_.sum()))


def test_the_configuration_itself_is_known_where_it_was_measured_with_many_items() -> None:
    post = shots.fit([0, 8], [[0.4, 0.7]], items=100_000, chance=0.25).predict([0, 8, 9])
    assert post.sd[0, 0] < 0.02
    assert post.median()[0, :2] == pytest.approx([0.4, 0.7], abs=0.01)
    assert post.sd[0, 2] > 3 * post.sd[0, 0]


def test_a_measured_neighbour_narrows_an_unmeasured_curve_of_its_group_only() -> None:
    scores = [[0.75, 0.85], [NAN, NAN], [NAN, NAN]]
    post = shots.fit([0, 8], scores, items=300, chance=0.25, group=[4, 4, 7]).predict([8])
    assert post.sd[1, 0] < 0.8 * post.sd[2, 0]
    assert post.median()[1, 0] > post.median()[2, 0]
    alone = shots.fit([0, 8], scores, items=300, chance=0.25).predict([8])
    assert post.mean[2] == pytest.approx(alone.mean[2])
    assert post.sd[2] == pytest.approx(alone.sd[2])
    assert post.sd[0, 0] == pytest.approx(alone.sd[0, 0])


def test_sharing_inside_groups_pays_when_neighbours_are_alike() -> None:
    rng = np.random.default_rng(2)
    level, gain = rng.normal(0, 1, 60), rng.normal(1, 0.6, 60)
    group = np.repeat(np.arange(60), 4)
    z = level[group][:, None] + gain[group][:, None] * np.array([0.0, 1.0]) + rng.normal(0, 0.15, (240, 2))
    truth = Link.LOGIT.inverse(z)
    score = rng.binomial(200, truth) / 200
    score[np.arange(240) % 4 == 3] = NAN
    error = {}
    for name, g in (("alone", None), ("shared", group)):
        post = shots.fit([0, 32], score, items=200, chance=0.25, group=g).predict([32])
        error[name] = np.abs(post.median()[3::4, 0] - truth[3::4, 1]).mean()
        assert coverage(post.take(np.arange(3, 240, 4)), truth[3::4, 1:]) >= 0.85
    assert error["shared"] < 0.6 * error["alone"]


def test_a_prior_learned_from_like_curves_forecasts_better_than_the_documented_one() -> None:
    rng = np.random.default_rng(4)

    def world(n: int) -> tuple[np.ndarray, np.ndarray]:
        z = rng.normal(-0.5, 0.4, (n, 1)) + rng.normal(2.2, 0.3, (n, 1)) * (1 - np.exp(-0.25 * GRID))
        truth = Link.LOGIT.inverse(z)
        return truth, rng.binomial(300, truth) / 300

    _, train = world(60)
    learned = shots.learn_prior(GRID, train, items=300, chance=0.25)
    assert learned.gain_mean[1] == pytest.approx(2.2, abs=0.4)
    truth, score = world(300)
    seen = np.where(GRID <= 1, score, NAN)
    error, covered = [], []
    for prior in (shots.ShotsPrior(), learned):
        post = shots.fit(GRID, seen, items=300, chance=0.25, prior=prior).predict([32])
        error.append(np.abs(post.median()[:, 0] - truth[:, -1]).mean())
        covered.append(coverage(post, truth[:, -1:]))
    assert error[1] < 0.5 * error[0]
    assert covered[1] > 0.85


def test_the_score_without_demonstrations_holds_for_a_curve_that_jumps_to_and_fro() -> None:
    """SmolLM2-135M on social support, measured: a model that follows the last label shown, whatever it is."""
    jumping = shots.fit([0, 1, 2, 4, 8], [[0.42, 0.82, 0.07, 0.78, 0.07]], items=1000, chance=1 / 3).predict([0, 16])
    calm = shots.fit([0, 1, 2, 4, 8], [[0.42, 0.44, 0.43, 0.45, 0.44]], items=1000, chance=1 / 3).predict([0, 16])
    assert jumping.median()[0, 0] == pytest.approx(0.42, abs=0.02)
    assert jumping.sd[0, 1] > 5 * calm.sd[0, 1]


def test_repeated_shots_are_pooled_like_one_larger_evaluation() -> None:
    prior = shots.ShotsPrior(demonstration_sd=0.0)
    twice = shots.fit([0, 0], [[0.5, 0.5]], items=100, chance=0.25, prior=prior).predict([0, 8])
    once = shots.fit([0], [[0.5]], items=201, chance=0.25, prior=prior).predict([0, 8])
    assert twice.mean == pytest.approx(once.mean, abs=0.01)
    assert twice.sd == pytest.approx(once.sd, rel=0.01)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 5, 8, 32]), st.floats(0, 1)), max_size=6),
    st.integers(1, 10**7),
    st.floats(0, 0.95),
    st.floats(0, 1e6),
)
def test_any_valid_curve_gives_a_finite_forecast_and_the_same_one_each_time(
    points: list[tuple[int, float]], items: int, chance: float, at: float
) -> None:
    k = [p[0] for p in points]
    score = np.array([[p[1] for p in points]]).reshape(1, len(k))
    post = shots.fit(k, score, items=items, chance=chance)
    first, second = post.predict([at]), shots.fit(k, score, items=items, chance=chance).predict([at])
    assert np.isfinite(first.mean).all() and (first.sd > 0).all()
    assert first.mean.tobytes() == second.mean.tobytes()
    assert post.weights.sum() == pytest.approx(1)
    assert 0 <= post.probability_hurts(at)[0] <= 1


def test_thousands_of_curves_at_once_are_the_same_as_one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 0.9, (3000, 3))
    many = shots.fit([0, 1, 8], scores, items=200, chance=0.2).predict([32])
    one = shots.fit([0, 1, 8], scores[1234:4322], items=200, chance=0.2).predict([32])
    assert many.mean[1234] == pytest.approx(one.mean[0], abs=1e-9)
    assert many.sd[1234] == pytest.approx(one.sd[0], abs=1e-9)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"shots": [-1.0]}, "shots[0] is -1: give 0 or more demonstrations"),
        ({"shots": [NAN]}, "shots[0] is nan: give 0 or more"),
        ({"scores": [[1.2]]}, "scores[0, 0] is 1.2: give a share in [0, 1]"),
        ({"scores": [[np.inf]]}, "scores[0, 0] is inf"),
        ({"items": 0}, "items[0, 0] is 0: give the number of evaluation items, 1 or more"),
        ({"items": NAN}, "items[0, 0] is nan"),
        ({"chance": 1.0}, "chance[0] is 1: give a share in [0, 1)"),
        ({"scores": [[0.5, 0.6]]}, "scores has shape (1, 2): give (curves, 1)"),
        ({"items": [1, 2, 3]}, "items or chance does not fit scores of shape (1, 1)"),
        ({"group": [0.5]}, "group has shape (1,) and type float64: give 1 integers"),
    ],
)
def test_what_no_curve_can_have_is_refused_by_place_and_value(call: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"shots": [1.0], "scores": [[0.5]], "items": 10, "chance": 0.2} | call
    with pytest.raises(ValueError) as refusal:
        shots.fit(**arguments)  # type: ignore[arg-type]
    assert sentence in str(refusal.value)


def test_a_prior_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="component_weights has 2 entries: give 25"):
        shots.ShotsPrior(component_weights=(0.5, 0.5))
    with pytest.raises(ValueError, match="gain_sd is"):
        shots.ShotsPrior(gain_sd=(0.1, 0.0, 1.0, 1.0, 1.0))


def test_a_form_can_stand_alone_and_the_others_then_get_nothing() -> None:
    alone = tuple(float(form == 0) for form, *_ in COMPONENTS)
    prior = shots.ShotsPrior(component_weights=tuple(w / sum(alone) for w in alone))
    post = shots.fit([0, 1], [[0.3, 0.5]], items=100, chance=0.25, prior=prior)
    assert post.weights[0].tolist() == pytest.approx([1, 0, 0, 0, 0])
    assert np.isfinite(post.predict([32]).mean).all()
