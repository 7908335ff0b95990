"""Tiny models with random weights and a byte-level tokenizer, made on the fly: real code, no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_tiny(folder: Path, kind: str = "llama", **config: Any) -> Path:
    """Weights, config and tokenizer of a model of that kind in ``folder``."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    sizes = {"vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind not in ("gpt2", "mamba"):
        sizes["intermediate_size"] = 64
    if kind in ("llama", "mistral"):
        sizes["num_key_value_heads"] = 2
    settings = {**sizes, "eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0, "initializer_range": 0.3}
    torch.manual_seed(0)
    cls = AutoModel if kind == "bert" else AutoModelForCausalLM
    cls.from_config(AutoConfig.for_model(kind, **{**settings, **config})).save_pretrained(folder)
    _save_tokenizer(folder)
    return folder


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Input: text label\nAnswer: label 0 label 1 label 2\n\n"] * 4, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
