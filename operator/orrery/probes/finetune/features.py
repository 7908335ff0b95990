"""Frozen features of examples, for the proxy: one embedding pass a session, whatever the number of configurations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.api.models import Architecture
from orrery.probes.finetune.cache import remembered
from orrery.probes.finetune.encoder import MAX_TOKENS, in_length_order, pad_right
from orrery.probes.likelihood import Meter
from orrery.probes.prompts import request
from orrery.probes.session import Example, Session

#: Where in the network, as shares of its depth: the middle layers hold most of a task, the last ones the pre-training
#: objective. Accuracy of a logistic head on SmolLM2's 30 layers with 16 / 64 / 256 training examples, 200 items:
#: intents, mean of layer 10 .74 / .89 / .91, of 20 .65 / .88 / .91, of 30 .78 / .89 / .92, last token of 30 .61 / .82 / .87;
#: review sentences, mean of 10 .42 / .42 / .46, of 20 .43 / .46 / .49, of 30 .38 / .38 / .41, last token .35 / .31 / .45.
DEPTHS = (1 / 3, 2 / 3)


@dataclass
class Features:
    """Vectors by text, filled when first asked for."""

    session: Session
    meter: Meter = field(default_factory=Meter)
    _vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def of(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Features (len(texts), depths * width) of the requests' texts, as the model would be served them.

        Raises ``FloatingPointError`` when a hidden state is not finite.
        """
        new = [t for t in dict.fromkeys(texts) if t not in self._vectors]
        if new:
            for text, vector in zip(new, self._run(new), strict=True):
                self._vectors[text] = vector
        return np.stack([self._vectors[t] for t in texts]).astype(np.float64)

    @torch.inference_mode()
    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = self.session.model
        limit = min(MAX_TOKENS, model.facts.context_length or MAX_TOKENS)
        tokenizer = model.tokenizer
        side = tokenizer.truncation_side
        # A request ends in what it asks, so it loses its beginning; an encoder's text loses its end, as in scoring.
        tokenizer.truncation_side = "right" if model.architecture is Architecture.ENCODER else "left"
        try:
            rows = tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"]
        finally:
            tokenizer.truncation_side = side
        trunk: Any = getattr(model.module, "base_model", model.module)
        found: list[NDArray[np.float32] | None] = [None] * len(rows)
        for indices in in_length_order(rows, 16):
            ids, mask = pad_right([rows[i] for i in indices], tokenizer.pad_token_id or 0, model.device)
            states = trunk(input_ids=ids, attention_mask=mask, output_hidden_states=True, **self._extra()).hidden_states
            pooled = torch.cat([_mean(states[d], mask) for d in depths(len(states) - 1)], dim=-1).cpu().numpy()
            for i, row in zip(indices, pooled, strict=True):
                found[i] = row
                self.meter.add(len(rows[i]), 0)
        result = np.stack([row for row in found if row is not None])
        if not np.isfinite(result).all():
            raise FloatingPointError("the model's hidden states are not finite")
        return result

    def _extra(self) -> dict[str, Any]:
        return {"use_cache": False} if self.session.model.architecture is Architecture.CAUSAL else {}


def depths(layers: int) -> list[int]:
    """Indices of the hidden states that are pooled; 0 is the embedding, ``layers`` the last.

    >>> depths(30), depths(6), depths(1)
    ([10, 20], [2, 4], [1])
    """
    return sorted({max(1, round(share * layers)) for share in DEPTHS})


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the real tokens but the first, on which decoders park activations hundreds of times the others'."""
    weights = mask.clone()
    weights[:, 0] = (mask.sum(1) < 2).to(mask.dtype)
    spread = weights[:, :, None].float()
    return (states.float() * spread).sum(1) / spread.sum(1)


def features(session: Session) -> Features:
    """The session's features."""
    return remembered(session, "features", lambda: Features(session))


def request_text(session: Session, text: str) -> str:
    """What the model reads of a request: an encoder its text, a causal model its template, without the instruction,
    which is the same for all and would only be averaged into every vector."""
    if session.model.architecture is Architecture.ENCODER:
        return text
    return request(session.spec.task.template, Example(text, ""))
