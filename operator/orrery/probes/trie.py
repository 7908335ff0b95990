"""Many token sequences that share beginnings, laid out as one: every shared token is run through the model once.

The options of an item share its prompt, and often each other's first tokens; prompts that differ only in the request
share their demonstrations. Laid out as a trie in one row, with a mask by which each token sees its ancestors alone and
positions that count depth, one forward pass scores all of them, with exactly the numbers that each alone would give
(tree attention, as in SpecInfer, Miao et al. 2024, arXiv 2305.09781). Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sequenced:
    """One sequence to score: the answer's tokens given the prompt's."""

    prompt: Sequence[int]
    answer: Sequence[int]


@dataclass(frozen=True)
class Trie:
    """The sequences of one item as n nodes in topological order; the last token of an answer needs no node."""

    tokens: NDArray[np.int64]  #: (n,)
    depth: NDArray[np.int64]  #: (n,) position, counted from the end of the shared prefix
    visible: NDArray[np.bool_]  #: (n, n) whether row's node sees column's: its ancestors and itself
    scored: tuple[tuple[tuple[int, int], ...], ...]  #: per sequence, (node that predicts, token predicted)
    first_scored: int  #: the first node whose prediction is asked for

    def __len__(self) -> int:
        return len(self.tokens)


def build(sequences: Sequence[Sequenced], skip: int = 0) -> Trie:
    """A trie of sequences whose first ``skip`` prompt tokens are run elsewhere (``skip`` < every prompt's length).

    >>> trie = build([Sequenced([1, 2], [3, 4]), Sequenced([1, 2], [3, 5])])
    >>> trie.tokens.tolist(), trie.scored
    ([1, 2, 3], (((1, 3), (2, 4)), ((1, 3), (2, 5))))
    """
    tokens: list[int] = []
    parents: list[int] = []
    children: dict[tuple[int, int], int] = {}
    scored: list[tuple[tuple[int, int], ...]] = []
    for sequence in sequences:
        if not sequence.answer or len(sequence.prompt) <= skip:
            raise ValueError("a sequence needs an answer and a prompt longer than what is skipped")
        node = -1
        path: list[int] = []
        for token in (*sequence.prompt[skip:], *sequence.answer[:-1]):
            found = children.get((node, token))
            if found is None:
                found = children[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
            node = found
            path.append(node)
        last_prompt = len(sequence.prompt) - skip - 1
        scored.append(tuple(zip(path[last_prompt:], sequence.answer, strict=True)))
    n = len(tokens)
    visible = np.zeros((n, n), dtype=np.bool_)
    depth = np.zeros(n, dtype=np.int64)
    for i, parent in enumerate(parents):
        if parent >= 0:
            visible[i] = visible[parent]
            depth[i] = depth[parent] + 1
        visible[i, i] = True
    first = min(node for path_ in scored for node, _ in path_)
    return Trie(np.array(tokens, dtype=np.int64), depth, visible, tuple(scored), first)


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with, leaving each at least one of its own.

    >>> common_prefix([[1, 2, 3], [1, 2, 4, 5]]), common_prefix([[1, 2]])
    (2, 1)
    """
    if not prompts:
        return 0
    low, high = min(map(list, prompts)), max(map(list, prompts))  # lexicographic extremes share what all share
    limit = min(len(p) for p in prompts) - 1
    length = 0
    while length < limit and low[length] == high[length]:
        length += 1
    return length


def batches(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped so that neighbours in length run together and a batch, padding included, has <= budget tokens.

    >>> batches([5, 1, 4, 1], 8)
    [[1, 3], [2], [0]]
    """
    groups: list[list[int]] = []
    current: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        if current and sizes[index] * (len(current) + 1) > budget:
            groups.append(current)
            current = []
        current.append(index)
    return [*groups, current] if current else groups
