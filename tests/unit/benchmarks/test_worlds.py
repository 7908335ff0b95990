"""Made-up tasks and changed constants: that they are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.laws import catch_up, priors, rectified
from orrery.laws.pooled_prior import PooledPrior
from orrery.laws.posterior import Link
from tests.benchmarks import rectified as cells
from tests.benchmarks import rectified_sensitivity, rectified_worlds
from tests.benchmarks.curves import Task

pytestmark = pytest.mark.unit
SIZES = 200.0 * 2.0 ** np.arange(8)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_BOOTSTRAP", 50)
    monkeypatch.setattr(cells, "_SUBPOOLS", 5)


def task(name: str, seed: int, count: int = 6) -> Task:
    rng = np.random.default_rng(seed)
    theta = np.array([1.2, -1.2, 8.5, -1.3]) + 0.2 * rng.standard_normal((count, 4))
    losses = np.exp(rectified.curve(theta, SIZES, Link.LOG))
    models = [f"m{i}" for i in range(count)]
    return Task(name, models, SIZES, losses, 1.3 * losses[:, 0], np.full(count, 1e8), ["f"] * count)


def test_worlds_are_what_they_say_and_no_prior_has_seen_where_they_come_from() -> None:
    a, b = task("flan", 0), task("another", 1)
    made = {w.task.name: w for w in rectified_worlds.worlds([a, b], 0)}
    assert made["flan, losses x 2.5"].task.losses == pytest.approx(2.5 * a.losses)
    assert made["flan, goal 12,800"].task.sizes[-1] == 12800
    steep, z = np.log(made["flan, course x 2.0"].task.losses), np.log(a.losses)
    assert steep.mean(axis=0) - steep[:, 0].mean() == pytest.approx(2 * (z.mean(axis=0) - z[:, 0].mean()))
    assert np.diff(steep, axis=0).std() == pytest.approx(np.diff(z, axis=0).std()), "differences stay"
    swapped = np.log(made["differences of flan, course of another"].task.losses)
    assert swapped.mean(axis=0) == pytest.approx(np.log(b.losses).mean(axis=0))
    of = {name: made[name].prior.law for name in ("flan, from 400", "half flan, half another", "late and steep (0)")}
    assert np.array_equal(of["flan, from 400"].mean, priors.shipped_prior(Link.LOG, task="flan").mean)
    assert made["half flan, half another"].prior == PooledPrior.weak(Link.LOG)
    assert np.array_equal(of["late and steep (0)"].mean, priors.shipped_prior(Link.LOG).mean)
    assert sum(w.group == "simulated" for w in made.values()) == 18


def test_every_world_is_counted_with_both_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectified_worlds, "BUDGETS", (8,))
    monkeypatch.setattr(rectified_worlds, "simulated", lambda rng: iter(()))
    found = rectified_worlds.measure([task("one", 0)], 0).summary
    assert found["worlds"] == found["bent.worlds"] == 20 and 0 <= found["covered85"] <= 1
    assert {"pearcorr", "ats.pearcorr", "last2.abs_ln_error", "ahead.pearcorr", "coverage90"} <= set(found)


@pytest.mark.parametrize(
    "name", [*rectified_sensitivity.CHOSEN, "probability of a step", "probability of no pull", "widening beyond 1"]
)
def test_a_number_is_moved_and_put_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectified_sensitivity, "BUDGETS", (8,))
    tasks = [task("one", 0)]
    before = rectified_sensitivity.scores(tasks, 0)
    widening = PooledPrior(rectified.LOSS_PRIOR, 1).widening
    with rectified_sensitivity.changed(name, 30.0) as moved:
        assert moved(PooledPrior(rectified.LOSS_PRIOR)).tasks == 0
        if name == "widening beyond 1":
            assert PooledPrior(rectified.LOSS_PRIOR, 1).widening == pytest.approx(1 + 30 * (widening - 1))
    assert rectified_sensitivity.scores(tasks, 0) == before and catch_up.forecast.__name__ == "forecast"
    if name != "widening beyond 1":  # everything was covered before
        assert rectified_sensitivity.scores(tasks, 0, name, 30.0) != before


@pytest.mark.parametrize("name", [*rectified_sensitivity.FIELDS, *rectified_sensitivity.LEARNED])
def test_a_number_of_the_prior_is_moved_in_the_prior(name: str) -> None:
    prior = PooledPrior(rectified.LOSS_PRIOR)
    with rectified_sensitivity.changed(name, 0.5) as moved:
        found = moved(prior)
    whole = found if hasattr(found, name) else found.law
    assert getattr(whole, name) == 0.5 * getattr(prior if hasattr(prior, name) else prior.law, name)
