"""The examples that demonstrations are drawn from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from orrery.probes.session import Example


def pool_of(train: Sequence[Example], size: int, seed: int) -> list[Example]:
    """The first ``size`` of the training examples in the seed's random order (all when 0): larger pools hold smaller."""
    order = list(range(len(train)))
    random.Random(f"orrery pool {seed}").shuffle(order)
    return [train[i] for i in (order[:size] if size else order)]
