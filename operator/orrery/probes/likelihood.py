"""Log-likelihoods of answers given prompts, from a causal model, with all shared tokens run once.

Tokens that all prompts begin with (instruction, fixed demonstrations) are run once for all items and their keys and
values kept; what the sequences of one item share is run once for the item (``trie``). An architecture for which that
does not give the plain forward pass's numbers is found out by trying, and scored plainly.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.api.models import ModelFacts
from orrery.costs.flops import active_parameters, attention_flops
from orrery.probes.session import LoadedModel
from orrery.probes.trie import Sequenced, Trie, batches, build, common_prefix

#: Tokens of one forward pass, padding included. A CPU core gains nothing beyond a few hundred.
BATCH_TOKENS = {"cpu": 768, "cuda": 16_384}
#: Numbers of logits held at once (x 4 bytes in float32).
LOGITS = {"cpu": 2**25, "cuda": 2**28}
#: Nats per answer token by which a reused computation may differ from the plain one: rounding of bfloat16, not more.
TOLERANCE = 0.25


@dataclass
class Meter:
    """What was run through the model: tokens (without padding) and token pairs that attention looked at."""

    tokens: int = 0
    attended: float = 0.0

    def add(self, tokens: int, context: int) -> None:
        """``tokens`` run in one sequence on top of ``context`` earlier ones."""
        self.tokens += tokens
        self.attended += tokens * (context + tokens)

    def flops(self, facts: ModelFacts) -> float:
        """2 P per token and attention over what it was given, as ``orrery.costs.flops`` counts it."""
        return 2.0 * active_parameters(facts) * self.tokens + float(attention_flops(facts, math.sqrt(self.attended)))


def log_likelihoods(
    model: LoadedModel, items: Sequence[Sequence[Sequenced]], meter: Meter | None = None
) -> list[NDArray[np.float64]]:
    """Log-likelihood (nats) of every sequence's answer, per item, summed over the answer's tokens.

    Parameters
    ----------
    items
        For each item its sequences; any number of prompts and answers, at least one token each.
    meter
        Is told what was run.
    """
    meter = meter if meter is not None else Meter()
    module = model.module
    longest = max((len(s.prompt) + len(s.answer) for item in items for s in item), default=0)
    with torch.inference_mode():
        if not _reusable(model, longest):
            return plain_log_likelihoods(model, items, meter)
        skip = common_prefix([s.prompt for item in items for s in item])
        prefix = Prefix(model, items[0][0].prompt[:skip], meter) if items else None
        tries = [build(item, skip) for item in items]
        rows = max(1, LOGITS[model.device.type] // _vocabulary(module))
        budget = BATCH_TOKENS[model.device.type]
        results: list[NDArray[np.float64] | None] = [None] * len(items)
        for batch in batches([len(t) for t in tries], budget):
            keep = max(len(tries[i]) - tries[i].first_scored for i in batch)
            for part in _parts(batch, max(1, rows // keep)):
                assert prefix is not None
                values = _run(model, prefix, [tries[i] for i in part], meter)
                for index, value in zip(part, values, strict=True):
                    results[index] = value
    return [r for r in results if r is not None]


def plain_log_likelihoods(
    model: LoadedModel, items: Sequence[Sequence[Sequenced]], meter: Meter | None = None
) -> list[NDArray[np.float64]]:
    """The same, each sequence in a forward pass of its own row: the definition, and what any causal model can do."""
    meter = meter if meter is not None else Meter()
    flat = [s for item in items for s in item]
    values = np.zeros(len(flat))
    with torch.inference_mode():
        for batch in batches([len(s.prompt) + len(s.answer) for s in flat], BATCH_TOKENS[model.device.type]):
            rows = [[*flat[i].prompt, *flat[i].answer][:-1] for i in batch]
            width = max(map(len, rows))
            ids = torch.zeros((len(rows), width), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for r, row in enumerate(rows):
                ids[r, : len(row)] = torch.tensor(row)
                mask[r, : len(row)] = 1
                meter.add(len(row), 0)
            logits = model.module(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False
            ).logits
            for r, i in enumerate(batch):
                answer = torch.tensor(list(flat[i].answer), device=model.device)
                start = len(flat[i].prompt) - 1
                chosen = torch.log_softmax(logits[r, start : start + len(answer)].float(), -1)
                values[i] = float(chosen.gather(1, answer[:, None]).sum())
    split = np.cumsum([len(item) for item in items])[:-1]
    return list(np.split(values, split))


class Prefix:
    """Keys and values of the tokens that all prompts begin with."""

    def __init__(self, model: LoadedModel, tokens: Sequence[int], meter: Meter) -> None:
        self.length = len(tokens)
        self._cache: Any = None
        if tokens:
            ids = torch.tensor([list(tokens)], device=model.device)
            extra = {"logits_to_keep": 1} if keeps_logits(model.module) else {}
            self._cache = model.module(input_ids=ids, use_cache=True, **extra).past_key_values
            meter.add(len(tokens), 0)

    def rows(self, count: int) -> Any:
        """A cache of its own for ``count`` rows, or None when nothing is shared; a forward pass appends to it."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(count)
        return cache


def _run(model: LoadedModel, prefix: Prefix, tries: Sequence[Trie], meter: Meter) -> list[NDArray[np.float64]]:
    """Scores of a batch of tries. Rows are padded on the left, so that what is scored ends at the row's end."""
    width, shared = max(map(len, tries)), prefix.length
    keep = max(len(t) - t.first_scored for t in tries)
    ids = np.zeros((len(tries), width), dtype=np.int64)
    positions = np.zeros((len(tries), width), dtype=np.int64)
    visible = np.zeros((len(tries), 1, width, shared + width), dtype=np.bool_)
    for r, trie in enumerate(tries):
        start = width - len(trie)
        ids[r, start:] = trie.tokens
        positions[r, start:] = shared + trie.depth
        visible[r, 0, start:, :shared] = True
        visible[r, 0, start:, shared + start :] = trie.visible
        visible[r, 0, np.arange(start), shared + np.arange(start)] = True  # padding sees itself: no empty softmax
        meter.add(len(trie), shared)
    mask = torch.zeros(visible.shape, dtype=model.dtype).masked_fill_(
        ~torch.from_numpy(visible), torch.finfo(model.dtype).min
    )
    # Positions, not a count: the slice that a count makes is not contiguous, and torch's linear layer then copies the
    # vocabulary projection once for every row (80 times slower on a CPU in bf16: 20 rows, 7 positions, 49,152 tokens).
    kept = torch.arange(width - keep, width, device=model.device)
    extra: dict[str, Any] = {"logits_to_keep": kept} if keeps_logits(model.module) else {}
    cache = prefix.rows(len(tries))
    logits = model.module(
        input_ids=torch.from_numpy(ids).to(model.device),
        attention_mask=mask.to(model.device),
        position_ids=torch.from_numpy(positions).to(model.device),
        past_key_values=cache,
        use_cache=cache is not None,
        **extra,
    ).logits[:, -keep:]
    results = []
    for r, trie in enumerate(tries):
        shift = keep - len(trie)  # of a node's index to its row in the kept logits
        first = trie.first_scored
        table = torch.log_softmax(logits[r, first + shift :].float(), -1)
        nodes = torch.tensor([node - first for path in trie.scored for node, _ in path], device=model.device)
        asked = torch.tensor([token for path in trie.scored for _, token in path], device=model.device)
        each = table[nodes, asked].double().cpu().numpy()
        cuts = np.cumsum([len(path) for path in trie.scored])[:-1]
        results.append(np.array([part.sum() for part in np.split(each, cuts)]))
    return results


_VERDICTS: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def _reusable(model: LoadedModel, longest: int) -> bool:
    """Whether tree attention on a kept prefix gives this model's plain numbers; tried once on made-up tokens."""
    config = getattr(model.module, "config", None)
    window = getattr(config, "sliding_window", None)
    if window is not None and getattr(config, "use_sliding_window", True) and longest > window:
        return False  # a given mask replaces the sliding one, which makes no difference only within the window
    verdict = _VERDICTS.get(model.module)
    if verdict is None:
        verdict = _VERDICTS[model.module] = _agrees(model)
    return verdict


def _agrees(model: LoadedModel) -> bool:
    generator = np.random.default_rng(0)
    tokens = generator.integers(0, _vocabulary(model.module), 24).tolist()
    answers = [tokens[20:22], tokens[22:24], [tokens[20], tokens[23]]]
    items = [[Sequenced(tokens[:12], a) for a in answers], [Sequenced(tokens[:8] + tokens[12:20], a) for a in answers]]
    expected = plain_log_likelihoods(model, items)
    try:
        prefix = Prefix(model, tokens[:8], Meter())
        found = _run(model, prefix, [build(item, 8) for item in items], Meter())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever an architecture raises on a mask or a cache of a kind it does not take
        return False
    return all(np.allclose(f, e, rtol=0, atol=TOLERANCE * 2) for f, e in zip(found, expected, strict=True))


def _parts(batch: list[int], size: int) -> list[list[int]]:
    return [batch[i : i + size] for i in range(0, len(batch), size)]


def keeps_logits(module: torch.nn.Module) -> bool:
    """Whether the model can project only the last positions onto the vocabulary."""
    return "logits_to_keep" in inspect.signature(module.forward).parameters


def _vocabulary(module: Any) -> int:
    return int(module.get_input_embeddings().weight.shape[0])
