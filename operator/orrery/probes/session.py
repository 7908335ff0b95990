"""What a strategy's measurement is given: the data and one loaded model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orrery.api.models import Architecture, ModelFacts
from orrery.api.probe import ProbeSpec, Trial, TrialResult
from orrery.api.quantities import Seconds

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Example:
    """One item: the request's text, the right answer, and what it is chosen from (empty for Generation)."""

    input: str
    target: str
    options: tuple[str, ...] = ()
    references: tuple[str, ...] = ()  #: further right answers (Generation)


@dataclass(frozen=True)
class TaskData:
    """The examples of a task, read and checked; ``evaluation`` is in a fixed, seeded order so prefixes are samples."""

    train: tuple[Example, ...]
    evaluation: tuple[Example, ...]
    labels: tuple[str, ...]
    digest: str
    commit: str | None = None  #: of the hub's dataset


@dataclass
class LoadedModel:
    """One model in memory. ``fresh`` gives pristine weights again after a trial that changed them."""

    module: torch.nn.Module
    tokenizer: Any
    architecture: Architecture
    facts: ModelFacts
    device: torch.device
    dtype: torch.dtype
    load_seconds: Seconds
    path: str
    fresh: Callable[[], None]
    problem: str | None = None  #: why its sizes are uncertain
    commit: str | None = None  #: of the hub's model


class Tuned(Protocol):
    """A tuned model, as it is handed on before it is taken apart again."""

    model: LoadedModel
    head: nn.Linear | None  #: an encoder's classification head


@dataclass
class Session:
    """One probe's run: everything its trials share."""

    spec: ProbeSpec
    data: TaskData
    model: LoadedModel
    keep: Callable[[Tuned], None] | None = None  #: is handed every tuned model before it is taken apart again


class Measure(Protocol):
    """What a strategy's ``measure.py`` offers under the entry point ``orrery.measures``.

    Raises ``torch.OutOfMemoryError`` or ``MemoryError`` when it does not fit (the frame records OutOfMemory) and
    ``Unsupported`` when it cannot run here; any other exception is recorded as Failed and never stops the other trials.
    """

    def __call__(self, session: Session, trial: Trial) -> TrialResult:
        """Result of one trial, with ``outcome`` Measured."""
        ...


class Unsupported(Exception):  # noqa: N818  # an outcome, not an error
    """The strategy cannot run with this model or on this machine; the message is the sentence to report."""
