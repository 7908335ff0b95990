"""QLoRA: adapters on weights frozen in 4 bits: a quarter of LoRA's memory, a little slower."""

from __future__ import annotations

from orrery.costs.flops import Training
from orrery.strategies.fine_tuning import DATA_PERCENT, EPOCHS, RANK, FineTuning, learning_rate

STRATEGY = FineTuning(
    type="QLoRA",
    training=Training.QUANTIZED_ADAPTER,
    parameters=(learning_rate("2e-4", "1e-3"), EPOCHS, RANK, DATA_PERCENT),
    harmful_rate=1e-2,
)
