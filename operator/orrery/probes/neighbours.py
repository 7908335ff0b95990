"""How often an example's label is that of its near neighbours: a fact of the data that says what retrieval can bring.

Language models that are shown retrieved demonstrations largely give the answer of those that are like the request, so a
plain vote of the same neighbours forecasts them (docs/decisions/shot-curves.md), without a model, in a fraction of a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from orrery.api.probe import NEIGHBOURS_ASKED
from orrery.probes.bm25 import bm25, nearest
from orrery.probes.session import Example

#: Examples that vote. One would do for one demonstration; four are steadier and hardly say anything else.
VOTERS = 4
#: Examples that those asked are compared with: the first ones, in the data's own random order.
POOL = 4096


def neighbour_vote(train: Sequence[Example]) -> float | None:
    """Share of training examples whose label their nearest other training examples vote for.

    Leave-one-out: no evaluation item is looked at, so nothing that quality is measured on enters the forecast. Examples
    with the same input are left out together, as they are never divided between training and evaluation. Neighbours are
    BM25's, equals are won by the nearer one. None where every input is the same, or without bm25s.

    >>> train = [Example(f"{what} it {i}", what) for i in range(6) for what in ("play", "stop")]
    >>> neighbour_vote(train)
    1.0
    """
    pool = train[:POOL]
    asked, inputs = pool[:NEIGHBOURS_ASKED], [e.input for e in pool]
    if len(set(inputs)) < 2:
        return None
    try:
        scores = bm25(inputs, [e.input for e in asked])
    except ImportError:
        return None
    number = {text: i for i, text in enumerate(dict.fromkeys(inputs))}
    same = np.array([number[text] for text in inputs])
    scores[same[: len(asked), None] == same[None]] = -np.inf
    places = nearest(scores, VOTERS)
    right = 0
    for row, (example, near) in enumerate(zip(asked, places.tolist(), strict=True)):
        votes = Counter(pool[i].target for i in near if scores[row, i] > -np.inf)
        # the nearest voter comes first, and equals keep their order
        right += votes.most_common(1)[0][0] == example.target
    return right / len(asked)
