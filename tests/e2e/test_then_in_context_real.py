"""Demonstrations for a tuned model, on the real SmolLM2-135M: measured, left as it was, and read by the forecast."""

from __future__ import annotations

import pytest

from orrery.api.probe import Outcome
from orrery.probes.models import fingerprint
from tests.e2e.test_finetune_real import measured, open_session, trial

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]


def test_smollm2_is_tuned_and_then_shown_demonstrations(builtin_assets: None) -> None:
    session = open_session("smollm2-135m-instruct")
    mark = fingerprint(session.model.module)
    asked = trial(
        "FineTuneThenInContext",
        16,
        24,
        epochs="1",
        learningRate="1e-3",
        rank="8",
        shots="2",
        retriever="bm25",
    )
    result = measured(session, asked)
    plain = measured(session, trial("ZeroShot", 0, 24))
    assert result.outcome is Outcome.MEASURED and result.items == 24 and result.bits
    assert len(result.train_loss) == 16 and result.train_loss[-1] < result.train_loss[0]
    assert result.train_flops and result.evaluation_flops and plain.evaluation_flops
    assert result.request_tokens and plain.request_tokens and result.request_tokens > plain.request_tokens + 20
    assert result.score is not None and plain.score is not None and result.score > plain.score
    assert fingerprint(session.model.module) == mark, "the next trial finds the model as it was loaded"
