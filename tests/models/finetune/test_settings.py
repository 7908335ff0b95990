"""Parameters are parsed once, with sentences for what is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orrery.probes.finetune.settings import LEAST_STEPS, Settings, parse_settings
from orrery.probes.session import Unsupported

from .tiny import trial

pytestmark = pytest.mark.model


def test_fidelity_wins_over_the_share_and_neither_passes_what_there_is() -> None:
    assert parse_settings(trial("LoRA", 0, dataPercent="25"), 101, "1e-3").examples == 25
    assert parse_settings(trial("LoRA", 8, dataPercent="25"), 101, "1e-3").examples == 8
    assert parse_settings(trial("LoRA", 500), 101, "1e-3").examples == 101
    assert parse_settings(trial("LoRA", 0, dataPercent="0.01"), 101, "1e-3").examples == 1


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("learningRate", "nan", "learningRate is 'nan': write a number above 0"),
        ("learningRate", "fast", "such as '2e-4'"),
        ("epochs", "0", "epochs is '0': write a whole number from 1"),
        ("rank", "1.5", "rank is '1.5': write a whole number"),
        ("batchSize", "²", "batchSize is '²'"),
        ("dataPercent", "101", "at most 100"),
        ("epoch", "3", "epoch is unknown to LoRA: write one of batchSize, dataPercent, epochs"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_to_write(name: str, value: str, sentence: str) -> None:
    with pytest.raises(Unsupported, match=sentence.replace("'", ".")):
        parse_settings(trial("LoRA", **{name: value}), 100, "1e-3")


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 20), st.integers(1, 64))
def test_tiny_subsets_still_get_enough_updates(examples: int, epochs: int, batch: int) -> None:
    s = Settings(1e-3, epochs, 8, batch, examples, 0)
    assert s.steps >= LEAST_STEPS
    assert 1 <= s.batch <= min(batch, examples)
    # No pass is added while smaller batches would do.
    assert s.passes == epochs or s.batch == 1
