"""Encoder models: mean-pooled embeddings and a classification head on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from orrery.probes.finetune.logistic import fit_logistic
from orrery.probes.session import LoadedModel

#: Utterances, sentences and passages; attention's cost grows with the square, and pooled embeddings gain little.
MAX_TOKENS = 256
#: Ridge penalty of the head that tuning starts from. A weak one separates a small subset at once and leaves the features
#: little loss to follow. Chosen within the training splits of three tasks (intents, social support, reviews: an inner
#: split of 200 items, two seeds): mean accuracy of LoRA and full fine-tuning on 100 or 280 examples .636 with 0.01, .644 to
#: .646 from 0.1 to 3; with 16 examples .50, .48, .48, .46 and .45 for 0.01, 0.1, 0.3, 1 and 3.
HEAD_PENALTY = 0.3


def tokenize(model: LoadedModel, texts: Sequence[str]) -> list[list[int]]:
    """Token ids with the encoder's own special tokens, cut at ``MAX_TOKENS`` or the model's own limit."""
    limit = min(MAX_TOKENS, model.facts.context_length or MAX_TOKENS)
    if not texts:
        return []
    ids: list[list[int]] = model.tokenizer(list(texts), truncation=True, max_length=limit).input_ids
    return ids


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both (batch, longest)."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the real tokens, fp32, scaled to length sqrt(width), so that a head's scale is the same everywhere."""
    weights = mask[:, :, None].to(torch.float32)
    mean = (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1)
    scaled: Tensor = nn.functional.normalize(mean, dim=-1) * float(mean.shape[-1]) ** 0.5
    return scaled


class HeadLoss:
    """Cross-entropy of a classification head on mean-pooled embeddings."""

    def __init__(self, model: LoadedModel, head: nn.Linear) -> None:
        self._module, self._head, self._device = model.module, head, model.device
        self._pad = model.tokenizer.pad_token_id or 0
        self.tokens = 0  #: real tokens that went through the model

    def logits(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Class scores (batch, labels)."""
        ids, mask = pad_right(rows, self._pad, self._device)
        self.tokens += int(mask.sum())
        hidden = self._module(input_ids=ids, attention_mask=mask).last_hidden_state
        scores: Tensor = self._head(mean_pool(hidden, mask))
        return scores

    def __call__(self, batch: Sequence[tuple[Sequence[int], int]]) -> Tensor:
        """Scalar loss of rows with their label indices, with its graph."""
        target = torch.tensor([label for _, label in batch], device=self._device)
        return nn.functional.cross_entropy(self.logits([row for row, _ in batch]), target)


def in_length_order(rows: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Indices in batches of about equal lengths."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


@torch.no_grad()
def predict(loss: HeadLoss, rows: Sequence[Sequence[int]], size: int = 32) -> NDArray[np.float64]:
    """Log-probabilities (n, labels)."""
    result: list[Tensor | None] = [None] * len(rows)
    for indices in in_length_order(rows, size):
        scores = torch.log_softmax(loss.logits([rows[i] for i in indices]).double(), -1).cpu()
        for i, row in zip(indices, scores, strict=True):
            result[i] = row
    found: NDArray[np.float64] = torch.stack([r for r in result if r is not None]).numpy()
    return found


@torch.no_grad()
def fitted_head(
    model: LoadedModel, rows: Sequence[Sequence[int]], labels: Sequence[int], classes: int
) -> tuple[nn.Linear, int]:
    """A head that starts as the logistic regression on the frozen embeddings of the training subset, and the tokens read.

    Tuning from a random head first distorts the features towards it (Kumar et al. 2022, arXiv 2202.10054, "LP-FT"); the
    fitted one costs a single forward pass and is worth most where examples are few.
    """
    module = model.module
    width = int(module.config.hidden_size)  # type: ignore[union-attr,arg-type]  # a transformers model
    head = nn.Linear(width, classes, device=model.device, dtype=torch.float32)
    pad, tokens = model.tokenizer.pad_token_id or 0, 0
    features = np.zeros((len(rows), width))
    for indices in in_length_order(rows, 32):
        ids, mask = pad_right([rows[i] for i in indices], pad, model.device)
        tokens += int(mask.sum())
        hidden = module(input_ids=ids, attention_mask=mask).last_hidden_state
        features[indices] = mean_pool(hidden, mask).double().cpu().numpy()
    weight, bias = fit_logistic(features, np.asarray(labels), classes, HEAD_PENALTY)
    head.weight.copy_(torch.from_numpy(weight))
    head.bias.copy_(torch.from_numpy(bias))
    return head, tokens
