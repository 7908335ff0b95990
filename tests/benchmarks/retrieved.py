"""Scores with retrieved demonstrations, forecast from none or few of them; every task is left out of what is learned.

    python -m tests.benchmarks.retrieved --json OUT

The curves are those of BM25 in the full grids (``measured/grid``) and on further tasks (``measure_retrieved``), SmolLM2-135M. For what
is known of a curve (the score without demonstrations; that and with one; and with four), all others are forecast:

vote          the law and the neighbours' vote, as plans do it
law           the law alone, its prior learned from the same curves
vote_alone    the vote, moved by the offset learned
last          the last known score

Summary, means over tasks: ``NAME.mae`` in points and, of the first two, ``NAME.coverage90`` of what an evaluation will show,
each for ``shots0``, ``shots1`` and ``shots4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import expit

from orrery.api.probe import NEIGHBOURS_ASKED, TrialResult
from orrery.laws import neighbours
from orrery.laws import shots as shots_law
from orrery.laws.posterior import Z90, Array, Link
from tests.benchmarks import exhaustive, harness, measure_retrieved, shots, tables
from tests.benchmarks.grids import TASKS

_BM25 = re.compile(r"in-context\(shots=(\d+),retriever=bm25,")
MODEL = measure_retrieved.MODEL
#: Largest number of demonstrations whose score is known.
KNOWN = (0, 1, 4)


@dataclass(frozen=True)
class Retrieved:
    """Measured curves, a task a row, and what the data say of them."""

    table: shots.Table
    votes: Array  #: (n,)
    voters: Array  #: (n,) training examples that were asked

    def rows(self, pick: Array) -> Retrieved:
        """Some of the tasks."""
        return Retrieved(self.table.rows(pick), self.votes[pick], self.voters[pick])

    def prior(self) -> shots_law.ShotsPrior:
        """The law's prior that these curves suggest."""
        t, start = self.table, shots_law.RETRIEVED_DEMONSTRATIONS
        return shots_law.learn_prior(t.shots, t.score, items=t.items, chance=t.chance, start=start)

    def error(self) -> neighbours.VoteError:
        """How far their scores are from the vote."""
        some = self.table.shots > 0
        return neighbours.learn(self.table.score[:, some], self.table.items[:, some], self.votes, self.voters)


def _measured() -> Iterator[tuple[str, dict[float, tuple[float, int]], float, float, int]]:
    """Task, shots to (score, items), chance, vote, training examples."""
    for task in TASKS:
        kept, curve = exhaustive.load(task), {}
        for row in kept["rows"].values():
            result = TrialResult.model_validate(row["result"])
            found = _BM25.search(row["candidate"])
            zero = row["strategy"] == "ZeroShot" and row["model"] == "smollm2"
            if result.score is not None and (zero or found):
                curve[float(found[1]) if found else 0.0] = float(result.score), result.items
        facts = kept["task_facts"]
        yield (
            task.removeprefix("bigbench/"),
            curve,
            float(facts["chance"]),
            float(facts["neighbourVote"]),
            facts["trainExamples"],
        )
    _, rows = tables.read_csv(measure_retrieved.KEPT)
    for task in sorted({row["task"] for row in rows}):
        mine = [row for row in rows if row["task"] == task]
        curve = {float(row["shots"]): (float(row["score"]), int(row["items"])) for row in mine}
        yield task, curve, float(mine[0]["chance"]), float(mine[0]["vote"]), int(mine[0]["train"])


def read() -> Retrieved:
    """All measured curves."""
    found = list(_measured())
    ks = sorted({k for _, curve, *_ in found for k in curve})
    score, items = np.full((len(found), len(ks)), np.nan), np.ones((len(found), len(ks)))
    for i, (_, curve, *_) in enumerate(found):
        for k, (value, count) in curve.items():
            score[i, ks.index(k)], items[i, ks.index(k)] = value, count
    names, n = [name for name, *_ in found], len(found)
    chance = np.array([c for _, _, c, _, _ in found])
    table = shots.Table(names, [MODEL] * n, ["0"] * n, np.array(ks), score, items, chance)
    voters = np.array([min(t, NEIGHBOURS_ASKED) for *_, t in found], dtype=np.float64)
    return Retrieved(table, np.array([v for *_, v, _ in found]), voters)


def forecast(
    learned: shots_law.ShotsPrior, one: Retrieved, known: int, error: neighbours.VoteError | None
) -> tuple[Array, Array]:
    """Median (k,) on the logit scale and sd of one task's scores at every number of shots, from those up to ``known``."""
    t = one.table
    ks, score, items = t.shots, np.where(t.shots <= known, t.score, np.nan), t.items
    if error is not None:
        zero = float(Link.LOGIT.forward(t.score[0, 0]))
        with_some = score[0, (ks > 0) & ~np.isnan(score[0])]
        shown = float(Link.LOGIT.forward(with_some).mean()) if with_some.size else None
        told = neighbours.pseudo_scores(float(one.votes[0]), float(one.voters[0]), zero, error, shown)
        ks = np.concatenate([ks, [k for k, _, _ in told]])
        score = np.concatenate([score, [[s for _, s, _ in told]]], axis=1)
        items = np.concatenate([items, [[n for _, _, n in told]]], axis=1)
    post = shots_law.fit(ks, score, items=items, chance=t.chance, prior=learned).predict(t.shots)
    return post.mean[0], post.sd[0]


def measure() -> harness.Outcome:
    """Every task left out once."""
    everything = read()
    names = everything.table.task
    rows: list[harness.Row] = []
    for i, name in enumerate(names):
        pick = np.arange(len(names)) == i
        one, others = everything.rows(pick), everything.rows(~pick)
        learned, error = others.prior(), others.error()
        t = one.table
        for known in KNOWN:
            ahead = (t.shots > known) & ~np.isnan(t.score[0])
            if not ahead.any():
                continue
            row: harness.Row = {"task": name, "known": f"k <= {known}", "vote": one.votes[0], "zero": t.score[0, 0]}
            truth, count = t.score[0, ahead], t.items[0, ahead]
            for who, said in (("vote", error), ("law", None)):
                z, sd = (x[ahead] for x in forecast(learned, one, known, said))
                p = expit(z)
                wide = np.sqrt(sd**2 + 1 / (count * p * (1 - p) + 0.5))
                seen = np.log((truth * count + 0.5) / ((1 - truth) * count + 0.5))
                row[f"{who}.mae"] = 100 * float(np.abs(p - truth).mean())
                row[f"{who}.coverage90"] = float((np.abs(seen - z) <= Z90 * wide).mean())
            alone = expit(neighbours.logit_of(float(one.votes[0]), float(one.voters[0])) + error.offset)
            last = t.score[0, (t.shots <= known) & ~np.isnan(t.score[0])][-1]
            row["vote_alone.mae"] = 100 * float(np.abs(alone - truth).mean())
            row["last.mae"] = 100 * float(np.abs(last - truth).mean())
            rows.append(row)
    columns = [c for c in rows[0] if "." in c]
    summary = {
        f"shots{known}.{c}": fmean(r[c] for r in rows if r["known"] == f"k <= {known}")
        for known in KNOWN
        for c in columns
    }
    return harness.Outcome(rows, summary, [("retrieved demonstrations, errors in points", rows)])


if __name__ == "__main__":
    harness.run("retrieved", harness.arguments(__doc__, data=None), measure)
