"""Training a causal model: prompt and answer through the model, loss on the answer alone."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from orrery.api.task import Task, TaskType
from orrery.probes.prompts import continuation, preamble, request
from orrery.probes.session import Example, LoadedModel
from orrery.probes.tokenization import AnswerTokenizer


@dataclass(frozen=True)
class Encoded:
    """Token ids of one training example."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def encode(model: LoadedModel, task: Task, examples: Sequence[Example], limit: int) -> list[Encoded]:
    """Prompt and answer as they are scored, at most ``limit`` tokens together; a long prompt loses its beginning.

    A generated answer is trained to end, as a demonstration in a prompt would; an option is only compared, so it is not.
    """
    tokens = AnswerTokenizer(model.tokenizer)
    template = task.template
    end: list[int] = []
    if task.type is TaskType.GENERATION:
        closing = model.tokenizer.eos_token_id
        end = model.tokenizer("\n", add_special_tokens=False)["input_ids"] if closing is None else [closing]
    ends = [request(template, e) for e in examples]
    prompts = tokens.prompts([preamble(template, ()) + r for r in ends])
    encoded = []
    for example, asked, prompt in zip(examples, ends, prompts, strict=True):
        answer = (tokens.answer(asked, continuation(template, example.target)) + end)[: limit - 1]
        encoded.append(Encoded(prompt[-(limit - len(answer)) :], answer))
    return encoded


class AnswerLoss:
    """Mean negative log-likelihood of the answers' tokens given their prompts.

    Sequences are padded on the left, so that the answers end together and only the last positions, which predict them,
    go through the vocabulary projection (21 % of a 135M model's weights). Tokens are weighted alike within a batch.
    """

    def __init__(self, module: nn.Module, pad: int, device: torch.device) -> None:
        self._module, self._pad, self._device = module, pad, device
        self._keeps = "logits_to_keep" in inspect.signature(module.forward).parameters
        self.tokens = 0  #: real tokens that went through the model; padding is not counted

    def __call__(self, batch: Sequence[Encoded]) -> Tensor:
        """Scalar loss of a batch, with its graph."""
        logits, targets = self._answers(batch)
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)

    def log_likelihoods(self, batch: Sequence[Encoded]) -> Tensor:
        """Log-likelihood of each answer (batch,), summed over its tokens, with its graph."""
        logits, targets = self._answers(batch)
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
        return -losses.sum(1)

    def _answers(self, batch: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        """Logits (batch, positions, vocabulary) in fp32 and the answers' tokens there (batch, positions), -100 elsewhere."""
        longest = max(len(e) for e in batch)
        keep = max(len(e.answer) for e in batch) + 1
        ids = torch.full((len(batch), longest), self._pad)
        mask = torch.zeros((len(batch), longest), dtype=torch.long)
        labels = torch.full((len(batch), longest), -100)
        for row, e in enumerate(batch):
            ids[row, longest - len(e) :] = torch.tensor(e.prompt + e.answer)
            mask[row, longest - len(e) :] = 1
            labels[row, longest - len(e.answer) :] = torch.tensor(e.answer)
        self.tokens += int(mask.sum())
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        # Positions, not a count: the slice that a count makes is not contiguous, and torch's linear layer then copies
        # the whole vocabulary projection once for every sequence (more than half of a step's time on a CPU).
        kept = torch.arange(longest - keep, longest, device=self._device)
        extra = {"logits_to_keep": kept} if self._keeps else {}
        logits = self._module(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=positions.to(self._device),
            use_cache=False,
            **extra,
        ).logits[:, -keep:-1]
        return logits.float(), labels[:, -keep + 1 :].to(self._device)
