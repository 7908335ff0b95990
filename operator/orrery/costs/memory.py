"""Bytes needed to train and to serve, from a model's sizes alone: what cannot fit is rejected on paper.

    training = frozen weights + trained parameters x state + max(activations, what only the optimizer's step holds) + logits

Sources: ZeRO (arXiv 1910.02054, section 3.1) for the optimizer's state; QLoRA (arXiv 2305.14314) for NF4, about .516 byte a
weight with doubly quantised constants, embeddings and norms left in 16 bits; Korthikanti et al. 2022 (arXiv 2205.05198,
section 4.1) for activations, here from a layer's own widths: 12 d + 4 kv + 6 ff bytes a token where the attention's scores
are never stored (34 d for the usual proportions), and 6 x heads x length where they are. The page ``docs/concepts/costs.md``
derives each; ``docs/benchmarks/costs.md`` holds them against measured peaks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orrery.api.models import ModelFacts
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
#: What probes run on a CPU: transformers' eager attention, answers' logits alone.
CPU_PROBE = Recipe(stored_scores=True, logits_share=0.2)
#: What autograd saves there over ``activation_bytes``, counted by its hooks: 1.33 to 1.49 for SmolLM2, whose norms run in
#: fp32, .66 to .71 for MiniLM; and what the passes' temporaries add to it. ``_HEAP``, ``_COPIES`` and ``TRAINING_BYTES`` are
#: calibrated together on the intents half of docs/benchmarks/costs.md and the first trainings of its probes.
_SAVED_GATED, _SAVED_PLAIN = 1.4, 0.7
_HEAP = 1.5
#: Share of the linear layers' 16-bit weights that a training process holds once more.
_COPIES = 0.85
#: Resident memory of a probe's process beside its model when its trial begins: interpreter, torch, transformers, data.
PROCESS_BYTES = 456.0 * 2**20
#: More once it trains: peft and the optimizer's modules, and what oneDNN and the heap keep of every batch's new shape, about
#: 10 MiB each over the 16 steps that a training has at least.
TRAINING_BYTES = 235.0 * 2**20
#: Tokens of one forward pass, and numbers of logits held at once, when options are scored on a CPU (``probes.likelihood``).
_SCORED_TOKENS, _SCORED_LOGITS = 768.0, 2.0**25
_LOGIT_BYTES = 10.0  #: 16 bits, and fp32 twice: the matrix product's accumulator and the log-softmax
_BITSANDBYTES = 96.0 * 2**20


def shape_known(facts: ModelFacts) -> bool:
    """Whether layers and width are known, so that memory is more than a guess from the number of parameters."""
    return bool(facts.layers and facts.hidden_size)


def memory_sd(facts: ModelFacts) -> float:
    """Standard deviation of log memory: a tenth where the sizes are known, half where they are guessed."""
    return 0.10 if shape_known(facts) else 0.45


def feed_forward(facts: ModelFacts) -> float:
    """Width of the feed-forward network that a token passes, of routed experts all it is sent to; without any width 3.5 d.

    >>> mixtral = ModelFacts(parameters=46_702_792_704, active_parameters=12_748_070_912, experts=8, experts_per_token=2,
    ...                      layers=32, hidden_size=4096, heads=32, kv_heads=8, intermediate_size=14336, vocabulary_size=32_000)
    >>> round(feed_forward(mixtral) / 14336, 2)
    2.0
    """
    d = width_of(facts)
    if facts.experts and facts.active_parameters and shape_known(facts):
        active = facts.active_parameters - float(facts.vocabulary_size or 0) * d
        return max(active / layers_of(facts) - attention_parameters(facts), d) / (3.0 * d)
    return float(facts.intermediate_size or 3.5 * d)


def kv_width(facts: ModelFacts) -> float:
    """Numbers of keys (or values) a token and layer; without kv heads, all heads count."""
    heads = facts.heads or 1
    head = facts.head_size or width_of(facts) / heads
    return float((facts.kv_heads or heads) * head)


def attention_parameters(facts: ModelFacts) -> float:
    """Parameters of a layer's four projections: queries, keys, values, output."""
    d, heads = width_of(facts), facts.heads or 1
    return 2.0 * d * (heads * (facts.head_size or d / heads) + kv_width(facts))


def linear_parameters(facts: ModelFacts) -> float:
    """Parameters of the linear layers: what is quantised, and what adapters are put on.

    Routed experts are none: transformers (from 5 on) holds those of a layer as one tensor, which bitsandbytes leaves in 16
    bits and which has no name that peft could put an adapter on.
    """
    if facts.experts:
        return layers_of(facts) * attention_parameters(facts)
    return max(facts.parameters - float(facts.vocabulary_size or 0) * width_of(facts), 0.5 * facts.parameters)


def gated(facts: ModelFacts) -> bool:
    """Whether feed-forward networks have three matrices and not two, by what attention leaves of a layer's parameters.

    >>> gated(ModelFacts(parameters=22_713_216, layers=6, hidden_size=384, heads=12, intermediate_size=1536,
    ...                  vocabulary_size=30_522))
    False
    """
    if facts.experts or not (shape_known(facts) and facts.intermediate_size):
        return True
    d = width_of(facts)
    left = linear_parameters(facts) / layers_of(facts) - attention_parameters(facts)
    return left > 2.5 * d * feed_forward(facts)


def adapter_parameters(facts: ModelFacts, rank: ArrayLike) -> Array:
    """Trained parameters of rank-r adapters on every linear layer: r x (inputs + outputs) of each; attention's with experts.

    >>> llama = ModelFacts(parameters=8_030_261_248, layers=32, hidden_size=4096, heads=32, kv_heads=8,
    ...                    intermediate_size=14336, vocabulary_size=128_256)
    >>> int(adapter_parameters(llama, 8))
    20971520
    """
    d, ff, kv = width_of(facts), feed_forward(facts), kv_width(facts)
    q = (facts.heads or 1) * (facts.head_size or d / (facts.heads or 1))
    attention = 2 * (d + q) + 2 * (d + kv)
    network = 0.0 if facts.experts else 3 * (d + ff)
    return np.asarray(rank, dtype=np.float64) * (attention + network) * layers_of(facts)


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


def scoring_memory(facts: ModelFacts, request_tokens: float, answer_tokens: float, shared_tokens: float = 0.0) -> float:
    """Bytes of scoring one batch of options on a CPU: its logits, and keys and values with every row's copy of the prefix.

    A row is one item: its request and the tokens of all its options (``answer_tokens``), after ``shared_tokens`` that all
    prompts begin with and that are run once.

    >>> facts = ModelFacts(parameters=134_515_008, layers=30, hidden_size=576, heads=9, kv_heads=3, vocabulary_size=49_152)
    >>> [round(scoring_memory(facts, 35, n, 18) / 2**20) for n in (1, 22)]
    [53, 220]
    """
    row = max(request_tokens - shared_tokens + answer_tokens, 1.0)
    rows = max(_SCORED_TOKENS // row, 1.0)
    logits = min(rows * answer_tokens * float(facts.vocabulary_size or 0), _SCORED_LOGITS)
    return _LOGIT_BYTES * logits + float(kv_cache_bytes(facts, rows * (row + shared_tokens)))


def process_memory(
    facts: ModelFacts,
    training: Training | None,
    trained_parameters: ArrayLike = 0.0,
    batch_size: ArrayLike = 0.0,
    longest_tokens: ArrayLike = 0.0,
    scoring: ArrayLike = 0.0,
) -> Array:
    """Peak resident bytes of a probe's process on a CPU that does one trial: libraries, model, training, scoring.

    The heap that training used is not given back to the system, but scoring (``scoring_memory``) takes from it; the copy of the
    weights that adapters are merged into stands beside it. In four bits the 16-bit weights are mapped and never read. A
    process that trained before keeps its heap too: see docs/benchmarks/costs.md.
    """
    score = np.asarray(scoring, dtype=np.float64)
    if training is None:
        return np.asarray(PROCESS_BYTES + 2.0 * facts.parameters + score)
    recipe = replace(CPU_PROBE, overhead=_HEAP * (_SAVED_GATED if gated(facts) else _SAVED_PLAIN))
    tensors = training_memory(facts, training, trained_parameters, batch_size, longest_tokens, recipe)
    held = frozen_bytes(facts, training) + recipe.state * np.asarray(trained_parameters, dtype=np.float64)
    linear = 2.0 * linear_parameters(facts)
    extra = (
        _COPIES * linear
        + {
            Training.FULL: 0.0,
            Training.ADAPTER: linear,
            Training.QUANTIZED_ADAPTER: _BITSANDBYTES,
        }[training]
    )
    return np.asarray(PROCESS_BYTES + TRAINING_BYTES + held + np.maximum(tensors - held, score) + extra)


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
