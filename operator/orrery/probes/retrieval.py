"""Which demonstrations a request is shown: at random, by BM25, or by the model's own embeddings.

Ties go to the example that is earlier in the pool, so that the choice is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.probes.bm25 import bm25, nearest
from orrery.probes.embedding import embed
from orrery.probes.likelihood import Meter
from orrery.probes.models import fingerprint
from orrery.probes.pool import pool_of
from orrery.probes.session import Example, LoadedModel, Unsupported

__all__ = ["RETRIEVERS", "demonstrations", "pool_of"]

RETRIEVERS = ("random", "bm25", "dense")
#: Embeddings of a model's last pool, by the weights' fingerprint and the texts: a probe's trials draw from the same.
_POOLS: WeakKeyDictionary[torch.nn.Module, tuple[int, tuple[str, ...], NDArray[np.float64]]] = WeakKeyDictionary()


def demonstrations(
    model: LoadedModel, pool: Sequence[Example], items: Sequence[Example], shots: int, retriever: str, meter: Meter
) -> list[tuple[Example, ...]]:
    """For each item its demonstrations, the nearest last, where a model attends to them most.

    ``random``: the pool's first, the same for every item, so that they are run and served from a cache once, and
    larger numbers of shots hold the smaller. ``bm25``: Okapi BM25 over the inputs' words. ``dense``: cosine of
    mean-pooled last hidden states of the model that answers, so no second model is to be served.
    """
    shots = min(shots, len(pool))
    if shots == 0:
        return [()] * len(items)
    if retriever == "random":
        return [tuple(pool[:shots])] * len(items)
    scores = _bm25(pool, items) if retriever == "bm25" else _dense(model, pool, items, meter)
    return [tuple(pool[i] for i in row[::-1]) for row in nearest(scores, shots).tolist()]


def _bm25(pool: Sequence[Example], items: Sequence[Example]) -> NDArray[np.float64]:
    try:
        return bm25([e.input for e in pool], [e.input for e in items])
    except ImportError as error:
        raise Unsupported("retriever bm25 needs the package bm25s: pip install 'orrery[probe]'") from error


def _dense(model: LoadedModel, pool: Sequence[Example], items: Sequence[Example], meter: Meter) -> NDArray[np.float64]:
    texts, weights = tuple(e.input for e in pool), fingerprint(model.module)
    kept = _POOLS.get(model.module)
    if kept is None or kept[:2] != (weights, texts):
        kept = _POOLS[model.module] = (weights, texts, embed(model, texts, meter))
    similarity: NDArray[np.float64] = embed(model, [e.input for e in items], meter) @ kept[2].T
    return similarity
