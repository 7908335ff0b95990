import csv
from pathlib import Path

import numpy as np
import pytest

from orrery.laws import empirical_bayes, priors, rectified
from orrery.laws.posterior import Link
from orrery.laws.rectified import ERROR_PRIOR

pytestmark = pytest.mark.unit
DATA = Path(__file__).parents[4] / "shared" / "data" / "rectified"


def test_a_task_of_the_prior_gets_the_version_without_it() -> None:
    everything = priors.shipped_prior(Link.LOG)
    unknown = priors.shipped_prior(Link.LOG, task="no such task", seen=["0" * 10])
    without = priors.shipped_prior(Link.LOG, task="flan")
    assert np.array_equal(everything.mean, unknown.mean)
    assert not np.array_equal(everything.mean, without.mean)
    assert priors.shipped_prior(Link.LOGIT) is ERROR_PRIOR


@pytest.mark.skipif(
    not DATA.exists(), reason="needs the measured curves of ../shared/data/rectified beside the checkout"
)
def test_a_renamed_task_is_recognised_by_its_curves() -> None:
    with (DATA / "gigaword.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    sizes = sorted((c for c in rows[0] if c.isdigit() and c != "0"), key=int)
    losses = np.array([[float(r[c]) for c in sizes] for r in rows])
    shuffled = losses[::-1][:3]
    found = priors.shipped_prior(Link.LOG, task="renamed", seen=priors.fingerprints(shuffled))
    assert np.array_equal(found.mean, priors.shipped_prior(Link.LOG, task="gigaword").mean)


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
