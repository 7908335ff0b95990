"""A fine-tuning trial's parameters, parsed once; what a wrong one should have been is said in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from orrery.api.probe import Trial
from orrery.probes.session import Unsupported

#: Fewer updates than this and the schedule is all warm-up: the batch is made smaller first (it costs nothing).
LEAST_STEPS = 16


@dataclass(frozen=True)
class Settings:
    """One configuration of training, at one size."""

    learning_rate: float
    epochs: int
    rank: int  #: of the adapters; unused by full fine-tuning
    batch_size: int
    examples: int  #: trained on; at least one
    seed: int

    @property
    def batch(self) -> int:
        """Examples a step: the asked batch size, or less where it would leave fewer than ``LEAST_STEPS`` updates."""
        return max(1, min(self.batch_size, self.examples, self.examples * self.epochs // LEAST_STEPS))

    @property
    def passes(self) -> int:
        """Times the subset is gone through: the asked epochs, or more where even single examples leave too few."""
        return max(self.epochs, math.ceil(LEAST_STEPS / math.ceil(self.examples / self.batch)))

    @property
    def steps(self) -> int:
        """Optimizer updates."""
        return self.passes * math.ceil(self.examples / self.batch)


#: Defaults of the parameters a trial may leave out; the learning rate depends on what is trained.
DEFAULTS = {"epochs": "3", "rank": "8", "batchSize": "16", "dataPercent": "100"}


def parse_settings(trial: Trial, available: int, learning_rate: str, ignore: frozenset[str] = frozenset()) -> Settings:
    """Settings of ``trial`` when ``available`` training examples exist.

    ``fidelity.training_examples`` wins over ``dataPercent``, and neither can ask for more than there is.

    Parameters
    ----------
    learning_rate: what holds when the trial names none.
    ignore: parameters that belong to another part of the strategy, such as ``shots``.

    Raises
    ------
    Unsupported: an unknown parameter or a value that cannot be meant.
    """
    given = {p.name: p.value for p in trial.parameters if p.name not in ignore}
    known = {"learningRate": learning_rate, **DEFAULTS, "seed": str(trial.seed)}
    for name in given:
        if name not in known:
            raise Unsupported(
                f"parameter {name} is unknown to {trial.strategy}: write one of {', '.join(sorted(known))}"
            )
    if available < 1:
        raise Unsupported(f"the training split is empty: {trial.strategy} needs at least one training example")
    values = known | given
    rate = _number(values, "learningRate", 0, 10)
    percent = _number(values, "dataPercent", 0, 100)
    share = max(1, int(available * percent / 100))  # rounded down, as the forecast does
    return Settings(
        learning_rate=rate,
        epochs=_whole(values, "epochs", 1, 1000),
        rank=_whole(values, "rank", 1, 1024),
        batch_size=_whole(values, "batchSize", 1, 4096),
        examples=min(available, trial.fidelity.training_examples or share),
        seed=_whole(values, "seed", 0, 2**53),
    )


def _number(values: Mapping[str, str], name: str, low: float, high: float) -> float:
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not low < number <= high:
        raise Unsupported(
            f"parameter {name} is '{values[name]}': write a number above {low:g} and at most {high:g}, "
            f"such as '{DEFAULTS.get(name, '2e-4')}'"
        )
    return number


def _whole(values: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = values[name]
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise Unsupported(
            f"parameter {name} is '{text}': write a whole number from {low} to {high}, such as {DEFAULTS.get(name, '1')}"
        )
    return int(text)
