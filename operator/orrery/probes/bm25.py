"""Okapi BM25 over words (bm25s, Lu 2024, arXiv 2407.03618). No torch: facts of the data need no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def bm25(pool: Sequence[str], queries: Sequence[str]) -> NDArray[np.float64]:
    """Similarity of each text of the pool to each query, shape (queries, pool); 0 where they share no word.

    Raises ``ImportError`` where bm25s is not installed.
    """
    import bm25s

    def words(texts: list[str]) -> list[list[str]]:
        found: list[list[str]] = bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)
        return found

    corpus = words(list(pool))
    scores = np.zeros((len(queries), len(pool)))
    if not any(corpus):
        return scores
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    known = set(index.vocab_dict)
    for row, query in enumerate(words(list(queries))):
        if terms := [word for word in query if word in known]:
            scores[row] = index.get_scores(terms)
    return scores


def nearest(scores: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Places of each row's ``number`` highest scores, the nearest first; ties go to the example that is earlier."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :number]
