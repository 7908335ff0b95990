"""Bytes needed to train and to serve, from a model's sizes alone: what cannot fit is rejected on paper.

Sources: mixed-precision Adam keeps 16 bytes a trained parameter (ZeRO, arXiv 1910.02054, section 3.1); NF4 about half a
byte a frozen parameter with its constants (QLoRA, arXiv 2305.14314); activations of a layer about 34 * tokens * width
bytes in 16 bits when attention scores are never stored (Korthikanti et al. 2022, arXiv 2205.05198, equation 2, without
its quadratic term); logits are held in 32 bits, with their gradient.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.api.plan import ModelFacts
from orrery.costs.flops import Training

Array = NDArray[np.float64]

_OPTIMIZER_BYTES = 16.0  #: weights, gradient, fp32 copy and two moments of a trained parameter
_FROZEN_BYTES = {Training.FULL: 0.0, Training.ADAPTER: 2.0, Training.QUANTIZED_ADAPTER: 0.55}
_ACTIVATION_BYTES = 34.0
_SERVING_OVERHEAD = 1.2  #: weights and the buffers around them


def adapter_parameters(facts: ModelFacts, rank: ArrayLike, matrices: int = 7) -> Array:
    """Trained parameters of rank-r adapters on ``matrices`` projections a layer, taken as square of the model's width."""
    r = np.asarray(rank, dtype=np.float64)
    width, layers = facts.hidden_size or _width_guess(facts), facts.layers or 24
    return r * 2.0 * width * matrices * layers


def training_memory(
    facts: ModelFacts,
    training: Training,
    trained_parameters: ArrayLike,
    batch_size: ArrayLike,
    sequence_tokens: ArrayLike,
    *,
    checkpointing: bool = False,
) -> Array:
    """Peak bytes of training: frozen weights, optimizer state of what is trained, activations and logits.

    >>> facts = ModelFacts(parameters=1_000_000_000, layers=16, hidden_size=2048, vocabulary_size=32_000)
    >>> round(float(training_memory(facts, Training.FULL, facts.parameters, 1, 128)) / 2**30, 1)
    15.1
    """
    tokens = np.asarray(batch_size, dtype=np.float64) * np.asarray(sequence_tokens, dtype=np.float64)
    width, layers = facts.hidden_size or _width_guess(facts), facts.layers or 24
    kept_layers = 1.0 if checkpointing else float(layers)
    activations = _ACTIVATION_BYTES * tokens * width * kept_layers + (
        2.0 * tokens * width * layers if checkpointing else 0
    )
    logits = 8.0 * tokens * (facts.vocabulary_size or 0)
    weights = _FROZEN_BYTES[training] * facts.parameters
    return weights + _OPTIMIZER_BYTES * np.asarray(trained_parameters, dtype=np.float64) + activations + logits


def serving_memory(facts: ModelFacts, sequence_tokens: ArrayLike, *, bytes_per_parameter: float = 2.0) -> Array:
    """Bytes to serve one sequence at a time: weights with overhead, and the KV cache in 16 bits."""
    return _SERVING_OVERHEAD * bytes_per_parameter * facts.parameters + kv_cache_bytes(facts, sequence_tokens)


def kv_cache_bytes(facts: ModelFacts, tokens: ArrayLike, *, bytes_per_value: float = 2.0) -> Array:
    """2 * layers * kv heads * head width * bytes a token; without kv heads, all heads count."""
    width, layers = facts.hidden_size or _width_guess(facts), facts.layers or 24
    share = (facts.kv_heads / facts.heads) if facts.kv_heads and facts.heads else 1.0
    return 2.0 * layers * width * share * bytes_per_value * np.asarray(tokens, dtype=np.float64)


def _width_guess(facts: ModelFacts) -> float:
    """Width of a transformer of usual proportions: parameters ~ 12 * layers * width^2 with 24 layers."""
    return float(np.sqrt(facts.parameters / (12 * 24)))
