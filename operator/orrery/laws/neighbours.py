"""What a vote of near neighbours says of retrieved demonstrations before any was shown to the model.

A language model that is shown examples like the request largely gives their answer, so the share of examples whose label
their nearest others vote for is a reading of the score with retrieved demonstrations, at any number of them::

    logit score(k) = logit vote + offset + error,   error ~ N(0, sd^2 + excess^2),   k > 0

Offset and sd are learned from measured tasks, never the plan's own. ``excess`` is how far (logit) the model without
demonstrations is above the vote already: then it knows more than the neighbours tell and need not follow them. Few tasks
leave the sd uncertain, which makes the error's tails those of Student's t: where scores that were measured with retrieved
demonstrations miss the vote by much, it is believed less at other numbers of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from orrery.laws.posterior import Link

#: Demonstrations at which the vote is read: it says that a curve is there from the first one to the last, not how it gets there.
READ_AT = (1, 16)

#: Degrees of freedom of the error. With 2 to 5, curves left out are forecast alike; without tails a vote that was wrong once is
#: believed again.
DEGREES = 5.0

#: Learning starts from as many tasks as this, on which the vote was the score give or take START_SD (logit).
PSEUDO_TASKS, START_SD = 2.0, 0.6


@dataclass(frozen=True)
class VoteError:
    """By how much scores (logit) are above the vote: mean and sd over tasks."""

    offset: float = 0.0
    sd: float = START_SD


def logit_of(vote: float, voters: float) -> float:
    """Logit of a share of ``voters`` examples, with half an example on each side: finite at 0 and at 1.

    >>> round(logit_of(1.0, 100), 1)
    5.3
    """
    right, wrong = vote * voters + 0.5, (1 - vote) * voters + 0.5
    return float(np.log(right / wrong))


def pseudo_scores(
    vote: float, voters: float, zero_shot: float, error: VoteError, shown: float | None = None
) -> list[tuple[int, float, float]]:
    """The vote as scores that an evaluation might have shown: (shots, score, items), items as many as it is worth.

    None where it is worth less than an item: what was measured says something else.

    Args:
        vote: share of examples whose label their neighbours vote for; voters: how many examples those were.
        zero_shot: logit of the score without demonstrations; shown: mean logit of those with retrieved ones, if any.

    >>> [(k, round(s, 2), round(n)) for k, s, n in pseudo_scores(0.9, 500, 0.0, VoteError(-0.2, 0.4))]
    [(1, 0.88, 30), (16, 0.88, 30)]
    >>> pseudo_scores(0.5, 500, 2.5, VoteError(-0.2, 0.4))
    []
    """
    at = logit_of(vote, voters)
    expected = at + error.offset
    score = float(Link.LOGIT.inverse(expected))
    miss = 0.0 if shown is None else shown - expected
    # the expected variance of a t-distributed error that was seen once
    scale = max(error.sd**2, (DEGREES * error.sd**2 + miss**2) / (DEGREES + 1))
    variance = scale + max(zero_shot - at, 0.0) ** 2
    items = 1 / (variance * score * (1 - score)) / len(READ_AT)
    return [(k, score, items) for k in READ_AT] if items >= 1 else []


def learn(scores: ArrayLike, items: ArrayLike, votes: ArrayLike, voters: ArrayLike) -> VoteError:
    """Offset and sd from measured curves, shrunk to a vote that is the score give or take START_SD.

    Args:
        scores: (n, k) shares with one demonstration or more, a task a row; NaN where not measured, at least one a row.
        items: (n, k) evaluation items behind them.
        votes: (n,) each task's vote; voters: (n,) how many examples those were.
    """
    y, count = np.asarray(scores, dtype=np.float64), np.asarray(items, dtype=np.float64)
    expected = [logit_of(v, m) for v, m in zip(np.asarray(votes), np.asarray(voters), strict=True)]
    z = np.log((y * count + 0.5) / ((1 - y) * count + 0.5))
    off = np.nanmean(z, axis=1) - np.asarray(expected)
    total = off.size + PSEUDO_TASKS
    offset = off.sum() / total
    scatter = ((off - offset) ** 2).sum() + PSEUDO_TASKS * (START_SD**2 + offset**2)
    return VoteError(float(offset), float(np.sqrt(scatter / total)))
