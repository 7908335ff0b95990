"""Prompts of causal models, from the plan's template alone: instruction, demonstrations, request.

No chat template is added: what is measured is what the plan says, and the same text is served.
"""

from __future__ import annotations

from collections.abc import Sequence

from orrery.api.task import Template
from orrery.probes.session import Example

#: Between a request and its answer. Tokenizers of the GPT-2 kind keep a leading blank with the word that follows, so the
#: blank belongs to the answer: a prompt that ends in a blank makes the right next token an unlikely one.
ANSWER_GAP = " "


def request(template: Template, example: Example) -> str:
    """The request's text, to be continued by the answer.

    >>> request(Template(), Example("2+2", "4"))
    'Input: 2+2\\nAnswer:'
    """
    return template.example.replace("{input}", example.input).rstrip(" ")


def answered(template: Template, example: Example) -> str:
    """A demonstration: the request with its right answer.

    >>> answered(Template(), Example("2+2", "4"))
    'Input: 2+2\\nAnswer: 4'
    """
    return request(template, example) + continuation(template, example.target)


def continuation(template: Template, answer: str) -> str:
    """An answer as it follows the request: after one blank, or at once when the request ends its line."""
    return answer if template.example.endswith("\n") else ANSWER_GAP + answer


def preamble(template: Template, demonstrations: Sequence[Example]) -> str:
    """Everything before the request; empty without instruction and demonstrations.

    >>> preamble(Template(instruction="Add."), [Example("1+1", "2")])
    'Add.\\n\\nInput: 1+1\\nAnswer: 2\\n\\n'
    """
    parts = ([template.instruction] if template.instruction else []) + [answered(template, d) for d in demonstrations]
    return "".join(part + template.separator for part in parts)
