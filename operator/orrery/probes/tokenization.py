"""Token ids of prompts and of the answers that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Characters of the prompt's end that an answer is tokenised together with.
TAIL = 24


class AnswerTokenizer:
    """Tokens of prompts, and of answers in the place where they stand.

    An answer's tokens are what follows the prompt's when both are tokenised together, since tokenizers of the
    sentencepiece kind write a word differently when it begins a text. Only the prompt's end matters for that.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._answers: dict[tuple[str, str], list[int]] = {}

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the tokenizer's own beginning-of-sequence token, if it has one."""
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=True)["input_ids"]
        end = self._tokenizer.eos_token_id
        # A few tokenizers also close every text; nothing would follow a closed prompt.
        return [row[:-1] if len(row) > 1 and row[-1] == end else row for row in ids]

    def answer(self, prompt: str, answer: str) -> list[int]:
        """Token ids of ``answer`` after ``prompt``; at least one."""
        tail = prompt[-TAIL:]
        tail = tail[tail.rfind("\n") + 1 :] or tail
        key = (tail, answer)
        if key not in self._answers:
            before = self._tokenizer(tail, add_special_tokens=False)["input_ids"]
            both = self._tokenizer(tail + answer, add_special_tokens=False)["input_ids"]
            ids = both[len(before) :] or self._tokenizer(answer, add_special_tokens=False)["input_ids"]
            self._answers[key] = ids
        return self._answers[key]

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without special ones."""
        return (
            [len(row) for row in self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
        )
