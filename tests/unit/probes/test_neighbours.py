"""The neighbours' vote: leave-one-out, nothing of equal inputs, the same however often it is asked."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.probe import NEIGHBOURS_ASKED
from orrery.api.task import Task
from orrery.probes.bm25 import bm25, nearest
from orrery.probes.facts import task_facts
from orrery.probes.neighbours import VOTERS, neighbour_vote
from orrery.probes.session import Example, TaskData

pytestmark = pytest.mark.unit

_WORDS = st.lists(
    st.sampled_from(("play", "stop", "song", "film", "the", "of", "it", "now")), min_size=1, max_size=5
).map(" ".join)
_EXAMPLES = st.lists(st.builds(Example, _WORDS, st.sampled_from(("x", "y", "z"))), min_size=1, max_size=30)


def test_labels_that_follow_the_words_are_voted_for_and_others_are_not() -> None:
    told = [Example(f"{verb} number {i}", verb) for i in range(10) for verb in ("play", "stop")]
    assert neighbour_vote(told) == 1.0
    untold = [Example(f"{verb} number {i}", "xy"[i % 2]) for i in range(10) for verb in ("play", "stop")]
    # the odd are as near to the even as to the odd; each number's other verb is nearest
    vote = neighbour_vote(untold)
    assert vote is not None and vote < 0.75


def test_an_equal_input_does_not_vote() -> None:
    # each text stands twice with one label, and its nearest other text always has another
    pairs = [Example(text, label) for text, label in (("aa bb", "x"), ("aa cc", "y"), ("dd ee", "x"), ("dd ff", "y"))]
    assert neighbour_vote(pairs * 2) == 0.0


@given(_EXAMPLES)
@settings(max_examples=50)
def test_a_vote_is_a_share_and_always_the_same(train: list[Example]) -> None:
    vote = neighbour_vote(train)
    if len({e.input for e in train}) < 2:
        assert vote is None
    else:
        assert vote is not None and 0 <= vote <= 1
        assert vote * len(train) == pytest.approx(round(vote * len(train)))
        assert neighbour_vote(train) == vote


@given(_EXAMPLES)
@settings(max_examples=30)
def test_the_vote_is_that_of_a_plain_loop(train: list[Example]) -> None:
    vote = neighbour_vote(train)
    if vote is None:
        return
    right = 0
    scores = bm25([e.input for e in train], [e.input for e in train])
    for i, example in enumerate(train):
        others = [j for j, other in enumerate(train) if other.input != example.input]
        near = sorted(others, key=lambda j, i=i: (-scores[i, j], j))[:VOTERS]
        labels = [train[j].target for j in near]
        right += max(labels, key=lambda label: (labels.count(label), -labels.index(label))) == example.target
    assert vote == pytest.approx(right / len(train))


def test_nearest_gives_ties_to_the_earlier() -> None:
    scores = bm25(["aa bb", "cc dd", "aa dd"], ["zz", "dd"])
    assert nearest(scores, 2).tolist() == [[0, 1], [1, 2]]


def test_large_data_is_sampled() -> None:
    train = [Example(f"play {i}", "play" if i < NEIGHBOURS_ASKED else "stop") for i in range(NEIGHBOURS_ASKED + 50)]
    assert neighbour_vote(train) is not None


def test_without_bm25s_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    assert neighbour_vote([Example("aa bb", "x"), Example("aa cc", "y")]) is None


def test_only_probes_of_classification_report_it() -> None:
    source = {"dataset": {"source": {"local": {"path": "x"}}}}
    items = tuple(Example(f"it is {'not ' * (i % 2)}so {i}", ("yes", "no")[i % 2], ("no", "yes")) for i in range(8))
    data = TaskData(items, items, ("no", "yes"), "d" * 64)
    task = Task.model_validate(source)
    assert task_facts(task, data, neighbours=True).neighbour_vote == 1
    assert task_facts(task, data).neighbour_vote is None
    free = TaskData(items, items, (), "d" * 64)
    assert (
        task_facts(Task.model_validate(source | {"type": "Generation"}), free, neighbours=True).neighbour_vote is None
    )
