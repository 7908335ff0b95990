"""Training tiny models: they learn, repeat exactly, and leave the session's model as it was."""

from __future__ import annotations

import pytest
import torch

from orrery.api.models import Architecture
from orrery.api.probe import Outcome
from orrery.api.task import TaskType
from orrery.probes.finetune import adapters, direct
from orrery.probes.finetune.causal import AnswerLoss, Encoded
from orrery.probes.models import fingerprint
from orrery.probes.runner import measure_trial, measures

from .tiny import session, trial

pytestmark = pytest.mark.model

BOTH = [Architecture.CAUSAL, Architecture.ENCODER]
RATES = {"LoRA": "1e-2", "FullFineTuning": "3e-3"}


@pytest.mark.parametrize("architecture", BOTH)
@pytest.mark.parametrize("strategy", ["LoRA", "FullFineTuning"])
def test_training_learns_repeats_and_leaves_no_trace(architecture: Architecture, strategy: str) -> None:
    s = session(architecture)
    before = {k: v.clone() for k, v in s.model.module.state_dict().items()}
    mark = fingerprint(s.model.module)
    asked = trial(strategy, 48, epochs="5", learningRate=RATES[strategy], batchSize="10")
    first = measure_trial(s, asked, measures())
    assert first.outcome is Outcome.MEASURED, first.message
    assert first.score is not None and first.score > 0.8, first
    assert first.train_loss[0] > first.train_loss[-1] and len(first.train_loss) == 16
    assert first.items == 30 and first.train_tokens > 0 and first.train_flops and first.evaluation_flops
    if strategy == "LoRA":
        assert fingerprint(s.model.module) == mark
    after = s.model.module.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in before)
    again = measure_trial(s, asked, measures())
    assert (again.bits, again.train_loss, again.train_tokens) == (first.bits, first.train_loss, first.train_tokens)


def test_bf16_adapters_learn_too() -> None:
    s = session(Architecture.CAUSAL, torch.bfloat16)
    result = measure_trial(s, trial("LoRA", 48, epochs="5", learningRate="1e-2", batchSize="10"), measures())
    assert result.score is not None and result.score > 0.8


def test_loss_is_of_the_answers_tokens_alone() -> None:
    s = session(Architecture.CAUSAL)
    module = s.model.module
    batch = [Encoded([3, 11, 12, 5, 4], [8]), Encoded([3, 13, 4], [9, 2])]
    loss = AnswerLoss(module, 0, s.model.device)
    expected = []
    for e in batch:
        logits = module(input_ids=torch.tensor([e.prompt + e.answer])).logits[0]
        for i, token in enumerate(e.answer):
            expected.append(-torch.log_softmax(logits[len(e.prompt) - 1 + i], -1)[token])
    assert float(loss(batch)) == pytest.approx(float(torch.stack(expected).mean()), abs=1e-5)
    assert loss.tokens == 11


def test_merged_adapters_score_as_unmerged_ones() -> None:
    s = session(Architecture.CAUSAL)
    module = s.model.module
    ids = torch.tensor([[3, 11, 12, 5, 4]])
    plain = module(input_ids=ids).logits
    with adapters.lora(module, 4, 0) as parameters:
        with torch.no_grad():
            for p in parameters:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
        unmerged = module(input_ids=ids).logits
        with adapters.merged(module):
            assert torch.allclose(module(input_ids=ids).logits, unmerged, atol=1e-4)
        assert torch.equal(module(input_ids=ids).logits, unmerged)
        assert not torch.allclose(unmerged, plain, atol=1e-2)
    assert torch.equal(module(input_ids=ids).logits, plain)


def test_divergence_is_an_outcome_and_the_next_trial_is_untouched() -> None:
    s = session(Architecture.CAUSAL)
    good = trial("LoRA", 12, epochs="1", learningRate="1e-3")
    first = measure_trial(s, good, measures())
    with torch.no_grad():
        s.model.module.model.norm.weight.fill_(float("inf"))
    bad = measure_trial(s, good, measures())
    assert bad.outcome is Outcome.DIVERGED and "lower learningRate" in (bad.message or "")
    s.model.fresh()
    assert measure_trial(s, good, measures()).bits == first.bits


@pytest.mark.parametrize("strategy", ["LoRA", "FullFineTuning"])
def test_out_of_memory_in_training_leaves_the_session_usable(strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    s = session(Architecture.CAUSAL)
    good = trial(strategy, 12, epochs="1", learningRate="1e-3")
    first = measure_trial(s, good, measures())
    original, calls = direct.MasterAdamW.step, []

    def step(self: direct.MasterAdamW, share: float) -> None:
        calls.append(share)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        original(self, share)

    with monkeypatch.context() as patch:
        patch.setattr(direct.MasterAdamW, "step", step)
        assert measure_trial(s, good, measures()).outcome is Outcome.OUT_OF_MEMORY
    assert measure_trial(s, good, measures()).bits == first.bits


def test_encoders_answer_classification_only() -> None:
    s = session(Architecture.ENCODER, kind=TaskType.GENERATION)
    result = measure_trial(s, trial("LoRA"), measures())
    assert result.outcome is Outcome.UNSUPPORTED and "Classification tasks only" in (result.message or "")


def test_a_larger_rung_starts_with_the_smaller_ones_examples() -> None:
    s = session(Architecture.CAUSAL)
    small, large = (direct.subset(s, direct.parse_settings(trial("LoRA", n), 60, "1e-3")) for n in (7, 20))
    assert large[:7] == small
