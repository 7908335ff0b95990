"""Load one model: causal or encoder, from the catalogue, a volume, a folder or the hub; facts from its config."""

from __future__ import annotations

import gc
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orrery.api.catalogue import builtin_model
from orrery.api.models import Architecture, Model, ModelFacts, Precision
from orrery.api.quantities import Seconds
from orrery.costs.architecture import read_config
from orrery.probes.assets import model_path
from orrery.probes.errors import ModelError, ProbeError
from orrery.probes.hub import commit_of, model_folder, prepare
from orrery.probes.locations import SourceRoots
from orrery.probes.session import LoadedModel


def set_up_torch() -> None:
    """One thread, deterministic kernels: two threads are slower on small models, and a probe must repeat exactly."""
    prepare()
    torch.set_num_threads(int(os.environ.get("ORRERY_TORCH_THREADS", "1")))
    torch.use_deterministic_algorithms(True, warn_only=True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch alike, at the start of every trial."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def pick_device() -> torch.device:
    """The first CUDA device, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is computed natively, else float16 on older GPUs and float32 on CPUs.

    By the processor's flags, not by a measurement, so that two probes on one machine agree. On a CPU with AVX512-BF16
    SmolLM2-135M runs 3.5 times and MiniLM 3 times as many tokens a second in bfloat16; without it bfloat16 is emulated
    and slower.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return torch.bfloat16 if any(getattr(torch.cpu, name, lambda: False)() for name in native) else torch.float32


def model_source(model: Model, roots: SourceRoots) -> Path:
    """The folder with the model's config, tokenizer and weights.

    Raises ``ModelError`` whose sentence names the field and what to write instead.
    """
    source = model.source
    prefix = f"models[{model.name}].source."
    try:
        if source.builtin is not None:
            try:
                entry = builtin_model(source.builtin.name)
            except ValueError as error:
                raise ModelError("UnknownAsset", f"{error}") from None
            if entry.architecture is not model.architecture:
                raise ModelError(
                    "UnreadableModel",
                    f"builtin.name is '{entry.name}', whose architecture is {entry.architecture}, "
                    f"not {model.architecture}: write architecture: {entry.architecture}",
                )
            return model_path(entry, roots.cache)
        if source.hugging_face is not None:
            return model_folder(source.hugging_face)
        if source.pvc is not None:
            return roots.of_claim(source.pvc)
        assert source.local is not None  # exactly one source is given
        return roots.of_local(source.local)
    except ProbeError as error:
        raise ModelError(error.reason, prefix + str(error)) from error


def facts_of(config: Any, parameters: int) -> tuple[ModelFacts, str | None]:
    """``ModelFacts`` from a transformers config, and why they are uncertain; what it does not tell stays unknown."""
    reading = read_config(config.to_dict(), parameters)
    return reading.facts or ModelFacts(parameters=parameters), reading.problem


def load(model: Model, roots: SourceRoots | None = None) -> LoadedModel:
    """Model and tokenizer in memory, on the device that there is, in evaluation mode.

    Raises ``ModelError`` when there is no such model or it cannot be read, and ``torch.OutOfMemoryError`` or
    ``MemoryError`` when it does not fit.
    """
    set_up_torch()
    folder = model_source(model, roots or SourceRoots.from_environment())
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = pick_device()
    dtype = pick_dtype(device)
    start = time.monotonic()
    try:
        module = _module(folder, model, device, dtype)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise ModelError("UnreadableModel", f"models[{model.name}] cannot be loaded: {line}") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    facts, problem = facts_of(module.config, int(module.num_parameters()))  # type: ignore[operator]  # a transformers model
    loaded = LoadedModel(
        module=module,
        tokenizer=tokenizer,
        architecture=model.architecture,
        facts=facts,
        device=device,
        dtype=dtype,
        load_seconds=Seconds(time.monotonic() - start),
        path=str(folder),
        fresh=lambda: None,
        problem=problem,
        commit=commit_of(folder) if model.source.hugging_face is not None else None,
    )

    def fresh() -> None:
        # From disk again rather than from a copy: adapters rewrite the modules themselves, not only their weights, and
        # a copy of the weights would double the memory that the trials are measured by.
        del loaded.module
        give_back_memory()
        loaded.module = _module(folder, model, device, dtype)

    loaded.fresh = fresh
    return loaded


def _module(folder: Path, model: Model, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    declared = getattr(config, "architectures", None) or []
    generates = any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in declared)
    if declared and model.architecture is Architecture.CAUSAL and not generates:
        raise ModelError(
            "UnreadableModel",
            f"models[{model.name}].architecture is Causal, but its config says {declared[0]}: write Encoder",
        )
    kind = AutoModelForCausalLM if model.architecture is Architecture.CAUSAL else AutoModel
    if model.precision in (Precision.INT8, Precision.INT4):
        return _quantized(kind, folder, model, device, dtype)
    module: torch.nn.Module = kind.from_pretrained(folder, dtype=dtype, config=config)
    return module.to(device).eval()


def _quantized(kind: Any, folder: Path, model: Model, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    """The model as it would be served in eight or four bits, so that what rounding costs in quality is measured."""
    import importlib.util

    from transformers import BitsAndBytesConfig

    where = f"models[{model.name}].precision is {model.precision}"
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("MissingPackage", f"{where}, which needs bitsandbytes: pip install 'orrery[probe]'")
    config = (
        BitsAndBytesConfig(load_in_8bit=True)
        if model.precision is Precision.INT8
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    )
    try:
        module: torch.nn.Module = kind.from_pretrained(
            folder, quantization_config=config, dtype=dtype, device_map={"": str(device)}
        )
    except (ImportError, NotImplementedError, RuntimeError) as error:
        if "memory" in str(error).lower():
            raise
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError("UnreadableModel", f"{where}, and it cannot be so on {device.type}: {line}") from error
    return module.eval()


def give_back_memory() -> None:
    """Free what nothing refers to any more, before something large is made again."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def fingerprint(module: torch.nn.Module) -> int:
    """Changes when a parameter or buffer was replaced or written to, or a module was wrapped; costs no arithmetic.

    Every in-place write raises a tensor's version counter, so no weight need be read.
    """
    state = [(n, p.data_ptr(), p._version, p.requires_grad) for n, p in module.named_parameters()]
    return hash((type(module), tuple(state)))
