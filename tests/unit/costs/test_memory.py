"""Memory: torchtune's published peaks, and what must hold whatever the sizes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.api.models import ModelFacts
from orrery.costs.flops import Training
from orrery.costs.memory import (
    ADAM,
    Recipe,
    adapter_parameters,
    frozen_bytes,
    gated,
    kv_cache_bytes,
    memory_sd,
    process_memory,
    scoring_memory,
    training_memory,
)

pytestmark = pytest.mark.unit

LLAMA_8B = ModelFacts(
    parameters=8_030_261_248,
    layers=32,
    hidden_size=4096,
    heads=32,
    kv_heads=8,
    intermediate_size=14336,
    vocabulary_size=128_256,
)
GIB = 2**30
#: torchtune's single-GPU recipes: chunked loss; full fine-tuning updates each weight in its own backward pass with paged
#: 8-bit states on the host, so that weights and one gradient (the largest, of the embeddings) are on the card.
_CHUNKED = {"logits_bytes": 6.0, "logits_share": 1 / 8}
_EMBEDDING_GRADIENT = 2 * 128_256 * 4096 / 8_030_261_248
PUBLISHED = {
    # (what is trained, recipe): GiB on a 4090 or A6000, batch 2 x 2,048 tokens (torchtune 0.3, README)
    "full, 4090": (
        Training.FULL,
        Recipe(state=2, gradient=_EMBEDDING_GRADIENT, step=0, checkpointing=True, **_CHUNKED),
        18.9,
    ),
    "LoRA, 4090": (Training.ADAPTER, Recipe(checkpointing=True, **_CHUNKED), 16.2),
    "QLoRA, 4090": (Training.QUANTIZED_ADAPTER, Recipe(checkpointing=True, **_CHUNKED), 7.4),
    "LoRA, A6000, no checkpointing": (Training.ADAPTER, Recipe(**_CHUNKED), 30.3),
}


def _trained(training: Training) -> float:
    return float(LLAMA_8B.parameters) if training is Training.FULL else float(adapter_parameters(LLAMA_8B, 8))


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchtune_peaks_are_met_within_ten_percent(name):
    training, recipe, published = PUBLISHED[name]
    gib = float(training_memory(LLAMA_8B, training, _trained(training), 2, 2048, recipe)) / GIB
    assert gib == pytest.approx(published, rel=0.10)


def test_llama_8b_on_a_24_gib_card_fits_as_qlora_and_lora_but_not_with_full_adam_states():
    recipe = Recipe(checkpointing=True)
    gib = {t: float(training_memory(LLAMA_8B, t, _trained(t), 2, 2048, recipe)) / GIB for t in Training}
    assert gib[Training.QUANTIZED_ADAPTER] < gib[Training.ADAPTER] < 24 < 100 < gib[Training.FULL]


def test_adam_takes_sixteen_bytes_and_four_more_in_its_step():
    flat = ModelFacts(parameters=10**9, layers=1, hidden_size=64)
    assert float(training_memory(flat, Training.FULL, 10**9, 1, 1)) == pytest.approx(18e9, rel=1e-3)
    assert float(training_memory(flat, Training.FULL, 10**9, 1, 1, Recipe(step=0.0))) == pytest.approx(16e9, rel=1e-3)


def test_four_bits_leave_the_embeddings_in_sixteen():
    assert frozen_bytes(LLAMA_8B, Training.QUANTIZED_ADAPTER) / GIB == pytest.approx(4.6, abs=0.1)
    assert frozen_bytes(LLAMA_8B, Training.ADAPTER) == 2 * LLAMA_8B.parameters
    assert frozen_bytes(LLAMA_8B, Training.FULL) == 0


@settings(max_examples=40)
@given(
    st.integers(10**6, 10**11),
    st.integers(1, 64),
    st.integers(1, 4096),
    st.sampled_from(list(Training)),
    st.booleans(),
)
def test_memory_is_positive_and_grows_with_everything(parameters, batch, length, training, checkpointing):
    facts, recipe = ModelFacts(parameters=parameters), Recipe(checkpointing=checkpointing)
    few, more = training_memory(facts, training, parameters / 100, np.array([batch, batch + 1]), length, recipe)
    assert 0 < few <= more
    assert float(training_memory(facts, training, parameters / 100, batch, length + 1, recipe)) >= few
    if not checkpointing:
        kept = Recipe(checkpointing=True)
        deep = facts.model_copy(update={"layers": 32})
        args = (deep, training, 0.0, batch, length)
        assert float(training_memory(*args, kept)) <= float(training_memory(*args, ADAM))


def test_a_guess_is_wider_than_a_formula():
    assert memory_sd(ModelFacts(parameters=10**9)) > 3 * memory_sd(LLAMA_8B)


def test_a_process_holds_more_than_its_tensors():
    small = ModelFacts(parameters=134_515_008, layers=30, hidden_size=576, heads=9, kv_heads=3, vocabulary_size=49_152)
    full = float(process_memory(small, Training.FULL, small.parameters, 16, 60)) / GIB
    assert full > float(training_memory(small, Training.FULL, small.parameters, 16, 60)) / GIB + 0.4
    assert float(process_memory(small, None)) < float(process_memory(small, Training.ADAPTER, 1e6, 1, 32))


def test_scoring_grows_with_options_until_the_logits_are_held_in_parts_and_with_every_rows_prefix():
    small = ModelFacts(parameters=134_515_008, layers=30, hidden_size=576, heads=9, kv_heads=3, vocabulary_size=49_152)
    few, many, most = (scoring_memory(small, 40, n, 18) for n in (1, 10, 40))
    assert few < many < most
    assert most < 10 * 2**25 + float(kv_cache_bytes(small, 2000))
    assert scoring_memory(small, 300, 1, 270) > 3 * scoring_memory(small, 40, 1, 10)
    assert float(process_memory(small, None, scoring=most)) - float(process_memory(small, None)) == pytest.approx(most)


@pytest.mark.parametrize(
    ("matrices", "expected"),
    [(2, False), (3, True)],
)
def test_a_gated_feed_forward_network_is_told_by_the_parameters_it_leaves(matrices, expected):
    d, ff, layers, vocabulary = 512, 2048, 8, 32_000
    parameters = vocabulary * d + layers * (4 * d * d + matrices * d * ff)
    facts = ModelFacts(
        parameters=parameters, layers=layers, hidden_size=d, heads=8, intermediate_size=ff, vocabulary_size=vocabulary
    )
    assert gated(facts) is expected
