"""The loop's parts: schedule, batches, fp32 masters, losses."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from orrery.probes.finetune.loop import Losses, MasterAdamW, batches, fit, rate_at
from orrery.probes.finetune.settings import Settings

pytestmark = pytest.mark.model


def test_every_pass_has_every_example_once_in_batches_of_like_length() -> None:
    settings = Settings(1e-3, 3, 8, 4, 50, seed=5)
    lengths = [(17 * i) % 40 + 1 for i in range(50)]
    sequence = list(batches(lengths, settings))
    assert len(sequence) == settings.steps
    assert sequence == list(batches(lengths, settings))
    each = len(sequence) // 3
    passes = [[i for batch in sequence[p * each : (p + 1) * each] for i in batch] for p in range(3)]
    assert all(sorted(p) == list(range(50)) for p in passes) and passes[0] != passes[1]
    padded = sum(len(b) * max(lengths[i] for i in b) for b in sequence)
    assert padded < 1.25 * 3 * sum(lengths)


def test_the_rate_warms_up_and_decays() -> None:
    rates = [rate_at(s, 100) for s in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 == rates[10]
    assert all(a >= b for a, b in itertools.pairwise(rates[10:])) and 0.1 <= rates[-1] < 0.11


def test_updates_too_small_for_bf16_are_not_lost() -> None:
    weight = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = MasterAdamW([([weight], 1e-4)], weight_decay=0.0)
    for _ in range(100):
        (weight.float().sum()).backward()
        optimizer.step(1.0)
    # Each update is 1e-4, and bf16's next number below 1 is 0.004 away: pure bf16 would still be at 1.
    assert torch.allclose(weight.float(), torch.full((4,), 0.99), atol=0.003)


def test_a_loss_that_is_not_finite_ends_training() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = MasterAdamW([([weight], 1e-3)], weight_decay=0.0)
    with pytest.raises(FloatingPointError, match="train loss is nan at step 2 of 3: take a lower learningRate"):
        fit([1.0, float("nan"), 1.0], 3, lambda x: (weight * x).sum(), optimizer)


def test_losses_are_reported_in_equal_shares() -> None:
    assert Losses([float(i) for i in range(32)]).shares()[:2] == [0.5, 2.5]
    assert Losses([1.0, 2.0]).shares() == [1.0, 2.0]
    assert Losses([]).shares() == []
