"""Full fine-tuning: every weight is trained, with learning rates a tenth to a hundredth of LoRA's."""

from __future__ import annotations

from orrery.costs.flops import Training
from orrery.strategies.fine_tuning import DATA_PERCENT, EPOCHS, FineTuning, learning_rate

STRATEGY = FineTuning(
    type="FullFineTuning",
    training=Training.FULL,
    parameters=(learning_rate("2e-5", "1e-4"), EPOCHS, DATA_PERCENT),
    harmful_rate=5e-4,
)
