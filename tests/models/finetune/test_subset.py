"""Subsets are nested, balanced and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.probes.finetune.subset import nested_order
from orrery.probes.session import Example

pytestmark = pytest.mark.model


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(0, 5))
def test_every_prefix_is_as_balanced_as_the_data_allows(targets: list[str], seed: int) -> None:
    data = [Example(str(i), t) for i, t in enumerate(targets)]
    order = nested_order(data, seed, balanced=True)
    assert sorted(order) == list(range(len(data)))
    assert order == nested_order(data, seed, balanced=True)
    there = Counter(targets)
    for n in range(1, len(order) + 1):
        taken = Counter(targets[i] for i in order[:n])
        # A class may only lag behind another by more than one when it has run out.
        most = max(taken.values())
        assert all(taken[c] >= most - 1 or taken[c] == there[c] for c in there)


def test_seeds_differ_and_free_text_is_not_balanced() -> None:
    data = [Example(str(i), str(i % 2)) for i in range(20)]
    assert nested_order(data, 0, True) != nested_order(data, 1, True)
    free = [Example(str(i), str(i)) for i in range(20)]
    assert sorted(nested_order(free, 0, False)) == list(range(20))
