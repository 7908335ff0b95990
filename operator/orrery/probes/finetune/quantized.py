"""The session's model with NF4 weights, quantised once a session, for QLoRA (Dettmers et al. 2023, arXiv 2305.14314)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from orrery.api.models import Architecture
from orrery.probes.finetune.cache import remembered
from orrery.probes.session import LoadedModel, Session, Unsupported


@contextmanager
def quantized(session: Session) -> Iterator[nn.Module]:
    """The model in four bits, on the session's device; on an accelerator the 16-bit one makes room meanwhile.

    The quantised weights are frozen, so every trial of the session has the same ones.

    Raises ``Unsupported`` when bitsandbytes is not installed or cannot quantise this model on this device.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise Unsupported("QLoRA needs bitsandbytes, which is not installed: pip install 'orrery[probe]'")
    model = session.model
    away = model.device.type == "cuda"
    try:
        if away:
            model.module.to("cpu")
            torch.cuda.empty_cache()
        yield remembered(session, "nf4", lambda: _load(model))
    finally:
        if away:
            # Otherwise the 16-bit model would come back to a full device; the next QLoRA trial quantises again.
            session.__dict__["_remembered"].pop("nf4", None)
            torch.cuda.empty_cache()
            model.module.to(model.device)


def _load(model: LoadedModel) -> nn.Module:
    from transformers import AutoModel, AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=model.dtype,
    )
    kind = AutoModelForCausalLM if model.architecture is Architecture.CAUSAL else AutoModel
    try:
        module: nn.Module = kind.from_pretrained(
            model.path, quantization_config=config, dtype=model.dtype, device_map={"": str(model.device)}
        )
    except (ImportError, NotImplementedError, ValueError, RuntimeError) as error:
        if "memory" in str(error).lower():
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise Unsupported(f"bitsandbytes cannot quantise this model on {model.device.type}: {line}") from error
    layers = [layer for layer in module.modules() if type(layer).__name__ == "Linear4bit"]
    if not layers:
        raise Unsupported("bitsandbytes found no linear layers to quantise in this model: choose LoRA")
    for layer in layers:
        # On CPUs inference repacks the weights for a kernel without a gradient: the next training would train nothing.
        layer.__dict__["support_avx512bf16_for_cpu"] = False
    return module.eval()
