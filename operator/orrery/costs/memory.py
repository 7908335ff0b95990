"""Bytes needed to train and to serve, from a model's sizes alone: what cannot fit is rejected on paper.

    training = frozen weights + trained parameters x state + max(activations, what only the optimizer's step holds) + logits

Sources: ZeRO (arXiv 1910.02054, section 3.1) for the optimizer's state; QLoRA (arXiv 2305.14314) for NF4, about .516 byte a
weight with doubly quantised constants, embeddings and norms left in 16 bits; Korthikanti et al. 2022 (arXiv 2205.05198,
section 4.1) for activations, here from a layer's own widths: 12 d + 4 kv + 6 ff bytes a token where the attention's scores
are never stored (34 d for the usual proportions), and 6 x heads x length where they are. The page ``docs/concepts/costs.md``
derives each; ``docs/benchmarks/costs.md`` holds them against measured peaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.api.plan import ModelFacts
from orrery.costs.flops import Training

Array = NDArray[np.float64]

_NF4_BYTES = 0.516
_SERVING_OVERHEAD = 1.2  #: weights and the buffers around them
#: A model whose layers are unknown is given as many as is usual.
_LAYERS_GUESS = 24


@dataclass(frozen=True)
class Recipe:
    """How a training run keeps its numbers; bytes are a trained parameter's.

    ``state`` is held all the time (weights in 16 bits, their fp32 copy, two moments), ``gradient`` in the backward pass beside
    the activations, ``step`` in the optimizer's step, when the activations are gone.
    """

    state: float = 14.0
    gradient: float = 2.0
    step: float = 4.0
    checkpointing: bool = False
    stored_scores: bool = False  #: attention that keeps its scores (eager); fused kernels do not
    overhead: float = 1.0  #: of activations: what the framework and its allocator keep beyond the formula
    logits_bytes: float = 8.0  #: a number of the vocabulary's projection: 16 bits, fp32 and its gradient
    logits_share: float = 1.0  #: of the positions whose logits are held at a time: fewer where the loss is chunked


#: Mixed-precision Adam as most trainers run it: 16 bytes a parameter and four more for fp32 gradients in the step.
ADAM = Recipe()
#: What probes run on a CPU: transformers' eager attention and norms in fp32, answers' logits alone, an allocator that gives
#: little back. The overhead was fitted to the calibration probes of docs/benchmarks/costs.md.
CPU_PROBE = Recipe(stored_scores=True, overhead=1.9, logits_share=0.2)
#: Resident memory of a probe's process before its model: interpreter, torch, transformers, peft (measured: 484 MiB), and
#: what scoring a batch takes.
PROCESS_BYTES = 484.0 * 2**20
SCORING_BYTES = 2.0**27
_BITSANDBYTES = 96.0 * 2**20


def shape_known(facts: ModelFacts) -> bool:
    """Whether layers and width are known, so that memory is more than a guess from the number of parameters."""
    return bool(facts.layers and facts.hidden_size)


def memory_sd(facts: ModelFacts) -> float:
    """Standard deviation of log memory: a tenth where the sizes are known, half where they are guessed."""
    return 0.10 if shape_known(facts) else 0.45


def feed_forward(facts: ModelFacts) -> float:
    """Width of the feed-forward network; without it, 3.5 widths, between a gated network's and a plain one's."""
    return float(facts.intermediate_size or 3.5 * width_of(facts))


def kv_width(facts: ModelFacts) -> float:
    """Numbers of keys (or values) a token and layer; without kv heads, all heads count."""
    heads = facts.heads or 1
    head = facts.head_size or width_of(facts) / heads
    return float((facts.kv_heads or heads) * head)


def linear_parameters(facts: ModelFacts) -> float:
    """Parameters that are not embeddings: what is quantised, and what adapters are put on."""
    return max(facts.parameters - float(facts.vocabulary_size or 0) * width_of(facts), 0.5 * facts.parameters)


def adapter_parameters(facts: ModelFacts, rank: ArrayLike) -> Array:
    """Trained parameters of rank-r adapters on every projection of every layer: r x (inputs + outputs) of each.

    >>> llama = ModelFacts(parameters=8_030_261_248, layers=32, hidden_size=4096, heads=32, kv_heads=8,
    ...                    intermediate_size=14336, vocabulary_size=128_256)
    >>> int(adapter_parameters(llama, 8))
    20971520
    """
    d, ff, kv = width_of(facts), feed_forward(facts), kv_width(facts)
    q = (facts.heads or 1) * (facts.head_size or d / (facts.heads or 1))
    attention = 2 * (d + q) + 2 * (d + kv)
    return np.asarray(rank, dtype=np.float64) * (attention + 3 * (d + ff)) * layers_of(facts)


def frozen_bytes(facts: ModelFacts, training: Training) -> float:
    """Bytes of the weights that are not trained."""
    if training is Training.FULL:
        return 0.0
    if training is Training.ADAPTER:
        return 2.0 * facts.parameters
    linear = linear_parameters(facts)
    return _NF4_BYTES * linear + 2.0 * (facts.parameters - linear)


def activation_bytes(
    facts: ModelFacts, batch_size: ArrayLike, sequence_tokens: ArrayLike, recipe: Recipe = ADAM
) -> Array:
    """Bytes that the backward pass needs of the forward pass; with checkpointing each layer's input and one layer's rest."""
    length = np.asarray(sequence_tokens, dtype=np.float64)
    tokens = np.asarray(batch_size, dtype=np.float64) * length
    d, layers = width_of(facts), layers_of(facts)
    one = 12.0 * d + 4.0 * kv_width(facts) + 6.0 * feed_forward(facts)
    scores = 6.0 * (facts.heads or d / 64) * length if recipe.stored_scores else 0.0
    each = tokens * (one + scores) * recipe.overhead
    return np.asarray(each + 2.0 * tokens * d * layers if recipe.checkpointing else each * layers)


def training_memory(
    facts: ModelFacts,
    training: Training,
    trained_parameters: ArrayLike,
    batch_size: ArrayLike,
    sequence_tokens: ArrayLike,
    recipe: Recipe = ADAM,
) -> Array:
    """Peak bytes of training: frozen weights, optimizer state of what is trained, activations and logits.

    >>> facts = ModelFacts(parameters=1_000_000_000, layers=16, hidden_size=2048, vocabulary_size=32_000)
    >>> round(float(training_memory(facts, Training.FULL, facts.parameters, 1, 128)) / 2**30, 1)
    16.8
    """
    trained = np.asarray(trained_parameters, dtype=np.float64)
    tokens = np.asarray(batch_size, dtype=np.float64) * np.asarray(sequence_tokens, dtype=np.float64)
    logits = recipe.logits_bytes * recipe.logits_share * tokens * (facts.vocabulary_size or 0)
    backward = recipe.gradient * trained + activation_bytes(facts, batch_size, sequence_tokens, recipe) + logits
    return frozen_bytes(facts, training) + recipe.state * trained + np.maximum(backward, recipe.step * trained)


def process_memory(
    facts: ModelFacts,
    training: Training | None,
    trained_parameters: ArrayLike = 0.0,
    batch_size: ArrayLike = 0.0,
    longest_tokens: ArrayLike = 0.0,
) -> Array:
    """Peak resident bytes of a probe's process on a CPU that does one trial: libraries, model, training, scoring.

    Adapters are merged into a copy of the weights before scoring, and the heap that training used is not given back to the
    system first, so these add up. A process that trained before keeps that heap too: see docs/benchmarks/costs.md.
    """
    scoring = PROCESS_BYTES + (SCORING_BYTES if facts.vocabulary_size and facts.parameters > 5e7 else SCORING_BYTES / 4)
    if training is None:
        return np.asarray(scoring + 2.0 * facts.parameters)
    tensors = training_memory(facts, training, trained_parameters, batch_size, longest_tokens, CPU_PROBE)
    merged = 2.0 * linear_parameters(facts) if training is Training.ADAPTER else 0.0
    # the 16-bit model stays loaded beside the one in four bits, and so does bitsandbytes
    kept = 2.0 * facts.parameters + _BITSANDBYTES if training is Training.QUANTIZED_ADAPTER else 0.0
    return np.asarray(scoring + tensors + merged + kept)


def serving_memory(facts: ModelFacts, sequence_tokens: ArrayLike, *, bytes_per_parameter: float = 2.0) -> Array:
    """Bytes to serve one sequence at a time: weights with overhead, and the KV cache in 16 bits."""
    return _SERVING_OVERHEAD * bytes_per_parameter * facts.parameters + kv_cache_bytes(facts, sequence_tokens)


def kv_cache_bytes(facts: ModelFacts, tokens: ArrayLike, *, bytes_per_value: float = 2.0) -> Array:
    """2 * layers * kv heads * head width * bytes a token."""
    return 2.0 * layers_of(facts) * kv_width(facts) * bytes_per_value * np.asarray(tokens, dtype=np.float64)


def layers_of(facts: ModelFacts) -> float:
    """Layers, or a usual number of them."""
    return float(facts.layers or _LAYERS_GUESS)


def width_of(facts: ModelFacts) -> float:
    """Width, or that of a transformer of usual proportions: parameters ~ 12 * layers * width^2."""
    return float(facts.hidden_size or np.sqrt(facts.parameters / (12 * _LAYERS_GUESS)))
