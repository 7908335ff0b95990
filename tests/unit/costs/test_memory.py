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
    activation_bytes,
    adapter_parameters,
    frozen_bytes,
    gated,
    kv_cache_bytes,
    memory_sd,
    process_memory,
    scoring_memory,
    training_memory,
)
from tests.unit.costs.facts import LLAMA_8B, MIXTRAL

pytestmark = pytest.mark.unit

GIB = 2**30
#: torchtune's single-GPU recipes: chunked loss; full fine-tuning updates each weight in its own backward pass with paged
#: 8-bit states on the host, so that weights and one gradient (the largest, of the embeddings) are on the card.
_CHUNKED = {"logits_bytes": 6.0, "logits_share": 1 / 8}
_EMBEDDING_GRADIENT = 2 * 128_256 * 4096 / 8_030_261_248
PUBLISHED = {
    # (what is trained, recipe): GiB on a 4090 or A6000, batch 2 x 2,048 tokens (README of torchtune 0.4.0)
    "full, 4090": (
        Training.FULL,
        Recipe(state=2, gradient=_EMBEDDING_GRADIENT, step=0, checkpointing=True, **_CHUNKED),
        18.9,
    ),
    "LoRA, 4090": (Training.ADAPTER, Recipe(checkpointing=True, **_CHUNKED), 16.2),
    "QLoRA, 4090": (Training.QUANTIZED_ADAPTER, Recipe(checkpointing=True, **_CHUNKED), 7.4),
    "LoRA, A6000, no checkpointing": (Training.ADAPTER, Recipe(**_CHUNKED), 30.3),
}


LLAMA_3B = ModelFacts(
    parameters=3_212_749_824,
    active_parameters=3_212_749_824,
    layers=28,
    hidden_size=3072,
    heads=24,
    kv_heads=8,
    intermediate_size=8192,
    vocabulary_size=128_256,
)
#: Everything in 16 bits, both moments too.
_BF16 = {"state": 6.0, "gradient": 2.0, "step": 0.0}
_ONE_GRADIENT = {**_BF16, "gradient": 2 * 128_256 * 3072 / 3_212_749_824}
STEP_BY_STEP = {
    # GiB on an A100, Llama-3.2-3B, batch 2 x 4,096 packed tokens, each option beside those before (README of torchtune 0.6.1)
    "compiled": (Training.FULL, Recipe(**_BF16), 51.0),
    "chunked loss": (Training.FULL, Recipe(**_BF16, **_CHUNKED), 42.9),
    "checkpointing": (Training.FULL, Recipe(**_BF16, **_CHUNKED, checkpointing=True), 24.9),
    "optimizer in the backward pass": (Training.FULL, Recipe(**_ONE_GRADIENT, **_CHUNKED, checkpointing=True), 23.1),
    "LoRA": (Training.ADAPTER, Recipe(**_CHUNKED, checkpointing=True), 8.5),
    "QLoRA": (Training.QUANTIZED_ADAPTER, Recipe(**_CHUNKED, checkpointing=True), 4.6),
}


def _trained(training: Training, facts: ModelFacts = LLAMA_8B) -> float:
    return float(facts.parameters) if training is Training.FULL else float(adapter_parameters(facts, 8))


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchtune_peaks_are_met_within_ten_percent(name):
    training, recipe, published = PUBLISHED[name]
    gib = float(training_memory(LLAMA_8B, training, _trained(training), 2, 2048, recipe)) / GIB
    assert gib == pytest.approx(published, rel=0.10)


@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_each_of_torchtunes_options_takes_what_it_is_published_to_take(name):
    training, recipe, published = STEP_BY_STEP[name]
    gib = float(training_memory(LLAMA_3B, training, _trained(training, LLAMA_3B), 2, 4096, recipe)) / GIB
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


def test_a_token_leaves_the_activations_of_the_experts_it_is_sent_to():
    one = MIXTRAL.model_copy(update={"experts": None, "active_parameters": None})
    both = float(activation_bytes(MIXTRAL, 1, 128) / activation_bytes(one, 1, 128))
    assert both == pytest.approx((12 * 4096 + 4 * 1024 + 12 * 14336) / (12 * 4096 + 4 * 1024 + 6 * 14336), rel=0.02)


def test_experts_are_neither_quantised_nor_adapted():
    # transformers 5 holds a layer's experts as one tensor: what bitsandbytes and peft know are its attention's layers
    attention = 32 * 2 * 4096 * (4096 + 1024)
    sixteen = 2 * (MIXTRAL.parameters - attention)
    assert frozen_bytes(MIXTRAL, Training.QUANTIZED_ADAPTER) == pytest.approx(sixteen + 0.516 * attention)
    assert float(adapter_parameters(MIXTRAL, 8)) == 8 * 32 * (2 * 2 * 4096 + 2 * (4096 + 1024))
    assert gated(MIXTRAL)
