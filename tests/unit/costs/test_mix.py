"""The integer program against every mix there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from orrery.costs.mix import NoMix, cheapest_mix

pytestmark = pytest.mark.unit


def _can_serve(rates, seconds, possible, replicas, utilisation):
    """Whether these whole replicas suffice: a linear program over the shares."""
    b, k = seconds.shape
    busy = np.zeros((k, b * k))
    for j in range(k):
        busy[j, j::k] = np.asarray(rates) * seconds[:, j]
    every = np.kron(np.eye(b), np.ones(k))
    limits = [(0, float(p)) for p in possible.ravel()]
    found = linprog(np.zeros(b * k), busy, utilisation * np.array(replicas) + 1e-9, every, np.ones(b), limits)
    return found.success


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(0.5, 8), min_size=2, max_size=2),
    st.lists(st.floats(0.02, 0.5), min_size=4, max_size=4),
    st.lists(st.floats(0.3, 5), min_size=2, max_size=2),
)
def test_it_finds_what_trying_every_mix_finds(rates, seconds, prices):
    table = np.array(seconds).reshape(2, 2)
    limit = float(np.sort(table.max(axis=1))[0])
    possible = table <= limit
    if not possible.any(axis=1).all():
        with pytest.raises(NoMix):
            cheapest_mix(rates, table, table, limit, prices)
        return
    mix = cheapest_mix(rates, table, table, limit, prices)
    assert _can_serve(rates, table, possible, mix.replicas, 0.7)
    most = [int(np.ceil(sum(r * s for r, s in zip(rates, table[:, j], strict=True)) / 0.7)) for j in range(2)]
    best = min(
        float(np.dot(n, prices))
        for n in itertools.product(*(range(m + 1) for m in most))
        if _can_serve(rates, table, possible, n, 0.7)
    )
    assert mix.price_per_hour == pytest.approx(best, rel=1e-6)


def test_small_requests_go_to_the_small_card_and_slow_ones_to_the_fast():
    seconds = np.array([[0.1, 0.05], [2.0, 0.2]])
    mix = cheapest_mix([5.0, 1.0], seconds, seconds, 0.5, [1.0, 4.0])
    assert mix.shares[1].tolist() == [0.0, 1.0]
    assert mix.replicas[1] == 1


def test_no_traffic_needs_no_card():
    table = np.ones((2, 2))
    assert cheapest_mix([0.0, 0.0], table, table, None, [1.0, 2.0]).replicas == (0, 0)


def test_what_is_too_slow_everywhere_is_said():
    with pytest.raises(NoMix, match="bucket 1 takes 2 s at the least and the limit is 1 s"):
        cheapest_mix([1.0], np.array([[2.0, 3.0]]), np.array([[2.0, 3.0]]), 1.0, [1.0, 1.0])
