"""Floating-point operations of training and inference, from a model's sizes alone.

Sources: 6 P per training token and 2 P per inference token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1); adapters
skip the weight gradients of frozen matrices, which leaves about 4 P; recomputing activations adds a forward pass, 2 P.
Attention adds 4 * layers * width * S^2 per sequence and forward pass, which is not proportional to P. P counts what a token
is multiplied with (``ModelFacts.active_parameters``): of routed experts those it is sent to, and no table it is looked up in.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.api.models import ModelFacts

Array = NDArray[np.float64]


class Training(StrEnum):
    """What is trained."""

    FULL = "Full"
    ADAPTER = "Adapter"  #: low-rank adapters on frozen 16-bit weights (LoRA)
    QUANTIZED_ADAPTER = "QuantizedAdapter"  #: low-rank adapters on frozen 4-bit weights (QLoRA)


#: Multiples of P per training token, and of one forward attention pass per sequence, without checkpointing.
_PARAMETER_PASSES = {Training.FULL: 6.0, Training.ADAPTER: 4.0, Training.QUANTIZED_ADAPTER: 4.0}
_ATTENTION_PASSES = 3.0


def active_parameters(facts: ModelFacts) -> float:
    """Parameters that a token is multiplied with; all of them where the model's facts do not say otherwise."""
    return float(facts.active_parameters or facts.parameters)


def touched_parameters(facts: ModelFacts, tokens: ArrayLike) -> Array:
    """Parameters that are read for a pass over ``tokens`` tokens: of routed experts all that any of them is sent to.

    Tokens choose k of E experts evenly and for themselves, so that a share ``1 - (1 - k/E)^n`` is chosen by n of them. A
    batch of a sparse model therefore gains less than one of a dense model until every expert is read.

    >>> mixtral = ModelFacts(parameters=47_000_000_000, active_parameters=13_000_000_000, experts=8, experts_per_token=2)
    >>> (touched_parameters(mixtral, [1, 4, 64]) / 1e9).round(1).tolist()
    [13.0, 32.7, 47.0]
    """
    n = np.maximum(np.asarray(tokens, dtype=np.float64), 1.0)
    active = active_parameters(facts)
    if not facts.experts or not facts.experts_per_token or facts.experts_per_token >= facts.experts:
        return np.full_like(n, active)
    idle = 1.0 - facts.experts_per_token / facts.experts
    routed = max(facts.parameters - active, 0.0) / idle
    return np.asarray(active + routed * (idle - idle**n))


def attention_flops(facts: ModelFacts, sequence_tokens: ArrayLike) -> Array:
    """FLOPs of one forward pass of attention scores and mixing over one sequence; 0 where the shape is unknown."""
    s = np.asarray(sequence_tokens, dtype=np.float64)
    return 4.0 * (facts.layers or 0) * (facts.hidden_size or 0) * s * s


def inference_flops(facts: ModelFacts, prompt_tokens: ArrayLike, output_tokens: ArrayLike = 0.0) -> Array:
    """FLOPs to read a prompt and write an answer with a KV cache: 2 P per token, and attention over the whole sequence.

    >>> facts = ModelFacts(parameters=1_000_000)
    >>> float(inference_flops(facts, 100, 10))
    220000000.0
    """
    tokens = np.asarray(prompt_tokens, dtype=np.float64) + np.asarray(output_tokens, dtype=np.float64)
    return 2.0 * active_parameters(facts) * tokens + attention_flops(facts, tokens)


def training_flops(
    facts: ModelFacts,
    training: Training,
    tokens_per_example: ArrayLike,
    examples: ArrayLike,
    *,
    checkpointing: bool = False,
) -> Array:
    """FLOPs of training on ``examples`` sequences (epochs counted in) of ``tokens_per_example`` tokens each.

    >>> facts = ModelFacts(parameters=1_000_000)
    >>> [float(training_flops(facts, t, 10, 2)) for t in (Training.FULL, Training.ADAPTER)]
    [120000000.0, 80000000.0]
    """
    s = np.asarray(tokens_per_example, dtype=np.float64)
    n = np.asarray(examples, dtype=np.float64)
    passes = _PARAMETER_PASSES[training] + (2.0 if checkpointing else 0.0)
    attention = _ATTENTION_PASSES + (1.0 if checkpointing else 0.0)
    return n * (passes * active_parameters(facts) * s + attention * attention_flops(facts, s))
