"""LoRA, then demonstrations in the prompt of the tuned model: forecast from its parts and at most a few joint probes.

The parts are the curves of ``LoRA`` and of ``InContext``, with whatever was measured for them; ``laws.hybrid`` joins them by
the share of what demonstrations teach that tuning has taught already. Above 1, which is common, they hurt the tuned model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from orrery.api.models import Model
from orrery.api.probe import Trial
from orrery.api.task import Task
from orrery.costs.flops import Training
from orrery.costs.work import Work
from orrery.laws import hybrid
from orrery.laws.hybrid import Alike, HybridPosterior
from orrery.laws.posterior import Array, Link, Posterior
from orrery.strategies import shot_curves
from orrery.strategies.base import Group, ParameterSpec, Proposal, QualityForecast
from orrery.strategies.fine_tuning import DATA_PERCENT, EPOCHS, RANK, learning_rate, sampling_sd
from orrery.strategies.in_context import forecast as in_context
from orrery.strategies.in_context.forecast import STRATEGY as IN_CONTEXT
from orrery.strategies.law_curves import FineTunedCurves
from orrery.strategies.lora.forecast import STRATEGY as LORA
from orrery.strategies.trials import (
    attempted,
    direct,
    evaluation_size,
    identity,
    identity_of,
    make_trial,
    observed,
    parameters_of,
)
from orrery.strategies.tuning_curves import Points, seed_sd

Index = NDArray[np.intp]
T = TypeVar("T")
#: A joint configuration: what is trained (without the share of the data), on how many examples, shots and retriever.
Row = tuple[tuple[tuple[str, str], ...], int, int, str]

#: Joint trials that are proposed at a time: enough to choose from, since one already tells the overlap.
_MOST_PROPOSALS = 32
#: Correlation of what k demonstrations bring with what others do: half is the model's own readiness, the other half the
#: retriever's; over numbers of shots it falls to 1/e within a factor of eight. By assumption.
_ANY_RETRIEVER, _OCTAVES = 0.5, 3.0
#: Above this probability a person should know that demonstrations hurt the tuned model, or all of it the model as it is.
_LIKELY = 0.5

_TUNING = (learning_rate("2e-4", "1e-3"), EPOCHS, RANK, DATA_PERCENT)
_SHOWING = (
    in_context.shots("Demonstrations in the prompt of the tuned model.", "1", "4"),
    in_context.retriever("words (bm25)", "random", "bm25"),
)


@dataclass(frozen=True)
class FineTuneThenInContext:
    """Trains adapters without demonstrations, then answers with them."""

    type: str = "FineTuneThenInContext"
    training: Training | None = Training.ADAPTER
    parameters: tuple[ParameterSpec, ...] = (*_TUNING, *_SHOWING)

    def refusal(self, model: Model, task: Task) -> str | None:
        """What cannot be tuned or cannot read demonstrations cannot do both."""
        return IN_CONTEXT.refusal(model, task) or LORA.refusal(model, task)

    def proposals(self, group: Group) -> Sequence[Proposal]:
        """Trials of the parts, which LoRA and InContext may want too, and joint ones at the plan's fidelities and in full."""
        if not group.size:
            return []
        joint = _Joint(group, self._asked(group))
        bound = joint.posterior.predict().sd[: group.size]
        return [*self._of_parts(group, joint, bound), *self._of_both(group, joint)]

    def _asked(self, group: Group) -> list[Row]:
        """Joint trials that were not attempted, cheap ones first; no rung at or above the size a configuration asks."""
        done = attempted(group.evidence)
        wanted: dict[Row, None] = {}
        for trained, full, shots, retriever in _targets(group):
            for n in (*[f for f in group.probing.fidelities if f < full], full):
                wanted.setdefault((trained, n, shots, retriever))
        open_ = [r for r in wanted if identity_of(self.type, _parameters(r), r[1]) not in done]
        if len(open_) > _MOST_PROPOSALS:
            open_ = [open_[j] for j in np.unique(np.linspace(0, len(open_) - 1, _MOST_PROPOSALS).astype(int))]
        return sorted(open_, key=lambda r: (r[1], r))

    def _of_both(self, group: Group, joint: _Joint) -> list[Proposal]:
        asked = np.arange(joint.size - len(joint.asked), joint.size)
        post = joint.posterior.predict()
        mean, sd = post.mean[asked], post.sd[asked]
        items = evaluation_size(group)
        total = np.sqrt(sd**2 + sampling_sd(group, mean, items) ** 2 + joint.seed_sd[asked] ** 2)
        shifts = joint.posterior.covariance(asked, np.arange(group.size)) / total[:, None]
        scoring = _evaluation_flops(group, joint.asked) * items
        medians = group.link.inverse(mean)
        return [
            Proposal(
                make_trial(group, self.type, _parameters(row), examples=row[1]),
                shifts[j],
                LORA.training_flops(group, dict(row[0]), row[1]),
                float(scoring[j]),
                float(medians[j]),
            )
            for j, row in enumerate(joint.asked)
        ]

    @staticmethod
    def _of_parts(group: Group, joint: _Joint, bound: Array) -> list[Proposal]:
        """What LoRA and InContext would ask for these configurations, with what it says about both together."""
        targets = _targets(group)
        tuned, shown = (r[: group.size] for r in joint.posterior.response())
        tunings = _distinct((r[0], _share(group, i)) for i, r in enumerate(targets))
        ways = _distinct((r[2], r[3]) for r in targets)
        lora = _part(group, [{**dict(t), "dataPercent": share} for t, share in tunings])
        shots = _part(group, [{"shots": str(k), "retriever": w, "calibration": "none"} for k, w in ways])
        of_tuning = np.array([tunings[r[0], _share(group, i)] for i, r in enumerate(targets)])
        of_way = np.array([ways[r[2], r[3]] for r in targets])
        found = [(p, p.shift[of_tuning] * tuned) for p in LORA.proposals(lora)]
        found += [(p, p.shift[of_way] * shown) for p in IN_CONTEXT.proposals(shots)]
        return [replace(p, shift=np.clip(shift, -bound, bound)) for p, shift in found]

    def forecast(self, group: Group) -> QualityForecast:
        """Each configuration's tuned and demonstrated parts, joined by the overlap that joint probes have shown."""
        if not group.size:
            return QualityForecast(Posterior(np.zeros(0), np.zeros(0), group.link), np.zeros(0, dtype=np.bool_))
        joint = _Joint(group)
        post = joint.posterior.predict().take(np.arange(group.size))
        done = {identity(e.trial) for e in direct(group.evidence, self.type)}
        measured = np.array(
            [identity_of(self.type, _parameters(r), r[1]) in done for r in joint.rows[: group.size]], dtype=np.bool_
        )
        if not group.evidence:
            return QualityForecast(post, measured)
        larger = group.link is not Link.LOG
        hurts = joint.posterior.probability_hurts(larger_is_better=larger)[: group.size]
        worse = joint.posterior.probability_demonstrations_hurt(larger_is_better=larger)[: group.size]
        best = int(np.argmax(post.mean if larger else -post.mean))
        return QualityForecast(post, measured, self._remarks(hurts[best], worse[best], joint.told), hurts)

    def _remarks(self, hurts: float, worse: float, told: int) -> list[str]:
        """Sentences about the likeliest configuration: whether all of it hurts, and whether its demonstrations do."""
        remarks = []
        if hurts > _LIKELY:
            remarks.append(
                f"{self.type} likely hurts: even its best configuration falls below the untuned model with probability "
                f"{hurts:.0%}"
            )
        if worse > _LIKELY:
            how = "as measured together" if told else "not yet measured together"
            remarks.append(
                f"Demonstrations hurt the tuned model with probability {worse:.0%} ({how}): tuning without them is "
                "likely better, and its prompts are shorter"
            )
        return remarks

    def work(self, group: Group, input_tokens: float | None, output_tokens: float | None) -> Work:
        """Trained once like LoRA; every request then carries its demonstrations."""
        shown = replace(group, columns={**group.columns, "calibration": ["none"] * group.size})
        training = LORA.work(group, input_tokens, output_tokens)
        requests = IN_CONTEXT.work(shown, input_tokens, output_tokens)
        return replace(
            requests,
            adaptation_flops=training.adaptation_flops,
            adaptation_tokens=training.adaptation_tokens,
            adaptation_memory=training.adaptation_memory,
            process_memory=training.process_memory,
            pass_flops=training.pass_flops,
        )


class _Joint:
    """Rows of a group (its configurations, then what was measured jointly, then what is asked) and their posterior."""

    def __init__(self, group: Group, asked: Sequence[Row] = ()) -> None:
        self.asked = list(asked)
        found = [(_row(e.trial), observed(e.result, group.link)) for e in direct(group.evidence, STRATEGY.type)]
        seen = [(row, score) for row, score in found if row is not None and score is not None]
        self.told = len(seen)
        self.rows = [*_targets(group), *(row for row, _ in seen), *self.asked]
        self.size = len(self.rows)
        self._tunings = _distinct((r[0], r[1]) for r in self.rows)
        self._tuning = np.array([self._tunings[r[0], r[1]] for r in self.rows], dtype=np.intp)
        self._curves: FineTunedCurves = LORA.curves(group)
        self._points: Points = LORA.points_of(group, [(dict(t), float(n)) for t, n in self._tunings])
        mean, sd = self._curves.predict(self._points)
        self._tuned_sd = sd
        self.seed_sd = seed_sd(self._points)[self._tuning]
        ways, at = sorted({(r[3], "none") for r in self.rows}), sorted({r[2] for r in self.rows})
        measured = shot_curves.measured(group, ways)
        post = shot_curves.predict(group, ways, measured, [0, *at])
        way = np.array([ways.index((r[3], "none")) for r in self.rows])
        column = np.array([1 + at.index(r[2]) for r in self.rows])
        self._octave = np.log2(np.array([float(r[2]) for r in self.rows]) + 1.0)
        self._way = way
        joint, error = np.full((2, self.size), np.nan)
        for i, (_, (z, noise)) in enumerate(seen, start=group.size):
            value = group.link.inverse(z)
            joint[i] = float(value)
            error[i] = float(np.hypot(noise, self.seed_sd[i]) / group.link.slope(value))
        self.posterior: HybridPosterior = hybrid.forecast(
            Posterior(post.mean[way, 0], post.sd[way, 0], group.link),
            Posterior(mean[self._tuning], sd[self._tuning], group.link),
            Posterior(post.mean[way, column], post.sd[way, column], group.link),
            joint=joint,
            joint_sd=np.where(np.isfinite(error), error, 0.0),
            alike=self._alike,
        )

    def _alike(self, a: Index, b: Index) -> Alike:
        octaves = np.abs(self._octave[a][:, None] - self._octave[b][None])
        retriever = np.where(self._way[a][:, None] == self._way[b][None], 1.0, _ANY_RETRIEVER)
        return Alike(np.ones((len(a), len(b))), self._tuned_alike(a, b), retriever * np.exp(-octaves / _OCTAVES))

    def _tuned_alike(self, a: Index, b: Index) -> Array:
        """Correlation of the tuned parts' errors, computed once for each tuning."""
        if not len(b):
            return np.zeros((len(a), 0))
        rows, row = np.unique(self._tuning[a], return_inverse=True)
        columns, column = np.unique(self._tuning[b], return_inverse=True)
        covariance = self._curves.covariance(self._points.take(columns), self._points.take(rows)).T
        scale = np.outer(self._tuned_sd[rows], self._tuned_sd[columns])
        correlation = np.where(rows[:, None] == columns[None], 1.0, np.clip(covariance / scale, -1.0, 1.0))
        return np.asarray(correlation[row][:, column])


def _targets(group: Group) -> list[Row]:
    """The group's configurations as rows."""
    names = [p.name for p in _TUNING if p.name != "dataPercent"]
    sizes = LORA.full_sizes(group)
    c = group.columns
    return [
        (
            tuple((n, c[n][i]) for n in sorted(names)),
            int(sizes[i]),
            int(c["shots"][i]),
            c["retriever"][i],
        )
        for i in range(group.size)
    ]


def _row(trial: Trial) -> Row | None:
    """A measured trial as a row; None when it does not say how many demonstrations it had."""
    p = parameters_of(trial)
    shots, retriever = p.pop("shots", ""), p.pop("retriever", "random")
    if not shots.isdecimal() or not trial.fidelity.training_examples:
        return None
    return tuple(sorted(p.items())), trial.fidelity.training_examples, int(shots), retriever


def _parameters(row: Row) -> dict[str, str]:
    return {**dict(row[0]), "shots": str(row[2]), "retriever": row[3]}


def _share(group: Group, i: int) -> str:
    return group.columns["dataPercent"][i]


def _distinct(values: Iterable[T]) -> dict[T, int]:
    """Distinct values in order, with their places."""
    places: dict[T, int] = {}
    for v in values:
        places.setdefault(v, len(places))
    return places


def _part(group: Group, configurations: Sequence[Mapping[str, str]]) -> Group:
    """The same model, data and evidence with other configurations."""
    columns = {name: [c[name] for c in configurations] for name in configurations[0]}
    return replace(group, columns=columns, size=len(configurations))


def _evaluation_flops(group: Group, rows: Sequence[Row]) -> Array:
    """FLOPs of scoring one item with each row's demonstrations."""
    if not rows:
        return np.zeros(0)
    shown = [{"shots": str(r[2]), "retriever": r[3], "calibration": "none"} for r in rows]
    work = IN_CONTEXT.work(_part(group, shown), None, None)
    return np.asarray(work.request_flops if work.evaluation_flops is None else work.evaluation_flops)


STRATEGY = FineTuneThenInContext()
