"""Tokens and FLOPs of one request, shared by all strategies: measured where a probe saw the data, else a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from orrery.api.models import Architecture, ModelFacts
from orrery.api.task import TaskType
from orrery.costs.flops import inference_flops
from orrery.costs.lengths import AnswerLengths, pool
from orrery.costs.memory import serving_memory
from orrery.costs.serving import BYTES
from orrery.laws.posterior import Array
from orrery.strategies.base import Evidence, Group

#: Stand-ins until a probe has read the data: a paragraph in, a label out.
_INPUT_TOKENS, _EXAMPLE_TOKENS, _OUTPUT_TOKENS = 64.0, 68.0, 4.0
#: Options of a MultipleChoice item, when no probe has counted them.
_OPTIONS = 4.0
#: Stand-in for a model whose sizes nobody knows yet; planning widens its costs accordingly.
UNKNOWN_MODEL = ModelFacts(parameters=1_000_000_000)


@dataclass(frozen=True)
class TokenCounts:
    """Mean tokens of one request without demonstrations, of one demonstration, and of one answer."""

    input: float
    example: float
    output: float
    options: float  #: answers scored beside one another; 1 when text is generated

    @property
    def scored(self) -> float:
        """Tokens read after the prompt: every option of a choice, or the generated answer; nothing follows the last."""
        return max(self.output - 1.0, 0.0) * self.options


def facts_of(group: Group) -> ModelFacts:
    """The model's sizes, or a stand-in."""
    return group.facts or group.model.facts or UNKNOWN_MODEL


def count_tokens(group: Group, input_tokens: float | None = None, output_tokens: float | None = None) -> TokenCounts:
    """Tokens of the group's task; the arguments (a workload's) override what was measured."""
    seen = group.task_facts

    def pick(given: float | None, measured: object, default: float) -> float:
        value = given if given is not None else measured
        return float(value) if value is not None else default  # type: ignore[arg-type]  # Decimal or float

    if group.task.type is TaskType.CLASSIFICATION:
        options = float(seen.labels) if seen is not None and seen.labels else _OPTIONS
    else:
        options = _OPTIONS if group.task.type is TaskType.MULTIPLE_CHOICE else 1.0
    if group.model.architecture is Architecture.ENCODER:
        options = 0.0  # a head answers, nothing is read after the input
    return TokenCounts(
        pick(input_tokens, seen.input_tokens if seen else None, _INPUT_TOKENS),
        pick(None, seen.example_tokens if seen else None, _EXAMPLE_TOKENS),
        pick(output_tokens, seen.output_tokens if seen else None, _OUTPUT_TOKENS),
        options,
    )


def answer_lengths(evidence: Sequence[Evidence], strategy: str) -> AnswerLengths | None:
    """Lengths of the answers that a model wrote under a type of strategy in probes, else under any; None where none was.

    What an answer's length depends on most is whether the model has seen where answers end, by examples or by training.
    """
    seen: dict[bool, list[tuple[AnswerLengths, int]]] = {True: [], False: []}
    for e in evidence:
        spread, mean = e.result.output_token_quantiles, e.result.output_tokens
        if spread and mean is not None:
            error = float(e.result.output_tokens_error or mean)  # of a single answer little is known
            measured = AnswerLengths(float(mean), error, tuple(float(v) for v in spread))
            seen[e.trial.strategy == strategy].append((measured, e.result.items))
    return pool(seen[True] or seen[False])


def request_flops(group: Group, prompt_tokens: ArrayLike, counts: TokenCounts) -> Array:
    """FLOPs to answer one request with a prompt of ``prompt_tokens``."""
    return np.atleast_1d(inference_flops(facts_of(group), prompt_tokens, counts.scored))


def serving_bytes(group: Group, prompt_tokens: ArrayLike, counts: TokenCounts) -> Array:
    """Bytes to serve one request at a time."""
    tokens = np.asarray(prompt_tokens) + counts.scored
    return np.atleast_1d(serving_memory(facts_of(group), tokens, bytes_per_parameter=BYTES[group.model.precision]))
