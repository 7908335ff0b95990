"""Trials in canonical form, and what a measurement says on the link scale.

The same measurement must be written the same way by whoever asks for it: ``2e-4`` and ``0.0002`` are one learning rate, a
share of the data is the number of examples it comes to, and zero-shot is in-context learning without demonstrations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

import numpy as np

from orrery.api.probe import Fidelity, Method, Outcome, Parameter, Trial, TrialResult, digest
from orrery.api.quantities import format_decimal
from orrery.laws.posterior import Array, Link
from orrery.strategies.base import Evidence, Group, Kind, ParameterSpec

Identity = tuple[str, tuple[tuple[str, str], ...], str, int]


def canonical(value: str, kind: Kind) -> str:
    """One spelling for equal values; raises ValueError with a sentence when a number is none.

    >>> canonical("2e-4", Kind.DECIMAL), canonical("+8", Kind.INTEGER), canonical("bm25", Kind.CHOICE)
    ('0.0002', '8', 'bm25')
    """
    if kind is Kind.CHOICE:
        return value
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"is '{value}': write a number") from None
    if not number.is_finite():
        raise ValueError(f"is '{value}': write a finite number")
    if kind is Kind.INTEGER and number != number.to_integral_value():
        raise ValueError(f"is '{value}': write a whole number")
    return format_decimal(number)


def check_value(spec: ParameterSpec, value: str) -> str:
    """The canonical form of a grid value; raises ValueError saying what is allowed instead."""
    if spec.kind is Kind.CHOICE:
        if value not in spec.choices:
            raise ValueError(f"is '{value}': write one of {', '.join(spec.choices)}")
        return value
    text = canonical(value, spec.kind)
    number = Decimal(text)
    low, high = spec.minimum, spec.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        allowed = " and ".join(
            ([f"at least {format_decimal(low)}"] if low is not None else [])
            + ([f"at most {format_decimal(high)}"] if high is not None else [])
        )
        raise ValueError(f"is '{value}': write a number of {allowed}")
    return text


def make_trial(
    group: Group,
    strategy: str,
    parameters: Mapping[str, str],
    *,
    examples: int = 0,
    method: Method = Method.DIRECT,
    repeat: int = 0,
    percent: int | None = None,
) -> Trial:
    """A trial of the group's model at the plan's evaluation size; its name is a hash of what it measures.

    ``percent`` of the schedule is where a trial of method Early stops.
    """
    fidelity = Fidelity(
        method=method,
        training_examples=examples,
        evaluation_items=group.probing.evaluation_items,
        schedule_percent=percent,
    )
    pairs = [Parameter(name=k, value=v) for k, v in sorted(parameters.items())]
    seed = group.probing.seed + repeat
    name = digest([strategy, [(p.name, p.value) for p in pairs], fidelity.to_wire(), seed])[:10]
    return Trial(name=f"t{name}", strategy=strategy, parameters=pairs, fidelity=fidelity, seed=seed)


def identity(trial: Trial) -> Identity:
    """What a trial measures, whatever its seed and evaluation size."""
    pairs = tuple(sorted((p.name, p.value) for p in trial.parameters))
    return trial.strategy, pairs, trial.fidelity.method.value, trial.fidelity.training_examples


def identity_of(strategy: str, parameters: Mapping[str, str], examples: int = 0) -> Identity:
    """Identity of the direct measurement of a configuration, without making its trial."""
    return strategy, tuple(sorted(parameters.items())), Method.DIRECT.value, examples


def parameters_of(trial: Trial) -> dict[str, str]:
    """Parameters by name."""
    return {p.name: p.value for p in trial.parameters}


def observed(result: TrialResult, link: Link) -> tuple[float, float] | None:
    """Link-scale value and standard error of a measured score; None when there is no usable score.

    Shares are smoothed by half an item on each side, so that 20 right of 20 is neither infinite nor certain.
    """
    if result.outcome is not Outcome.MEASURED or result.score is None or result.items < 1:
        return None
    score, items = float(result.score), result.items
    if not np.isfinite(score):
        return None
    if link is Link.LOGIT:
        if not 0 <= score <= 1:
            return None
        right, wrong = score * items + 0.5, (1 - score) * items + 0.5
        sd = np.sqrt(1 / right + 1 / wrong)
        if result.standard_error is not None and result.bits is None:
            # Scores that are not 0 or 1 per item (token F1) vary less than the binomial bound.
            share = right / (right + wrong)
            sd = min(sd, max(float(result.standard_error), 0.25 / items) / (share * (1 - share)))
        return float(np.log(right / wrong)), float(sd)
    error = float(result.standard_error) if result.standard_error is not None else 0.1 * abs(score)
    value = float(link.forward(score))
    return value, max(float(error * link.slope(score)), 1e-3)


def measured_by(evidence: Iterable[Evidence], strategy: str, method: Method) -> list[Evidence]:
    """Measurements of one strategy by one method that ended with a score."""
    return [
        e
        for e in evidence
        if e.trial.strategy == strategy and e.trial.fidelity.method is method and e.result.outcome is Outcome.MEASURED
    ]


def direct(evidence: Iterable[Evidence], strategy: str) -> list[Evidence]:
    """Direct measurements of one strategy that ended with a score."""
    return measured_by(evidence, strategy, Method.DIRECT)


def attempted(evidence: Iterable[Evidence]) -> set[Identity]:
    """Identities that were tried, whatever came of it: asking again would tell nothing new."""
    return {identity(e.trial) for e in evidence}


def numbers(column: Sequence[str]) -> Array:
    """A numeric column as floats."""
    return np.array([float(v) for v in column], dtype=np.float64)


def evaluation_size(group: Group) -> int:
    """Items a direct measurement scores: as many as the plan asks, or as there are."""
    asked = group.probing.evaluation_items
    there = group.task_facts.evaluation_examples if group.task_facts else asked
    return max(1, min(asked, there or asked))
