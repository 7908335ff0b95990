"""The four questions every strategy answers, in this order: which configurations, what to probe, what quality, what work.

A strategy's ``forecast.py`` is pure: it sees facts and evidence, never a file, a clock or a GPU. It is found by the entry
point group ``orrery.strategies``; ``measure.py`` beside it runs inside probes (``orrery.measures``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import Model, ModelFacts
from orrery.api.plan import Probing
from orrery.api.probe import TaskFacts, Trial, TrialResult
from orrery.api.task import Task
from orrery.costs.flops import Training
from orrery.costs.work import Work
from orrery.laws.posterior import Link, Posterior

Array = NDArray[np.float64]


class Kind(StrEnum):
    """How a parameter's values are read."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    CHOICE = "choice"


@dataclass(frozen=True)
class ParameterSpec:
    """One axis of a strategy's grid: its default values, and what is allowed."""

    name: str
    kind: Kind
    default: tuple[str, ...]
    description: str
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """One measurement that bears on a group: the trial as it was asked, what came back, and where it ran."""

    trial: Trial
    result: TrialResult
    accelerator: str


@dataclass(frozen=True)
class Sibling:
    """Another model of the same plan, and what was measured of it."""

    model: Model
    facts: ModelFacts | None
    evidence: Sequence[Evidence]


@dataclass(frozen=True)
class Group:
    """All configurations of one strategy on one model: they share a curve and the evidence.

    ``columns`` maps each parameter to its n values (strings, as in the grid). ``evidence`` holds every measurement of this
    model and task, of whatever strategy: zero-shot bears on fine-tuning, a proxy on all of them.
    """

    model: Model
    task: Task
    probing: Probing
    facts: ModelFacts | None
    task_facts: TaskFacts | None
    columns: Mapping[str, Sequence[str]]
    size: int
    evidence: Sequence[Evidence]
    link: Link
    chance: float
    siblings: Sequence[Sibling] = ()  #: the other measured models of its family
    peers: Sequence[Sibling] = ()  #: all other measured models of the plan


@dataclass(frozen=True)
class Proposal:
    """A trial that could be run next, and what it would tell.

    ``shift`` (n,) is the standard deviation, on the link scale and signed by correlation, by which the forecast mean of each
    configuration would move (the preposterior sd of correlated knowledge gradient, Frazier et al. 2009).
    ``flops`` and ``tokens`` price it.
    """

    trial: Trial
    shift: Array
    training_flops: float
    inference_flops: float
    expected_score: float | None = None  #: median of the score it would report, in the metric's unit
    training_pass_flops: float = 0.0  #: one token's FLOPs times the training's passes: what short batches waste


@dataclass(frozen=True)
class QualityForecast:
    """Quality at full fidelity of a group's n configurations, and what a person should know of them.

    ``hurts`` (n,) is the probability that the adapted model is worse than the model as it is (negative transfer); None where
    nothing is adapted or nothing was measured.
    """

    posterior: Posterior
    measured: NDArray[np.bool_]  #: (n,) this very configuration was measured in full
    remarks: Sequence[str] = ()  #: sentences about the whole group, e.g. that demonstrations hurt
    hurts: Array | None = None


class Strategy(Protocol):
    """A way to adapt a model. Implementations are frozen dataclasses without state."""

    @property
    def type(self) -> str:
        """CamelCase name in plans."""

    @property
    def training(self) -> Training | None:
        """What is trained, since each kind of training has its own speed; None when nothing is."""

    @property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """1. Which configurations: the axes of the grid and their defaults."""

    def refusal(self, model: Model, task: Task) -> str | None:
        """1b. A sentence saying why this strategy cannot adapt this model to this task, or None."""

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """2. What to probe next: trials not yet measured, cheap fidelities first, with what each would tell."""

    def forecast(self, group: Group) -> QualityForecast:
        """3. What quality to expect of each configuration, given the evidence; without any, the prior."""

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """4. What each configuration has to compute; the workload's tokens a request override the measured ones."""
