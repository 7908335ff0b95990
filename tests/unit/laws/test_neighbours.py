"""The neighbours' vote as a reading of the score with retrieved demonstrations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from orrery.laws import neighbours, priors
from orrery.laws import shots as shots_law
from orrery.laws.neighbours import VoteError, learn, pseudo_scores
from tests.benchmarks import retrieved

pytestmark = pytest.mark.unit

_SHARE = st.floats(0, 1)


@given(_SHARE, st.integers(2, 512), st.floats(-7, 7), st.floats(-1, 1), st.floats(0.05, 2))
@settings(max_examples=100)
def test_any_vote_is_a_possible_score(vote: float, voters: int, zero_shot: float, offset: float, sd: float) -> None:
    told = pseudo_scores(vote, voters, zero_shot, VoteError(offset, sd))
    assert told == [] or [k for k, _, _ in told] == list(neighbours.READ_AT)
    for _, score, items in told:
        assert 0 < score < 1 and 1 <= items < np.inf


@given(_SHARE, st.floats(-3, 3), st.floats(0, 3))
@settings(max_examples=50)
def test_the_better_the_model_is_alone_the_less_the_vote_is_worth(vote: float, zero: float, more: float) -> None:
    def worth(start: float) -> float:
        return sum(n for _, _, n in pseudo_scores(vote, 400, start, VoteError(0.0, 0.4)))

    assert worth(zero + more) <= worth(zero) + 1e-9
    assert worth(-9.0) == pytest.approx(worth(-10.0)), "what lies below the vote takes nothing from it"


def test_the_error_is_learned_back() -> None:
    rng = np.random.default_rng(0)
    votes = rng.uniform(0.2, 0.9, 400)
    logits = np.log(votes / (1 - votes)) - 0.3 + 0.5 * rng.standard_normal(400)
    scores = np.repeat(expit(logits)[:, None], 3, axis=1)
    scores[::2, 2] = np.nan
    found = learn(scores, np.full(scores.shape, 1e4), votes, np.full(400, 1e4))
    assert found.offset == pytest.approx(-0.3, abs=0.07) and found.sd == pytest.approx(0.5, abs=0.05)


def test_few_tasks_leave_the_error_near_where_it_started() -> None:
    one = learn([[0.5, 0.5]], [[200, 200]], [0.5], [500])
    assert 0.8 * neighbours.START_SD < one.sd < neighbours.START_SD and abs(one.offset) < 0.01


def test_the_shipped_error_has_not_seen_the_plans_task() -> None:
    everything, without = priors.shipped_vote_error(), priors.shipped_vote_error("bigbench/intent_recognition")
    assert everything == priors.shipped_vote_error("no such task") != without
    found = retrieved.read()
    others = found.rows(np.array(found.table.task) != "intent_recognition").error()
    assert without.offset == pytest.approx(others.offset, abs=1e-4) and without.sd == pytest.approx(others.sd, abs=1e-4)


def test_on_tasks_left_out_the_vote_halves_the_error_before_any_demonstration() -> None:
    """Measured curves of SmolLM2-135M, docs/benchmarks/shots.md."""
    summary = retrieved.measure().summary
    assert summary["shots0.vote.mae"] < 0.5 * summary["shots0.law.mae"]
    assert summary["shots0.vote.mae"] < 0.7 * summary["shots0.last.mae"]
    assert summary["shots1.vote.mae"] < summary["shots1.law.mae"]
    assert summary["shots0.vote.coverage90"] >= 0.75


def test_a_vote_above_the_start_makes_a_curve_rise_at_once() -> None:
    told = pseudo_scores(0.93, 485, float(np.log(0.33 / 0.67)), VoteError(-0.05, 0.36))
    ks, scores, items = zip((0, 0.33, 200.0), *told, strict=True)
    fit = shots_law.fit(ks, [scores], items=[items], chance=0.18, prior=priors.shipped_shots_prior(retrieved=True))
    assert (np.abs(fit.predict([1, 4, 16]).median()[0] - 0.91) < 0.05).all()
