"""Mean-pooled embeddings of texts, from an encoder or from a causal model's last hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orrery.probes.likelihood import BATCH_TOKENS, Meter
from orrery.probes.session import LoadedModel
from orrery.probes.trie import batches

#: Tokenizers that know no limit answer with a huge one; positions beyond the model's own fail.
_LONGEST = 8192


def embed(model: LoadedModel, texts: Sequence[str], meter: Meter) -> NDArray[np.float64]:
    """Unit vectors (len(texts), hidden size): the mean over a text's tokens of the last hidden states.

    A text longer than the model's context loses its end. Raises ``FloatingPointError`` if a state is not finite.
    """
    limit = min(model.facts.context_length or _LONGEST, int(model.tokenizer.model_max_length), _LONGEST)
    rows = model.tokenizer(list(texts), truncation=True, max_length=limit)["input_ids"] if texts else []
    trunk: Any = getattr(model.module, "base_model", model.module)
    vectors = np.zeros((len(rows), model.facts.hidden_size or 0))
    with torch.inference_mode():
        for batch in batches([max(1, len(r)) for r in rows], BATCH_TOKENS[model.device.type]):
            width = max(1, *(len(rows[i]) for i in batch)) if len(batch) > 1 else max(1, len(rows[batch[0]]))
            ids = torch.full((len(batch), width), model.tokenizer.pad_token_id or 0, dtype=torch.long)
            mask = torch.zeros((len(batch), width), dtype=torch.long)
            for r, i in enumerate(batch):
                ids[r, : len(rows[i])] = torch.tensor(rows[i])
                mask[r, : max(1, len(rows[i]))] = 1
                meter.add(len(rows[i]), 0)
            states = trunk(
                input_ids=ids.to(model.device), attention_mask=mask.to(model.device)
            ).last_hidden_state.float()
            weights = mask.to(model.device)[:, :, None].float()
            means = ((states * weights).sum(1) / weights.sum(1)).double().cpu().numpy()
            vectors[batch] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    if not np.isfinite(vectors).all():
        raise FloatingPointError("the model's hidden states are not finite")
    return vectors
