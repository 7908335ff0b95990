"""Scores of generated answers, by SQuAD's rules (Rajpurkar et al. 2016, arXiv 1606.05250, official evaluation script)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation and English articles, blanks single.

    >>> normalise("The  Eiffel-Tower!")
    'eiffeltower'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Iterable[str]) -> float:
    """1 if the prediction equals one of the answers after ``normalise``, else 0.

    >>> exact_match("the cat.", ["Cat"])
    1.0
    """
    found = normalise(prediction)
    return float(any(found == normalise(answer) for answer in answers))


def token_f1(prediction: str, answers: Iterable[str]) -> float:
    """Largest F1 of shared words with one of the answers; 1 when both are empty after ``normalise``.

    >>> round(token_f1("a big cat", ["the cat"]), 3)
    0.667
    """
    return max((_f1(normalise(prediction).split(), normalise(answer).split()) for answer in answers), default=0.0)


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))
