"""Training, then demonstrations: parameters of both, no trace of either."""

from __future__ import annotations

import pytest

from orrery.api.models import Architecture
from orrery.api.probe import Outcome
from orrery.probes.models import fingerprint
from orrery.probes.runner import measure_trial
from orrery.strategies.fine_tune_then_in_context.measure import measure

from .tiny import session, trial

pytestmark = pytest.mark.model
STRATEGY = "FineTuneThenInContext"


def test_demonstrations_lengthen_the_tuned_models_prompt() -> None:
    s = session(Architecture.CAUSAL)
    mark = fingerprint(s.model.module)
    none, two = (
        measure_trial(s, trial(STRATEGY, 24, epochs="2", shots=k, retriever="bm25"), {STRATEGY: measure})
        for k in ("0", "2")
    )
    assert none.outcome is two.outcome is Outcome.MEASURED, (none.message, two.message)
    assert none.train_loss == two.train_loss and len(two.train_loss) > 1
    assert none.request_tokens and two.request_tokens and two.request_tokens > none.request_tokens + 5
    assert fingerprint(s.model.module) == mark


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("shots", "-1", "whole number from 0 to 1024"),
        ("retriever", "dense", "write one of random, bm25"),
        ("epoch", "1", "parameter epoch is unknown"),
    ],
)
def test_what_it_cannot_do_is_said(name: str, value: str, sentence: str) -> None:
    asked = trial(STRATEGY, **{name: value})  # type: ignore[arg-type]
    result = measure_trial(session(Architecture.CAUSAL), asked, {STRATEGY: measure})
    assert result.outcome is Outcome.UNSUPPORTED and sentence in (result.message or "")
