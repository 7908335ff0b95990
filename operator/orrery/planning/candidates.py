"""Expands a plan into candidates: model x strategy x configuration x accelerator, counted before anything is built."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from orrery.api.machines import Accelerator
from orrery.api.models import Model
from orrery.api.plan import PlanSpec, Probing, StrategySpec
from orrery.laws import curve_laws
from orrery.planning import designer_names as designers
from orrery.strategies import registry
from orrery.strategies.base import Strategy
from orrery.strategies.trials import check_value

#: More candidates than this are refused: forecasting them all would take longer than probing the sensible ones.
MOST_CANDIDATES = 100_000
#: So many faults of one plan are told at a time.
_MOST_FAULTS = 50
#: What ``probing.predictor`` may name: the ensemble of everything that bears on a candidate, or one learning-curve law.
PREDICTORS = ("Ensemble", *curve_laws.names())

Index = NDArray[np.intp]


class InvalidPlan(ValueError):  # noqa: N818  # reads as what happened
    """The plan cannot be answered as it is written; each of the ``sentences`` says where, what was found and what to write."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True)
class CandidateGroup:
    """All configurations of one strategy on one model."""

    model: Model
    strategy: StrategySpec
    plugin: Strategy
    columns: Mapping[str, tuple[str, ...]]
    size: int
    refusal: str | None  #: why the strategy cannot adapt this model at all
    first: int  #: index of its first candidate

    def configuration(self, i: int) -> tuple[tuple[str, str], ...]:
        """Parameters of configuration ``i``, in the strategy's order."""
        return tuple((name, column[i]) for name, column in self.columns.items())


@dataclass(frozen=True)
class Space:
    """Every candidate, as columns: candidate i is ``groups[group[i]]`` in ``configuration[i]`` on ``accelerator[i]``."""

    groups: tuple[CandidateGroup, ...]
    accelerators: tuple[Accelerator, ...]
    group: Index
    configuration: Index
    accelerator: Index

    def __len__(self) -> int:
        return len(self.group)

    @property
    def configured(self) -> Index:
        """Number of each candidate's (model, strategy, configuration), which is the same on every accelerator."""
        first = np.array([g.first // len(self.accelerators) for g in self.groups], dtype=np.intp)
        return first[self.group] + self.configuration

    def rows(self, g: int, accelerator: int) -> slice:
        """Candidates of a group on one accelerator, one for each configuration in order."""
        first, count = self.groups[g].first, len(self.accelerators)
        return slice(first + accelerator, first + self.groups[g].size * count, count)

    def label(self, i: int) -> str:
        """Readable and unique name, such as ``smollm2/lora(epochs=3,rank=8)@cpu``; cut at 253 characters."""
        g = self.groups[self.group[i]]
        pairs = ",".join(f"{k}={v}" for k, v in g.configuration(int(self.configuration[i])))
        return f"{g.model.name}/{g.strategy.name}({pairs})@{self.accelerators[self.accelerator[i]].name}"[:253]


def expand(spec: PlanSpec) -> Space:
    """All candidates of a plan.

    Raises:
        InvalidPlan: with every unknown strategy, parameter, predictor and designer, every value out of bounds or given
            twice, and nothing left after exclusions; or with more candidates than can be forecast.
    """
    faults = _unknown_methods(spec.probing)
    grids: dict[str, tuple[Strategy, dict[str, tuple[str, ...]]]] = {}
    for s in spec.strategies:
        try:
            grids[s.name] = _grid(s)
        except InvalidPlan as e:
            faults += e.sentences
    excluded = {(e.model, e.strategy) for e in spec.exclude}
    pairs = [(m, s) for m in spec.models for s in spec.strategies if (m.name, s.name) not in excluded]
    if not pairs:
        faults.append("spec.exclude leaves no pair of model and strategy: take at least one pair out of it")
    if faults:
        raise InvalidPlan(*faults[:_MOST_FAULTS])
    sizes = {name: prod(len(v) for v in axes.values()) for name, (_, axes) in grids.items()}
    total = sum(sizes[s.name] for _, s in pairs) * len(spec.accelerators)
    if total > MOST_CANDIDATES:
        largest = max(spec.strategies, key=lambda s: sizes[s.name])
        axes = " x ".join(f"{len(v)} {k}" for k, v in grids[largest.name][1].items())
        raise InvalidPlan(
            f"spec.strategies expands to {total:,} candidates, of which {sizes[largest.name]:,} a model come from "
            f"'{largest.name}' ({axes}): at most {MOST_CANDIDATES:,} are forecast, so write fewer values"
        )
    groups: list[CandidateGroup] = []
    first = 0
    products = {name: _columns(axes) for name, (_, axes) in grids.items()}
    for model, strategy in pairs:
        plugin = grids[strategy.name][0]
        groups.append(
            CandidateGroup(
                model,
                strategy,
                plugin,
                products[strategy.name],
                sizes[strategy.name],
                plugin.refusal(model, spec.task),
                first,
            )
        )
        first += sizes[strategy.name] * len(spec.accelerators)
    accelerators = len(spec.accelerators)
    counts = np.array([g.size * accelerators for g in groups])
    within = np.concatenate([np.arange(c) for c in counts])
    return Space(
        tuple(groups),
        tuple(spec.accelerators),
        np.repeat(np.arange(len(groups)), counts),
        within // accelerators,
        within % accelerators,
    )


def _unknown_methods(probing: Probing) -> list[str]:
    faults = []
    try:
        designers.entry(probing.designer)
    except designers.UnknownDesigner as e:
        faults.append(f"spec.probing.designer is {e}")
    if probing.predictor not in PREDICTORS:
        faults.append(
            f"spec.probing.predictor is '{probing.predictor}': write one of {', '.join(PREDICTORS)}, or leave it out"
        )
    return faults


def _grid(strategy: StrategySpec) -> tuple[Strategy, dict[str, tuple[str, ...]]]:
    """The plug-in and its axes in its own order, checked and in canonical form; InvalidPlan with every fault of them."""
    where = f"spec.strategies[{strategy.name}]"
    try:
        plugin = registry.get(strategy.type)
    except registry.UnknownStrategy as e:
        raise InvalidPlan(f"{where}.type: {e}") from None
    known = {p.name: p for p in plugin.parameters}
    given = {a.name: a.values for a in strategy.grid}
    faults = []
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            faults.append(
                f"{where}.grid names the parameter '{name}', which {strategy.type} does not have: "
                f"write one of {', '.join(known)}{hint}"
            )
    axes = {}
    for name, spec in known.items():
        values: list[str] = []
        for value in given.get(name, list(spec.default)):
            try:
                text = check_value(spec, value)
            except ValueError as e:
                faults.append(f"{where}.grid[{name}].values {e}")
                continue
            if text in values:
                faults.append(f"{where}.grid[{name}].values holds {text} twice: write every value once")
            values.append(text)
        axes[name] = tuple(values)
    if faults:
        raise InvalidPlan(*faults)
    return plugin, axes


def _columns(axes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    rows = list(itertools.product(*axes.values()))
    return {name: tuple(row[j] for row in rows) for j, name in enumerate(axes)}
