"""A model's sizes from its own config and its weights' headers, without loading a weight.

A config names the same size in many ways, and its number of parameters not at all: that is in the headers of the weights'
files or, where they are not here, follows from the sizes. An architecture that is not known gives what its headers say and
a sentence why its costs have a wide interval.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orrery.api.models import ModelFacts

#: Bytes of a number in a safetensors header.
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1}
#: Two matrices in the feed-forward network: up and down. The others known here have a gate beside them.
_PLAIN = frozenset(
    [
        "bert",
        "roberta",
        "xlm-roberta",
        "distilbert",
        "electra",
        "deberta-v2",
        "mpnet",
        "gpt2",
        "gpt_neo",
        "gpt_neox",
        "gptj",
        "opt",
        "bloom",
        "falcon",
        "mpt",
        "phi",
        "starcoder2",
        "gpt_bigcode",
    ]
)
_GATED = frozenset(
    [
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi3",
        "olmo",
        "olmo2",
        "olmoe",
        "smollm3",
        "granite",
        "cohere",
        "stablelm",
        "deepseek_v2",
        "deepseek_v3",
        "modernbert",
        "internlm2",
        "exaone",
        "glm",
        "nemotron",
    ]
)
#: They embed text: no token is multiplied with the vocabulary.
_ENCODERS = frozenset(["bert", "roberta", "xlm-roberta", "distilbert", "electra", "deberta-v2", "mpnet", "modernbert"])
_LONGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Reading:
    """What a config tells. ``facts`` is None when not even the number of parameters is known; ``problem`` says what is missing."""

    facts: ModelFacts | None
    problem: str | None = None


def read_folder(folder: Path) -> Reading:
    """Sizes of a model in the Hugging Face layout; weights may be in several files, or not there at all."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Reading(None, "it has no readable config.json")
    if not isinstance(config, dict):
        return Reading(None, "its config.json is no object")
    quantised = isinstance(config.get("quantization_config"), dict)
    # packed numbers are no parameters: then the sizes must tell
    counted = 0 if quantised else sum(header_parameters(path) for path in sorted(folder.glob("*.safetensors")))
    return read_config(config, counted or None)


def header_parameters(path: Path) -> int:
    """Numbers in a safetensors file, from its header: eight bytes of length, then JSON; 0 for what is none.

    >>> header_parameters(Path("/nowhere"))
    0
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return 0


def read_config(config: Mapping[str, Any], parameters: int | None = None) -> Reading:
    """Sizes from a transformers config (as a dict). ``parameters`` overrides what the sizes add up to.

    >>> llama = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    ...          "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}
    >>> read_config(llama).facts.parameters
    8030261248
    """
    nested = config.get("text_config")
    config = nested if isinstance(nested, dict) else config

    def read(*names: str) -> int | None:
        for name in names:
            value = config.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None

    kind = str(config.get("model_type") or "")[:48]
    heads = read("num_attention_heads", "n_head", "n_heads", "num_heads")
    width = read("hidden_size", "n_embd", "d_model", "dim")
    sizes: dict[str, int | None] = {
        "layers": read("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "hidden_size": width,
        "heads": heads,
        "kv_heads": read("num_key_value_heads", "num_kv_heads") or heads,
        "head_size": read("head_dim", "d_kv"),
        "intermediate_size": read("intermediate_size", "ffn_dim", "n_inner", "d_ff", "hidden_dim")
        or (4 * width if width and kind in _PLAIN else None),
        "vocabulary_size": read("vocab_size"),
        "context_length": read("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"),
    }
    latent = read("kv_lora_rank")
    if latent:  # multi-head latent attention keeps one compressed vector a token instead of keys and values
        sizes |= {"kv_heads": 1, "head_size": math.ceil((latent + (read("qk_rope_head_dim") or 0)) / 2)}
    known = kind in _PLAIN | _GATED
    shaped = all(sizes[name] for name in ("layers", "hidden_size", "heads"))
    routed = _experts(config, read, sizes) if known and shaped else None
    added_up = _parameters(config, kind, sizes, routed) if known and shaped and sizes["intermediate_size"] else None
    total = parameters or added_up
    problem = None
    if not known or not shaped:
        what = f"model_type '{kind}' is not known" if not known else "its config lacks layers, width or heads"
        problem = f"{what}: its memory and time have wide intervals; write models[].facts to narrow them"
    if total is None:
        return Reading(None, problem or "its number of parameters is unknown: write models[].facts")
    active = total - (routed.idle if routed is not None else 0)
    if shaped and known and (kind in _ENCODERS or not _tied(config, kind)):  # a table that tokens are only looked up in
        active -= int(sizes["vocabulary_size"] or 0) * int(sizes["hidden_size"] or 0)
    if not known:  # a number that is named like a size need not be one
        sizes = {name: value for name, value in sizes.items() if name in ("vocabulary_size", "context_length")}
    if routed is not None:
        sizes |= {"experts": routed.count, "experts_per_token": routed.used}
    try:
        return Reading(_facts(total, active, sizes), problem)
    except ValidationError:
        return Reading(ModelFacts(parameters=total), problem or "its config holds sizes that cannot be")


def _facts(total: int, active: int, sizes: Mapping[str, int | None]) -> ModelFacts:
    computed = active if 0 < active < total else None
    return ModelFacts.model_validate({"parameters": total, "active_parameters": computed, **sizes})


def _tied(config: Mapping[str, Any], kind: str) -> bool:
    return bool(config.get("tie_word_embeddings", kind in _PLAIN or kind.startswith("gemma")))


@dataclass(frozen=True)
class _Experts:
    total: int  #: parameters of all routed experts
    idle: int  #: of those that a token is not sent to
    count: int  #: experts of a layer
    used: int  #: of those that a token is sent to


def _experts(config: Mapping[str, Any], read: Any, sizes: Mapping[str, int | None]) -> _Experts | None:
    experts = read("num_local_experts", "n_routed_experts", "num_experts")
    used = read("num_experts_per_tok", "moe_topk", "top_k")
    width, layers = sizes["hidden_size"], sizes["layers"]
    inner = read("moe_intermediate_size") or sizes["intermediate_size"]
    if not (experts and used and inner and width and layers) or used >= experts:
        return None
    every = read("decoder_sparse_step") or 1
    sparse = (layers - (read("first_k_dense_replace") or 0)) // every
    one = 3 * width * inner
    return _Experts(sparse * experts * one, sparse * (experts - used) * one, experts, used)


def _parameters(
    config: Mapping[str, Any], kind: str, sizes: Mapping[str, int | None], routed: _Experts | None
) -> int | None:
    """What the sizes add up to: attention, feed-forward network, embeddings; norms and biases are dust."""
    d, layers, heads = (int(sizes[n] or 0) for n in ("hidden_size", "layers", "heads"))
    head = sizes["head_size"] or d // heads
    kv = int(sizes["kv_heads"] or heads) * head
    inner = int(sizes["intermediate_size"] or 0)
    if config.get("kv_lora_rank"):
        return None  # its projections have shapes of their own
    attention = 2 * d * heads * head + 2 * d * kv
    plain = (2 if kind in _PLAIN else 3) * d * inner
    network = layers * (attention + 2 * d) + (routed.total if routed else layers * plain)
    vocabulary = int(sizes["vocabulary_size"] or 0) * d
    positions = (
        int(sizes["context_length"] or 0) * d if kind in _PLAIN and kind not in ("bloom", "falcon", "mpt") else 0
    )
    return network + vocabulary * (1 if _tied(config, kind) else 2) + positions + d
