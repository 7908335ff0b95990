"""The first steps of a training, and how its loss falls: a ranking of configurations for a tenth of their price.

Train loss early in a run ranks configurations well (arXiv 2412.13337; ``laws.early``). The schedule is that of the whole
training, so that the steps are the very ones it would begin with; nothing is scored.
"""

from __future__ import annotations

from math import ceil

from orrery.api.probe import Outcome, Trial, TrialResult
from orrery.probes.finetune.direct import Kind, tuned
from orrery.probes.finetune.settings import parse_settings
from orrery.probes.session import Session, Unsupported

#: Checkpoints that are reported, at equal shares of the steps that were run: the last level, and what it fell from.
CHECKPOINTS = 2


def measure_early(session: Session, trial: Trial, kind: Kind) -> TrialResult:
    """Train ``fidelity.schedule_percent`` of the trial's steps; ``TrialResult.train_loss`` has ``CHECKPOINTS`` means, no score.

    Raises ``FloatingPointError`` when a loss is not finite (the frame records Diverged), and ``Unsupported``.
    """
    settings = parse_settings(trial, len(session.data.train), kind.learning_rate)
    percent = trial.fidelity.schedule_percent
    if percent is None:
        raise Unsupported("a trial of method Early says no schedulePercent: write 10 for a tenth of the steps")
    updates = max(CHECKPOINTS, ceil(settings.steps * percent / 100))
    with tuned(session, kind, settings, updates) as trained:
        return TrialResult(name=trial.name, outcome=Outcome.MEASURED, **trained.fields(CHECKPOINTS))
