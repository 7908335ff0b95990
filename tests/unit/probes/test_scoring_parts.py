"""Tries, prompts, metrics and facts: the pure parts of scoring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.task import Task, Template
from orrery.probes.facts import chance_level, task_facts
from orrery.probes.metrics import exact_match, token_f1
from orrery.probes.prompts import answered, preamble, request
from orrery.probes.session import Example, TaskData
from orrery.probes.trie import Sequenced, batches, build, common_prefix

pytestmark = pytest.mark.unit

token = st.integers(0, 3)
sequence = st.builds(
    Sequenced, st.lists(token, min_size=1, max_size=6).map(tuple), st.lists(token, min_size=1, max_size=4).map(tuple)
)


@settings(max_examples=100, deadline=None)
@given(st.lists(sequence, min_size=1, max_size=6))
def test_a_trie_is_exactly_its_sequences(sequences: list[Sequenced]) -> None:
    skip = common_prefix([s.prompt for s in sequences])
    trie = build(sequences, skip)
    distinct = {
        tuple((*s.prompt, *s.answer)[skip:end])
        for s in sequences
        for end in range(skip + 1, len(s.prompt) + len(s.answer))
    }
    assert len(trie) == len(distinct), "every shared token is there once"
    for s, path in zip(sequences, trie.scored, strict=True):
        assert [t for _, t in path] == list(s.answer)
        for (node, _), end in zip(path, range(len(s.prompt), len(s.prompt) + len(s.answer)), strict=True):
            seen = np.flatnonzero(trie.visible[node])
            order = seen[np.argsort(trie.depth[seen])]
            assert trie.tokens[order].tolist() == [*s.prompt, *s.answer][skip:end]
            assert trie.depth[order].tolist() == list(range(end - skip))
            assert node >= trie.first_scored


@given(st.lists(st.lists(token, min_size=1, max_size=8), min_size=1, max_size=5))
def test_the_common_prefix_is_the_longest_that_leaves_each_a_token(prompts: list[list[int]]) -> None:
    n = common_prefix(prompts)
    assert all(p[:n] == prompts[0][:n] and len(p) > n for p in prompts)
    longer = all(len(p) > n + 1 for p in prompts) and len({tuple(p[: n + 1]) for p in prompts}) == 1
    assert not longer


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(10, 200))
def test_batches_hold_everything_once_within_the_budget(sizes: list[int], budget: int) -> None:
    groups = batches(sizes, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    assert all(len(g) == 1 or max(sizes[i] for i in g) * len(g) <= budget for g in groups)


def test_a_sequence_without_an_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an answer"):
        build([Sequenced([1], [])])


def test_prompts_are_instruction_demonstrations_request_in_one_form() -> None:
    template = Template(instruction="Add.", example="Q: {input}\nA:", separator="\n---\n")
    shown = [Example("1+1", "2")]
    text = preamble(template, shown) + request(template, Example("{input}+2", "4"))
    assert text == "Add.\n---\nQ: 1+1\nA: 2\n---\nQ: {input}+2\nA:"
    assert answered(Template(example="{input}\n"), Example("1", "2")) == "1\n2"


@pytest.mark.parametrize(
    ("prediction", "answers", "exact", "f1"),
    [
        ("The Beatles", ["beatles"], 1.0, 1.0),
        ("in the year 1969", ["1969"], 0.0, 0.5),
        ("red", ["blue"], 0.0, 0.0),
        ("", ["blue"], 0.0, 0.0),
        ("three", ["3", "three"], 1.0, 1.0),
        ("a the", ["an"], 1.0, 1.0),
    ],
)
def test_metrics_are_squads(prediction: str, answers: list[str], exact: float, f1: float) -> None:
    assert exact_match(prediction, answers) == exact
    assert token_f1(prediction, answers) == pytest.approx(f1)


@given(st.text(max_size=30), st.text(max_size=30))
def test_f1_is_symmetric_bounded_and_one_for_equals(a: str, b: str) -> None:
    assert token_f1(a, [b]) == pytest.approx(token_f1(b, [a]))
    assert 0 <= token_f1(a, [b]) <= 1
    assert token_f1(a, [a]) == exact_match(a, [a]) == 1


@dataclass
class Words:
    """Counts words: what a tokenizer does as far as facts need one."""

    def __call__(self, texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * len(text.split()) for text in texts]}


def test_facts_of_a_task() -> None:
    source = {"source": {"local": {"path": "x"}}}
    task = Task.model_validate(
        {"dataset": source, "template": {"instruction": "Say yes or no.", "example": "{input} ->"}}
    )
    items = tuple(Example(f"is it {i}", t, ("no", "yes")) for i, t in enumerate(("no", "no", "yes")))
    data = TaskData(items, items, ("no", "yes"), "d" * 64)
    facts = task_facts(task, data, Words())
    assert facts.chance is not None and float(facts.chance) == pytest.approx(2 / 3)
    assert [float(x or 0) for x in (facts.input_tokens, facts.example_tokens, facts.output_tokens)] == [8, 5, 1]
    assert task_facts(task, data).input_tokens is None
    choice = Task.model_validate({"type": "MultipleChoice", "dataset": {**source, "columns": {"options": "o"}}})
    assert chance_level(choice, data) == pytest.approx(0.5)
