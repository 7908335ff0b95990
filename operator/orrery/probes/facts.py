"""What a dataset is like: sizes, chance level and token counts. No torch: the shells use it without a tokenizer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from orrery.api.probe import TaskFacts
from orrery.api.task import MetricName, Task, TaskType
from orrery.probes.neighbours import neighbour_vote
from orrery.probes.prompts import answered, continuation, preamble, request
from orrery.probes.report import number
from orrery.probes.session import TaskData

#: Examples whose tokens are counted; means over 256 texts are within a few percent of the whole.
COUNTED = 256


def chance_level(task: Task, data: TaskData) -> float | None:
    """Score of the best constant answer on the evaluation items; none where no constant answer makes sense.

    Classification and Generation: the share of the commonest answer. MultipleChoice: the mean of 1 / options, since
    the order of options carries nothing. Token F1 and likelihoods have no such level.
    """
    items = data.evaluation
    if task.metric.name in (MetricName.NEGATIVE_LOG_LIKELIHOOD, MetricName.TOKEN_F1):
        return None
    if task.type is TaskType.MULTIPLE_CHOICE:
        return sum(1 / len(item.options) for item in items) / len(items)
    return Counter(item.target for item in items).most_common(1)[0][1] / len(items)


def task_facts(task: Task, data: TaskData, tokenizer: Any = None, *, neighbours: bool = False) -> TaskFacts:
    """Facts of the data; token counts only where a tokenizer is given (a Hugging Face one, or anything callable alike).

    ``neighbours`` asks for their vote too, which needs bm25s and classification: half a second at most, for probes.

    ``input_tokens`` is a request without demonstrations as causal models get it (instruction, example); one
    demonstration is ``example_tokens``, its answer and separator included.
    """
    chance = chance_level(task, data)
    vote = neighbour_vote(data.train) if neighbours and data.labels else None
    facts = TaskFacts(
        digest=data.digest,
        commit=data.commit,
        train_examples=len(data.train),
        evaluation_examples=len(data.evaluation),
        labels=len(data.labels),
        chance=None if chance is None else number(chance),
        neighbour_vote=None if vote is None else number(vote),
    )
    if tokenizer is None:
        return facts
    template = task.template
    instruction = preamble(template, ())
    items, demonstrations = data.evaluation[:COUNTED], data.train[:COUNTED]

    def mean(texts: list[str]) -> float:
        return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) / len(texts)

    return facts.model_copy(
        update={
            "input_tokens": number(mean([instruction + request(template, item) for item in items])),
            "example_tokens": number(mean([answered(template, d) + template.separator for d in demonstrations])),
            "output_tokens": number(mean([continuation(template, item.target) for item in items])),
        }
    )
