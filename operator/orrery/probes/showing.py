"""Answer after demonstrations: what in-context learning measures, of a model as it is or of a tuned one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orrery.api.models import Architecture
from orrery.probes.evaluation import Evaluation, evaluate
from orrery.probes.likelihood import Meter
from orrery.probes.retrieval import demonstrations
from orrery.probes.session import Example, LoadedModel, Session, Unsupported

#: Parameters of a trial that say what is shown.
PARAMETERS = ("shots", "retriever", "calibration")
MOST_SHOTS = 1024


@dataclass(frozen=True)
class Showing:
    """How many demonstrations stand before a request, how they are chosen, and how answers are calibrated."""

    shots: int
    retriever: str
    calibration: str

    @classmethod
    def of(cls, session: Session, values: Mapping[str, str], retrievers: Sequence[str]) -> Showing:
        """As the parameters say: 8 at random without calibration by default.

        Raises ``Unsupported`` for an Encoder, a number of shots that is none, and a retriever that is not in ``retrievers``.
        """
        if session.model.architecture is Architecture.ENCODER:
            raise Unsupported(
                f"model '{session.spec.model.name}' is an Encoder, which reads no demonstrations: choose a Causal model"
            )
        shots, retriever = values.get("shots", "8"), values.get("retriever", "random")
        if not (shots.isascii() and shots.isdecimal()) or int(shots) > MOST_SHOTS:
            raise Unsupported(f"shots is '{shots}': write a whole number from 0 to {MOST_SHOTS}")
        if retriever not in retrievers:
            raise Unsupported(f"retriever is '{retriever}': write one of {', '.join(retrievers)}")
        return cls(int(shots), retriever, values.get("calibration", "none"))

    def evaluate(
        self, session: Session, model: LoadedModel, items: Sequence[Example], pool: Sequence[Example]
    ) -> Evaluation:
        """Scores of ``items``, each after its demonstrations from ``pool``; retrieval counts as work."""
        started, meter = time.monotonic(), Meter()
        shown = demonstrations(model, pool, items, self.shots, self.retriever, meter)
        return evaluate(model, session.spec.task, items, shown, self.calibration, meter=meter, started=started)
