"""LoRA: adapters on frozen 16-bit weights; a tenth of a percent of the weights is trained."""

from __future__ import annotations

from orrery.costs.flops import Training
from orrery.strategies.fine_tuning import DATA_PERCENT, EPOCHS, RANK, FineTuning, learning_rate

STRATEGY = FineTuning(
    type="LoRA",
    training=Training.ADAPTER,
    parameters=(learning_rate("2e-4", "1e-3"), EPOCHS, RANK, DATA_PERCENT),
    harmful_rate=1e-2,
)
