"""Which examples are trained on: nested subsets, so that a learning curve's rungs differ in size alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

from orrery.probes.session import Example


def nested_order(examples: Sequence[Example], seed: int, balanced: bool) -> list[int]:
    """Indices of ``examples`` in one seeded order whose every prefix is as class-balanced as the data allows.

    The first n of it are the training subset of size n; the classes take turns (in a new order every round) until the
    rare ones run out. Without ``balanced``, when answers are free text, it is a plain shuffle.

    >>> data = [Example(str(i), "ab"[i % 3 == 0]) for i in range(9)]
    >>> [data[i].target for i in nested_order(data, 0, True)[:6]].count("b")
    3
    """
    rng = random.Random(f"subset-{seed}")
    order = list(range(len(examples)))
    rng.shuffle(order)
    if not balanced:
        return order
    classes: dict[str, list[int]] = {}
    for index in order:
        classes.setdefault(examples[index].target, []).append(index)
    result: list[int] = []
    queues = [classes[target][::-1] for target in sorted(classes)]
    while queues:
        rng.shuffle(queues)
        result += [queue.pop() for queue in queues]
        queues = [queue for queue in queues if queue]
    return result
