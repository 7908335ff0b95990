"""Fine-tuning and demonstrations together: forecast from the parts, mended by one joint measurement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.laws import hybrid
from orrery.laws.posterior import Link, Posterior

pytestmark = pytest.mark.unit


def part(*mean: float, sd: float = 0.15) -> Posterior:
    return Posterior(np.array(mean, dtype=float), np.full(len(mean), sd), Link.LOGIT)


class World:
    """True parts and hybrids of n candidates of one model and task, drawn from the documented prior."""

    def __init__(self, seed: int, n: int = 6, sd: float = 0.15) -> None:
        rng = np.random.default_rng(seed)
        p = hybrid.HybridPrior()
        zero = rng.normal(-0.5, 0.5, n)
        tuned, shown = zero + rng.normal(1.5, 0.8, n), zero + rng.normal(1.0, 0.8, n)
        self.overlap = rng.normal(p.overlap_mean, p.overlap_sd)
        self.zero, self.tuned = zero, tuned
        disturbance = rng.normal(p.disturbance_mean, p.disturbance_sd)
        kept = (1 - self.overlap) * (shown - zero)
        self.truth = tuned + kept - disturbance + p.deviation_sd * rng.standard_normal(n)
        self.parts = [
            Posterior(z + sd * rng.standard_normal(n), np.full(n, sd), Link.LOGIT) for z in (zero, tuned, shown)
        ]


@pytest.mark.parametrize("measured", [0, 1, 3])
def test_intervals_hold_at_their_rate_with_and_without_joint_measurements(measured: int) -> None:
    held = []
    for seed in range(200):
        w = World(seed)
        joint = np.where(np.arange(6) < measured, Link.LOGIT.inverse(w.truth), np.nan)
        post = hybrid.forecast(*w.parts, joint=joint, joint_sd=0.02).predict()
        low, high = post.mean - 1.645 * post.sd, post.mean + 1.645 * post.sd
        held.append(np.mean(((low <= w.truth) & (w.truth <= high))[3:]))
    assert np.mean(held) == pytest.approx(0.9, abs=0.01 + 3 * np.std(held) / 14)


def test_one_joint_measurement_narrows_and_improves_the_others() -> None:
    before, after, width = [], [], []
    for seed in range(120):
        w = World(seed)
        joint = np.array([Link.LOGIT.inverse(w.truth)[0], *[np.nan] * 5])
        alone, told = (
            hybrid.forecast(*w.parts).predict(),
            hybrid.forecast(*w.parts, joint=joint, joint_sd=0.02).predict(),
        )
        before.append(np.abs(alone.mean - w.truth)[1:].mean())
        after.append(np.abs(told.mean - w.truth)[1:].mean())
        width.append((told.sd[1:] / alone.sd[1:]).mean())
    assert np.mean(after) < 0.95 * np.mean(before)
    assert np.mean(width) < 0.97


def test_a_joint_measurement_pins_its_own_candidate() -> None:
    post = hybrid.forecast(
        part(-0.5, -0.5), part(1.0, 1.2), part(0.5, 0.6), joint=[0.9, np.nan], joint_sd=0.005
    ).predict()
    assert post.median()[0] == pytest.approx(0.9, abs=0.01)
    assert post.sd[0] < 0.1 < post.sd[1]


def test_harm_is_called_at_the_rate_it_happens() -> None:
    said, was = [], []
    for seed in range(300):
        w = World(seed)
        said.append(hybrid.forecast(*w.parts).probability_demonstrations_hurt())
        was.append(w.truth < w.tuned)
    p, y = np.concatenate(said), np.concatenate(was)
    third = np.searchsorted(np.quantile(p, [1 / 3, 2 / 3]), p)
    for inside in (third == 0, third == 1, third == 2):
        # Six candidates share an overlap, so the effective count is nearer the number of worlds.
        assert y[inside].mean() == pytest.approx(p[inside].mean(), abs=0.08)


def test_tuning_that_broke_the_model_is_called_harmful_and_good_tuning_is_not() -> None:
    harm = hybrid.forecast(part(1.0, -1.0), part(-1.0, 1.0), part(1.0, 0.0)).probability_hurts()
    assert harm[0] > 0.98
    assert harm[1] < 0.02
    loss = hybrid.probability_hurts(part(-1.0), part(1.0), larger_is_better=False)
    assert loss[0] < 1e-6


def test_demonstrations_that_hurt_a_tuned_model_raise_the_overlap_and_are_called_harmful_elsewhere() -> None:
    parts = [part(-0.5, -0.5), part(1.0, 0.8), part(0.9, 0.9)]
    post = hybrid.forecast(*parts, joint=[0.6, np.nan], joint_sd=0.01)
    assert post.overlap[0] > 0.95
    assert post.overlap[1] < hybrid.HybridPrior().overlap_sd
    before = hybrid.forecast(*parts).probability_demonstrations_hurt()[1]
    assert before < 0.6 and post.probability_demonstrations_hurt()[1] > before + 0.15


def test_demonstrations_that_teach_nothing_only_disturb() -> None:
    for link, worse in ((Link.LOGIT, -1), (Link.LOG, 1)):
        parts = [Posterior(np.array([m]), np.zeros(1), link) for m in (0.3, 1.0, 0.3)]
        post = hybrid.forecast(*parts, joint=[np.nan])
        assert post.predict().mean[0] == pytest.approx(1.0 + worse * 0.3)
        assert post.overlap == pytest.approx((0.8, 0.4))


def test_candidates_that_share_a_part_learn_more_from_each_other() -> None:
    parts = [part(-0.5, -0.5), part(1.0, 1.0, sd=1.0), part(-0.5, -0.5)]

    def shared(a: hybrid.Index, b: hybrid.Index) -> hybrid.Alike:
        one = np.ones((len(a), len(b)))
        return hybrid.Alike(one, one, one)

    apart = hybrid.forecast(*parts, joint=[0.9, np.nan], joint_sd=0.01)
    together = hybrid.forecast(*parts, joint=[0.9, np.nan], joint_sd=0.01, alike=shared)
    assert together.predict().sd[1] < 0.5 * apart.predict().sd[1]
    assert together.response()[0][1] < 0.2 < 0.8 < apart.response()[0][1], "the shared part was told already"
    assert together.covariance([0, 1], [0, 1]).diagonal() == pytest.approx(together.predict().sd ** 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=3, max_size=3), st.floats(0, 3), st.floats(0, 1), st.floats(0, 2))
def test_any_parts_give_a_finite_forecast(means: list[float], sd: float, joint: float, joint_sd: float) -> None:
    post = hybrid.forecast(*(part(m, sd=sd) for m in means), joint=[joint], joint_sd=joint_sd)
    assert np.isfinite(post.predict().mean).all()
    assert 0 <= post.probability_hurts()[0] <= 1


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"fine_tuned": part(1.0, 2.0)}, "have shapes (1,), (2,) and (1,)"),
        (
            {"in_context": Posterior(np.zeros(1), np.ones(1), Link.LOG)},
            "are on the links logit, logit and log: give one link",
        ),
        ({"joint": [1.5]}, "joint[0] is 1.5: give a share in [0, 1], or NaN"),
        ({"joint": [0.5, 0.5]}, "joint has 2 entries: give 1"),
        ({"joint": [0.5], "joint_sd": -1.0}, "joint_sd[0] is -1: give a standard error of 0 or more"),
        ({"joint": [0.5], "joint_sd": [0.1, 0.1]}, "joint_sd does not fit 1 candidates"),
    ],
)
def test_what_cannot_be_is_refused_by_place_and_value(call: dict[str, object], sentence: str) -> None:
    arguments: dict[str, object] = {"zero_shot": part(0.0), "fine_tuned": part(1.0), "in_context": part(0.5)} | call
    with pytest.raises(ValueError) as refusal:
        hybrid.forecast(**arguments)  # type: ignore[arg-type]
    assert sentence in str(refusal.value)


def test_impossible_priors_and_comparisons_are_refused() -> None:
    with pytest.raises(ValueError, match="deviation_sd is -1: give a number above 0"):
        hybrid.HybridPrior(deviation_sd=-1)
    with pytest.raises(ValueError, match="give one shape and one link"):
        hybrid.probability_hurts(part(0.0), part(0.0, 1.0))
