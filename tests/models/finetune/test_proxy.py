"""The proxy: one pass for all configurations, heads that learn, configurations that differ."""

from __future__ import annotations

import numpy as np
import pytest

from orrery.api.models import Architecture
from orrery.api.probe import Method, Outcome
from orrery.api.task import TaskType
from orrery.costs.flops import Training
from orrery.probes.finetune.features import features, request_text
from orrery.probes.finetune.logistic import fit_logistic, log_softmax
from orrery.probes.finetune.proxy import penalty
from orrery.probes.finetune.settings import parse_settings
from orrery.probes.models import fingerprint
from orrery.probes.runner import measure_trial, measures

from .tiny import session, trial

pytestmark = pytest.mark.model


@pytest.mark.parametrize("architecture", [Architecture.CAUSAL, Architecture.ENCODER])
def test_one_pass_serves_every_configuration(architecture: Architecture) -> None:
    s = session(architecture)
    mark = fingerprint(s.model.module)
    rates = ("1e-4", "1e-3", "1e-2")
    first, *others = [
        measure_trial(s, trial("LoRA", 45, method=Method.PROXY, learningRate=r), measures()) for r in rates
    ]
    assert first.outcome is Outcome.MEASURED, first.message
    assert first.score is not None and first.score > 0.6 and first.bits and first.items == 30
    assert first.train_tokens > 0 and first.evaluation_tokens > 0
    assert all((o.train_tokens, o.evaluation_tokens, o.train_flops) == (0, 0, 0) for o in others)
    more = measure_trial(s, trial("LoRA", 60, method=Method.PROXY), measures())
    assert 0 < more.train_tokens < first.train_tokens and more.evaluation_tokens == 0
    assert fingerprint(s.model.module) == mark


def test_the_metric_may_be_a_likelihood() -> None:
    s = session(Architecture.ENCODER)
    task = s.spec.task.model_copy(
        update={"metric": s.spec.task.metric.model_validate({"name": "NegativeLogLikelihood"})}
    )
    s.spec = s.spec.model_copy(update={"task": task})
    result = measure_trial(s, trial("FullFineTuning", 48, method=Method.PROXY), measures())
    assert result.score is not None and 0 < result.score < 1.1 and result.bits is None


def test_padding_changes_no_feature() -> None:
    for architecture in (Architecture.CAUSAL, Architecture.ENCODER):
        s = session(architecture)
        texts = [request_text(s, e.input) for e in s.data.train[:9]]
        together = features(s).of(texts)
        alone = np.concatenate([features(session(architecture)).of([t]) for t in texts[:3]])
        assert np.allclose(together[:3], alone, atol=1e-4)


def test_longer_training_is_a_weaker_penalty() -> None:
    def of(**parameters: str) -> float:
        return penalty(parse_settings(trial("LoRA", 60, **parameters), 60, "1e-3"), Training.ADAPTER)  # type: ignore[arg-type]

    assert of(learningRate="1e-3") == pytest.approx(of(learningRate="1e-4") / 10)
    assert of(epochs="12", batchSize="4") < of(epochs="6", batchSize="4")


def test_tasks_without_labels_are_refused_with_a_sentence() -> None:
    s = session(Architecture.CAUSAL, kind=TaskType.GENERATION)
    result = measure_trial(s, trial("LoRA", method=Method.PROXY), measures())
    assert result.outcome is Outcome.UNSUPPORTED and "write method Direct" in (result.message or "")


def test_logistic_regression_finds_the_optimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    y = (x @ rng.normal(size=(5, 3)) + rng.gumbel(size=(60, 3))).argmax(1)
    w, b = fit_logistic(x, y, 3, penalty=0.05, steps=500)

    def gradient() -> float:
        p = np.exp(log_softmax(x @ w.T + b))
        p[np.arange(60), y] -= 1
        return float(np.abs(p.T @ x / 60 + 0.05 * w).max())

    assert gradient() < 1e-3
    # More columns than examples: solved in the span of the examples, where the optimum lies.
    wide = rng.normal(size=(8, 40))
    w, b = fit_logistic(wide, np.arange(8) % 3, 3, penalty=0.01, steps=500)
    assert ((wide @ w.T + b).argmax(1) == np.arange(8) % 3).all()


def test_a_class_without_examples_is_not_chosen() -> None:
    rng = np.random.default_rng(1)
    w, b = fit_logistic(rng.normal(size=(20, 4)), np.arange(20) % 2, 3, penalty=1e-2)
    assert ((rng.normal(size=(50, 4)) @ w.T + b).argmax(1) < 2).all()
