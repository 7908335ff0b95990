"""Sizes from configs: published models, hostile files, and architectures that nobody has heard of."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orrery.costs.architecture import header_parameters, read_config, read_folder

pytestmark = pytest.mark.unit

CONFIGS = {
    # model: (config, published parameters in millions, those a token is multiplied with)
    "llama-3.1-8b": (
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 128256,
        },
        8030,
        8030 - 525,
    ),
    "smollm2-135m": (
        {
            "model_type": "llama",
            "hidden_size": 576,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "intermediate_size": 1536,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
        134.5,
        134.5,
    ),
    "mixtral-8x7b": (
        {
            "model_type": "mixtral",
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 32000,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        46703,
        12879 - 131,
    ),
    "gpt2": (
        {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
        124.4,
        124.4,
    ),
    "minilm-l6": (
        {
            "model_type": "bert",
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
        },
        22.7,
        22.7 - 11.7,
    ),
    "qwen3-30b-a3b": (
        {
            "model_type": "qwen3_moe",
            "hidden_size": 2048,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "vocab_size": 151936,
            "num_experts": 128,
            "num_experts_per_tok": 8,
        },
        30532,
        3345 - 311,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_published_models_have_their_published_sizes(name):
    config, millions, active = CONFIGS[name]
    reading = read_config(config)
    assert reading.problem is None
    assert reading.facts.parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert (reading.facts.active_parameters or reading.facts.parameters) / 1e6 == pytest.approx(active, rel=0.02)


def test_experts_are_read_from_the_config_and_none_where_none_are_routed():
    routed = [
        (f.experts, f.experts_per_token)
        for n in ("mixtral-8x7b", "qwen3-30b-a3b")
        if (f := read_config(CONFIGS[n][0]).facts)
    ]
    assert routed == [(8, 2), (128, 8)]
    assert read_config(CONFIGS["gpt2"][0]).facts.experts is None


def test_an_unknown_architecture_is_its_header_and_a_sentence():
    reading = read_config({"model_type": "heliograph", "hidden_size": 9, "depth": 3, "vocab_size": 100}, 70_000_000)
    assert reading.facts.parameters == 70_000_000
    assert reading.facts.layers is None and reading.facts.hidden_size is None
    assert "model_type 'heliograph' is not known" in reading.problem and "models[].facts" in reading.problem


def test_nothing_known_is_said_and_not_guessed():
    assert read_config({}).facts is None
    assert "not known" in read_config({"model_type": "mamba9"}).problem


def test_latent_attention_keeps_one_vector_a_token():
    config = CONFIGS["llama-3.1-8b"][0] | {"model_type": "deepseek_v3", "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    facts = read_config(config, 671_000_000_000).facts
    assert 2 * facts.kv_heads * facts.head_size == 576


def test_the_language_model_of_a_multimodal_one_is_read():
    config = {"model_type": "llava", "text_config": CONFIGS["smollm2-135m"][0]}
    assert read_config(config).facts.layers == 30


def _safetensors(path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)


def test_weights_in_several_files_are_counted_from_their_headers(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "heliograph"}))
    _safetensors(tmp_path / "model-1.safetensors", {"a": {"dtype": "BF16", "shape": [10, 20]}, "__metadata__": {}})
    _safetensors(tmp_path / "model-2.safetensors", {"b": {"dtype": "BF16", "shape": [7]}})
    assert read_folder(tmp_path).facts.parameters == 207


@pytest.mark.parametrize("data", [b"", b"\xff" * 16, b"\x02" + b"\0" * 7 + b"[]", b"\x05" + b"\0" * 7 + b'{"a":'])
def test_files_that_are_no_safetensors_count_nothing(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    assert header_parameters(tmp_path / "x.safetensors") == 0


_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**6), st.text(max_size=5), st.lists(st.integers()))
_NAMES = st.sampled_from(
    ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "num_experts", "num_experts_per_tok"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(_NAMES, _VALUES), st.sampled_from(["llama", "bert", "mixtral", "?", ""]))
def test_no_config_breaks_the_reader(config, kind):
    reading = read_config({**config, "model_type": kind})
    assert reading.facts is not None or reading.problem
