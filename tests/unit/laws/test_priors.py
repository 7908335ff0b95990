import csv
from pathlib import Path

import numpy as np
import pytest

from orrery.laws import empirical_bayes, priors, rectified
from orrery.laws.posterior import Link
from orrery.laws.rectified import ERROR_PRIOR
from orrery.laws.tuning_prior import ASSUMED

pytestmark = pytest.mark.unit
DATA = Path(__file__).parents[4] / "shared" / "data" / "rectified"


def test_a_task_of_the_prior_gets_the_version_without_it() -> None:
    everything = priors.shipped_prior(Link.LOG)
    unknown = priors.shipped_prior(Link.LOG, task="no such task", seen=[frozenset(["0" * 8])])
    without = priors.shipped_prior(Link.LOG, task="flan")
    assert np.array_equal(everything.mean, unknown.mean)
    assert not np.array_equal(everything.mean, without.mean)
    assert priors.shipped_prior(Link.LOGIT) is ERROR_PRIOR


def gigaword() -> np.ndarray:
    with (DATA / "gigaword.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array(
        [[float(r[c]) for c in sorted((c for c in rows[0] if c.isdigit() and c != "0"), key=int)] for r in rows]
    )


@pytest.mark.skipif(
    not DATA.exists(), reason="needs the measured curves of ../shared/data/rectified beside the checkout"
)
@pytest.mark.parametrize(
    "kept",
    [np.s_[::-1], np.s_[:3], np.s_[:, 1:], np.s_[:, :-1], np.s_[4:6, 2:9:2], np.s_[:1, -1:]],
    ids=["shuffled", "three models", "no 200", "no largest size", "some of both", "one loss"],
)
def test_a_renamed_task_is_recognised_by_what_is_left_of_its_curves(kept: tuple[slice, ...]) -> None:
    found = priors.shipped_prior(Link.LOG, task="renamed", seen=priors.fingerprints(gigaword()[kept]))
    assert np.array_equal(found.mean, priors.shipped_prior(Link.LOG, task="gigaword").mean)


@pytest.mark.skipif(
    not DATA.exists(), reason="needs the measured curves of ../shared/data/rectified beside the checkout"
)
def test_holes_and_rounding_hide_no_task_and_another_task_is_not_taken_for_one() -> None:
    without = priors.shipped_prior(Link.LOG, task="gigaword").mean
    holes = np.where(np.random.default_rng(0).random((30, 14)) < 0.4, np.nan, gigaword().round(4))
    assert np.array_equal(priors.shipped_prior(Link.LOG, seen=priors.fingerprints(holes)).mean, without)
    other = gigaword() * np.random.default_rng(1).normal(1, 0.02, (30, 14))
    everything = priors.shipped_prior(Link.LOG)
    assert np.array_equal(
        priors.shipped_prior(Link.LOG, task="other", seen=priors.fingerprints(other)).mean, everything.mean
    )
    assert np.array_equal(
        priors.shipped_prior(Link.LOG, seen=priors.fingerprints(np.full((2, 3), np.nan))).mean, everything.mean
    )


def test_the_spelling_of_a_name_hides_no_task() -> None:
    for spelling in ("Gigaword", "GIGAWORD"):
        found = priors.shipped_prior(Link.LOG, task=spelling)
        assert np.array_equal(found.mean, priors.shipped_prior(Link.LOG, task="gigaword").mean)
    assert priors.shipped_shots_prior("BIGBench/Intent_Recognition") == priors.shipped_shots_prior("intent_recognition")


def test_learns_the_moments_curves_were_drawn_from() -> None:
    sizes = 200.0 * 2.0 ** np.arange(14)
    mean, sd = np.array([1.0, -0.5, 8.0, -0.7]), np.array([0.3, 0.4, 1.0, 0.2])
    theta = mean + sd * np.random.default_rng(0).standard_normal((60, 4))
    z = rectified.curve(theta, sizes, Link.LOG) + np.random.default_rng(1).normal(0, 0.004, (60, 14))
    learned = empirical_bayes.learn_prior(sizes, np.exp(z), link=Link.LOG)
    assert np.abs(learned.mean - mean) == pytest.approx(0, abs=0.5)
    assert np.sqrt(np.diag(learned.covariance)) == pytest.approx(sd, rel=0.6)
    with pytest.raises(ValueError, match="at least eight scores"):
        empirical_bayes.learn_prior(sizes[:2], np.exp(z[:2, :2]), link=Link.LOG)


def test_a_task_moves_the_prior_of_others_and_one_curve_does_not() -> None:
    sizes = 200.0 * 2.0 ** np.arange(14)
    prior = priors.shipped_prior(Link.LOG)
    theta = prior.mean + [1.5, 0.0, 0.0, 0.0] + 0.3 * np.random.default_rng(0).standard_normal((30, 4))
    losses = np.exp(rectified.curve(theta, sizes, Link.LOG))
    found = empirical_bayes.adapt(prior, sizes[:6], losses[:, :6], link=Link.LOG)
    assert found.mean[0] == pytest.approx(prior.mean[0] + 1.5, abs=0.2)
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert empirical_bayes.adapt(prior, sizes[:6], losses[:1, :6], link=Link.LOG) is prior


def test_pull_and_choice_are_those_of_other_tasks() -> None:
    everything, without = (priors.shipped_pooled_prior(Link.LOG, task=t) for t in (None, "flan"))
    assert (everything.tasks, without.tasks) == (2, 1) and without.mean_pull < everything.mean_pull
    assert everything.law.mean == pytest.approx(priors.shipped_prior(Link.LOG).mean)
    assert priors.shipped_pooled_prior(Link.LOGIT).tasks == 0


def test_a_task_of_the_measured_shot_curves_gets_the_prior_without_it() -> None:
    everything = priors.shipped_shots_prior()
    assert everything == priors.shipped_shots_prior("no such task")
    without = priors.shipped_shots_prior("bigbench/intent_recognition")
    assert without != everything and without == priors.shipped_shots_prior("intent_recognition")
    assert everything.component_weights[0] > 0.3, "most curves over random demonstrations are flat"


def test_retrieved_demonstrations_have_a_prior_of_their_own_that_never_saw_the_plans_task() -> None:
    everything = priors.shipped_shots_prior(retrieved=True)
    without = priors.shipped_shots_prior("bigbench/intent_recognition", retrieved=True)
    assert everything != priors.shipped_shots_prior() and without != everything
    assert without.gain_mean[1] < everything.gain_mean[1], "intents is the task that gained most"


def test_trainings_have_a_prior_that_never_saw_the_plans_task_and_losses_the_assumed_one() -> None:
    everything = priors.shipped_tuning_prior(Link.LOGIT)
    assert everything == priors.shipped_tuning_prior(Link.LOGIT, "no such task")
    without = priors.shipped_tuning_prior(Link.LOGIT, "bigbench/intent_recognition")
    assert without == priors.shipped_tuning_prior(Link.LOGIT, "intent_recognition") != everything
    assert without.law_mean[2] > everything.law_mean[2], "intents is the task that is learned from the fewest examples"
    assert priors.shipped_tuning_prior(Link.LOG) is ASSUMED
    assert everything.law_sd == ASSUMED.law_sd, "six tasks do not prove that a seventh is like them"
