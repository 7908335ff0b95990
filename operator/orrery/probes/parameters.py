"""Parameters of a trial, read with sentences for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orrery.api.probe import Method, Trial
from orrery.probes.session import Example, Session, Unsupported


def read_parameters(trial: Trial, known: Sequence[str]) -> Mapping[str, str]:
    """The trial's parameters by name.

    Raises ``Unsupported`` when it has one that the strategy does not know, since ignoring it would measure another
    configuration than was asked for.
    """
    for parameter in trial.parameters:
        if parameter.name not in known:
            raise Unsupported(f"{trial.strategy} has no parameter '{parameter.name}': write one of {', '.join(known)}")
    return {parameter.name: parameter.value for parameter in trial.parameters}


def evaluation_items(session: Session, trial: Trial) -> tuple[Example, ...]:
    """The trial's first evaluation items; all there are when it asks for more."""
    return session.data.evaluation[: trial.fidelity.evaluation_items]


def require_direct(trial: Trial) -> None:
    """Refuse a fidelity that stands in for training, where nothing is trained."""
    if trial.fidelity.method is not Method.DIRECT:
        raise Unsupported(f"{trial.strategy} trains nothing that {trial.fidelity.method} could stand for: write Direct")
