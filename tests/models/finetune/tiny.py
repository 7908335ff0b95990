"""A causal model and an encoder of a few thousand random weights, with a word tokenizer made on the spot."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from orrery.api.models import Architecture, Model, ModelFacts
from orrery.api.probe import Fidelity, Method, Parameter, ProbeSpec, Trial
from orrery.api.quantities import Seconds
from orrery.api.task import Task, TaskType
from orrery.probes.session import Example, LoadedModel, Session, TaskData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

torch.set_num_threads(1)  # two threads on two shared cores wait for each other
COLOURS = ("red", "green", "blue")
NOISE = tuple(f"word{i}" for i in range(24))


def tokenizer(encoder: bool) -> PreTrainedTokenizerFast:
    # here and below when called: every process that collects tests would import it for seconds, and one runs these
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "</s>", "Input:", "Answer:", *COLOURS, *(f"a-{c}" for c in COLOURS), *NOISE]
    raw = Tokenizer(WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = WhitespaceSplit()
    if encoder:
        raw.post_processor = TemplateProcessing(single="[UNK] $A </s>", special_tokens=[("[UNK]", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", eos_token="</s>", model_max_length=128
    )


def examples(n: int, start: int = 0) -> tuple[Example, ...]:
    """Requests whose colour decides the answer, among words that do not."""
    labels = tuple(f"a-{c}" for c in COLOURS)
    made = []
    for i in range(start, start + n):
        rng = random.Random(i)
        words = rng.sample(NOISE, 2 + i % 4)
        words.insert(rng.randrange(len(words) + 1), COLOURS[i % 3])
        made.append(Example(" ".join(words), labels[i % 3], labels))
    return tuple(made)


def session(
    architecture: Architecture, dtype: torch.dtype = torch.float32, kind: TaskType = TaskType.CLASSIFICATION
) -> Session:
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    encoder = architecture is Architecture.ENCODER
    words = tokenizer(encoder)
    state: dict[str, torch.nn.Module] = {}

    def build() -> torch.nn.Module:
        torch.manual_seed(0)
        if encoder:
            config = BertConfig(
                vocab_size=len(words),
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=64,
            )
            return BertModel(config).to(dtype).eval()
        llama = LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=64,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
        return LlamaForCausalLM(llama).to(dtype).eval()

    state["module"] = build()
    facts = ModelFacts(
        parameters=sum(p.numel() for p in state["module"].parameters()),
        layers=2,
        hidden_size=32,
        heads=4,
        kv_heads=4 if encoder else 2,
        vocabulary_size=len(words),
        context_length=64,
    )
    loaded = LoadedModel(
        state["module"], words, architecture, facts, torch.device("cpu"), dtype, Seconds(0.0), "nowhere", lambda: None
    )

    def fresh() -> None:
        loaded.module = build()

    loaded.fresh = fresh
    data = TaskData(examples(60), examples(30, start=60), tuple(f"a-{c}" for c in COLOURS), "digest")
    spec = ProbeSpec(
        model=Model.model_validate({"name": "tiny", "source": {"local": {"path": "nowhere"}}, "facts": facts}),
        task=Task.model_validate({"type": kind.value, "dataset": {"source": {"local": {"path": "nowhere"}}}}),
        trials=[trial("LoRA")],
        accelerator="cpu",
        deadline_seconds=60,
    )
    return Session(spec, data, loaded)


def trial(
    strategy: str, examples: int = 30, seed: int = 0, method: Method = Method.DIRECT, items: int = 30, **parameters: str
) -> Trial:
    return Trial(
        name="t",
        strategy=strategy,
        parameters=[Parameter(name=k, value=v) for k, v in parameters.items()],
        fidelity=Fidelity(method=method, training_examples=examples, evaluation_items=items),
        seed=seed,
    )
