"""Fine-tuning the real MiniLM and SmolLM2-135M on a few utterances, several trials from one load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from orrery.api.catalogue import MODELS
from orrery.api.probe import Fidelity, Method, Outcome, Parameter, ProbeSpec, Trial, TrialResult
from orrery.probes.data import read_task
from orrery.probes.models import fingerprint, load
from orrery.probes.runner import measure_trial, measures
from orrery.probes.session import Session

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]


def trial(strategy: str, examples: int, items: int, method: Method = Method.DIRECT, **parameters: str) -> Trial:
    return Trial(
        name="t",
        strategy=strategy,
        parameters=[Parameter(name=k, value=v) for k, v in parameters.items()],
        fidelity=Fidelity(method=method, training_examples=examples, evaluation_items=items),
    )


def open_session(model: str) -> Session:
    document: dict[str, Any] = {
        "model": {"name": "m", "architecture": MODELS[model].architecture, "source": {"builtin": {"name": model}}},
        "task": {"type": "Classification", "dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}}},
        "accelerator": "cpu",
        "deadlineSeconds": 300,
        "trials": [trial("LoRA", 1, 1).to_wire()],
    }
    spec = ProbeSpec.model_validate(document)
    return Session(spec, read_task(spec.task), load(spec.model))


@pytest.fixture(scope="module")
def minilm(builtin_assets: None) -> Iterator[Session]:
    yield open_session("all-minilm-l6-v2")


def measured(session: Session, asked: Trial) -> TrialResult:
    result = measure_trial(session, asked, measures())
    assert result.outcome is Outcome.MEASURED, result.message
    return result


def test_minilm_learns_from_more_examples_and_the_proxy_tells_beforehand(minilm: Session) -> None:
    mark = fingerprint(minilm.model.module)
    few, more = (measured(minilm, trial("LoRA", n, 200, epochs="1", learningRate="1e-3")) for n in (16, 64))
    proxies = [measured(minilm, trial("LoRA", n, 200, Method.PROXY, epochs="1", learningRate="1e-3")) for n in (16, 64)]
    assert few.score is not None and more.score is not None and few.score > 0.5 and more.score > few.score
    for real, proxy in zip((few, more), proxies, strict=True):
        assert real.score is not None and proxy.score is not None and abs(real.score - proxy.score) < 0.15
    assert proxies[1].evaluation_tokens == 0 < proxies[0].evaluation_tokens, "one pass for both"
    assert fingerprint(minilm.model.module) == mark


def test_minilm_is_tuned_in_four_bits_and_in_full_from_the_same_load(minilm: Session) -> None:
    pytest.importorskip("bitsandbytes")
    four = measured(minilm, trial("QLoRA", 28, 50, epochs="1"))
    assert four.score is not None and four.score > 0.5
    full = measured(minilm, trial("FullFineTuning", 28, 50, epochs="1", learningRate="1e-4"))
    again = measured(minilm, trial("QLoRA", 28, 50, epochs="1"))
    assert full.score is not None and full.score > 0.5
    assert again.bits == four.bits, "what was tuned in between has left nothing behind"


def test_smollm2_learns_and_is_as_it_was() -> None:
    session = open_session("smollm2-135m-instruct")
    mark = fingerprint(session.model.module)
    untuned = measured(session, trial("ZeroShot", 0, 24))
    tuned = measured(session, trial("LoRA", 14, 24, epochs="2", learningRate="2e-3"))
    assert tuned.train_loss[0] > 2 * tuned.train_loss[-1]
    assert tuned.score is not None and untuned.score is not None and tuned.score > untuned.score
    assert fingerprint(session.model.module) == mark
    assert measured(session, trial("ZeroShot", 0, 24)).bits == untuned.bits
