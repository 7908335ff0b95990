"""Greedy answers of a causal model, many requests at a time, with the prompts' common beginning run once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from orrery.probes.likelihood import BATCH_TOKENS, Meter, Prefix, keeps_logits
from orrery.probes.session import LoadedModel
from orrery.probes.trie import batches, common_prefix


def generate(
    model: LoadedModel, prompts: Sequence[Sequence[int]], limit: int, stop: str, meter: Meter
) -> tuple[list[str], list[int]]:
    """Text of each greedy answer, up to ``stop``, end of sequence or ``limit`` tokens; and the tokens of each.

    The answer ends before ``stop``, since a model that was shown examples goes on with further ones.
    """
    texts = [""] * len(prompts)
    written = [0] * len(prompts)
    ends = _end_tokens(model)
    with torch.inference_mode():
        skip = common_prefix(prompts)
        prefix = Prefix(model, prompts[0][:skip] if prompts else (), meter)
        rest = [prompt[skip:] for prompt in prompts]
        for batch in batches([len(r) + limit for r in rest], BATCH_TOKENS[model.device.type] * 2):
            answers = _answers(model, prefix, [rest[i] for i in batch], limit, stop, ends, meter)
            for index, (text, tokens) in zip(batch, answers, strict=True):
                texts[index] = text
                written[index] = tokens
    return texts, written


def _answers(
    model: LoadedModel,
    prefix: Prefix,
    prompts: Sequence[Sequence[int]],
    limit: int,
    stop: str,
    ends: set[int],
    meter: Meter,
) -> list[tuple[str, int]]:
    """Text and tokens of each answer of a batch; ``prompts`` are what follows the prefix, padded on the left."""
    width, shared = max(map(len, prompts)), prefix.length
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros((len(prompts), shared + width), dtype=torch.long)
    mask[:, :shared] = 1
    for r, prompt in enumerate(prompts):
        ids[r, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[r, shared + width - len(prompt) :] = 1
        meter.add(len(prompt), shared)
    ids, mask = ids.to(model.device), mask.to(model.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    answers: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    cache = prefix.rows(len(prompts))
    extra: dict[str, Any] = {"logits_to_keep": 1} if keeps_logits(model.module) else {}
    for step in range(limit):
        out = model.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **extra,
        )
        cache = out.past_key_values
        logits = out.logits[:, -1].float()
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the model's logits are not finite")
        chosen = logits.argmax(-1)
        for r in sorted(open_rows):
            token = int(chosen[r])
            if token in ends:
                open_rows.discard(r)
                continue
            answers[r].append(token)
            if stop and stop in model.tokenizer.decode(answers[r]).lstrip():
                open_rows.discard(r)
        if not open_rows or step == limit - 1:
            break
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones((len(prompts), 1))], 1)
        positions = positions[:, -1:] + 1
        for r in open_rows:
            meter.add(1, shared + len(prompts[r]) + len(answers[r]) - 1)
    return [(_before(model.tokenizer.decode(a, skip_special_tokens=True), stop), len(a)) for a in answers]


def _before(text: str, stop: str) -> str:
    text = text.lstrip()
    return (text.split(stop, 1)[0] if stop else text).strip()


def _end_tokens(model: LoadedModel) -> set[int]:
    config = getattr(model.module, "generation_config", None)
    ends = getattr(config, "eos_token_id", None)
    found = set(ends) if isinstance(ends, (list, tuple)) else {ends}
    return {int(e) for e in found | {model.tokenizer.eos_token_id} if e is not None}
