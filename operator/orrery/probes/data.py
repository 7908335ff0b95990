"""Read a task's examples, check them, divide and order them; needs neither torch nor pandas.

The order is that of a hash of each example's text. It depends on nothing but the example: not on the file's order, on
the split's size or on a random generator's version. So the first N evaluation items are a random sample of them, two
probes compare on the same items, and a row added later leaves the others where they are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from orrery.api.catalogue import builtin_task
from orrery.api.sources import DataSource
from orrery.api.task import Task, TaskType
from orrery.probes.assets import task_path
from orrery.probes.errors import DataError, ProbeError
from orrery.probes.locations import SourceRoots
from orrery.probes.session import Example, TaskData
from orrery.probes.tables import Row, read_rows, read_splits

MAX_LABELS = 1000


def read_task(task: Task, roots: SourceRoots | None = None) -> TaskData:
    """The examples of a task: training and evaluation items, labels and digest.

    Raises ``DataError`` whose message names the column, split, row or path, what was found and what to write.
    """
    roots = roots or SourceRoots.from_environment()
    try:
        splits, commit = _rows(task.dataset.source, roots, task.type)
    except DataError:
        raise
    except ProbeError as error:
        raise DataError(error.reason, f"task.dataset.source.{error}") from error
    train_rows, evaluation_rows = _choose(task, splits)
    train = _examples(task, train_rows, "train" if evaluation_rows is not None else "data")
    if evaluation_rows is None:
        labelled = task.type is TaskType.CLASSIFICATION
        train, evaluation = _divide(train, task.dataset.splits.evaluation_percent, labelled)
    else:
        train, evaluation = _ordered(train), _ordered(_examples(task, evaluation_rows, "evaluation"))
    if not train or not evaluation:
        raise DataError(
            "EmptySplit",
            f"task.dataset has {len(train)} training and {len(evaluation)} evaluation examples, and both need at least "
            "one: add examples of every label",
        )
    labels = _labels(train, evaluation) if task.type is TaskType.CLASSIFICATION else ()
    if labels:
        train, evaluation = ([Example(e.input, e.target, labels) for e in part] for part in (train, evaluation))
    return TaskData(tuple(train), tuple(evaluation), labels, _digest(train, evaluation), commit)


def _rows(source: DataSource, roots: SourceRoots, kind: TaskType) -> tuple[dict[str, list[Row]], str | None]:
    if source.hugging_face is not None:
        from orrery.probes.hub import read_dataset

        return read_dataset(source.hugging_face)
    if source.builtin is not None:
        try:
            entry = builtin_task(source.builtin.name)
        except ValueError as error:
            raise DataError("UnknownAsset", f"task.dataset.source.{error}") from None
        if kind is not entry.type and kind is not TaskType.GENERATION:
            raise DataError(
                "InvalidTarget", f"task.type is {kind}, but '{entry.name}' is a {entry.type} task: write {entry.type}"
            )
        return {"data": read_rows(task_path(entry, roots.cache))}, None
    if source.pvc is not None:
        path = roots.of_claim(source.pvc)
    elif source.config_map is not None:
        path = roots.of_config_map(source.config_map)
    else:
        assert source.local is not None  # exactly one source is given
        path = roots.of_local(source.local)
    return _files(path), None


def _files(path: Path) -> dict[str, list[Row]]:
    if path.is_dir():
        return {name: [row for f in files for row in read_rows(f)] for name, files in read_splits(path).items()}
    return {path.stem: read_rows(path)}


def _choose(task: Task, splits: dict[str, list[Row]]) -> tuple[list[Row], list[Row] | None]:
    """Rows of the training and of the evaluation split; none for the latter when the source is to be divided."""
    names, wanted = ", ".join(splits), task.dataset.splits
    for name, rows in splits.items():
        if not rows and (len(splits) == 1 or name in (wanted.train, wanted.evaluation)):
            raise DataError("EmptySplit", f"the split '{name}' of task.dataset has no rows: put examples into it")
    if len(splits) == 1:
        return next(iter(splits.values())), None
    if wanted.train == wanted.evaluation:
        raise DataError(
            "MissingSplit",
            f"task.dataset.splits.train and .evaluation are both '{wanted.train}': write two of {names}",
        )
    for field, name in (("train", wanted.train), ("evaluation", wanted.evaluation)):
        if name not in splits:
            raise DataError("MissingSplit", f"task.dataset.splits.{field} is '{name}': write one of {names}")
    return splits[wanted.train], splits[wanted.evaluation]


def _examples(task: Task, rows: Sequence[Row], split: str) -> list[Example]:
    builtin = task.dataset.source.builtin is not None
    columns = task.dataset.columns
    # Builtin tasks are stored under these names; a plan's column names would only ever break them.
    names = ("input", "target", "options") if builtin else (columns.input, columns.target, columns.options)
    input_column, target_column = names[0], names[1]
    options_column = names[2] if task.type is TaskType.MULTIPLE_CHOICE else None
    present = {key for row in rows for key in row}
    for field, name in (("input", input_column), ("target", target_column), ("options", options_column)):
        if name is not None and name not in present:
            raise DataError(
                "MissingColumn",
                f"task.dataset.columns.{field} is '{name}', and the {split} split has {', '.join(sorted(present))}: "
                "write one of those",
            )
    examples = []
    for number, row in enumerate(rows, 1):
        where = f"row {number} of the {split} split"
        text = _text(row.get(input_column), where, input_column, "InvalidInput")
        raw = row.get(target_column)
        if options_column is not None:
            options = _options(row.get(options_column), where, options_column)
            examples.append(Example(text, _choice(raw, options, where, target_column), options))
            continue
        if task.type is TaskType.GENERATION and isinstance(raw, list) and raw:
            answers = tuple(_text(value, where, target_column, "InvalidTarget") for value in raw)
        else:
            answers = (_text(raw, where, target_column, "InvalidTarget"),)
        stored = row.get("references") or () if builtin else ()
        examples.append(Example(text, answers[0], references=answers[1:] + tuple(map(str, stored))))
    return examples


def _text(value: Any, where: str, column: str, reason: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(reason, f"{where} has {value} in column '{column}': write a text or drop the row")
    if isinstance(value, (dict, list)):
        raise DataError(reason, f"{where} has a {type(value).__name__} in column '{column}': write a text")
    text = "" if value is None else str(value).strip()
    if not text:
        raise DataError(reason, f"{where} has nothing in column '{column}': write a text or drop the row")
    return text


def _options(value: Any, where: str, column: str) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise DataError(
                "InvalidOptions", f"{where} has {value[:40]!r} in column '{column}': write a JSON list of options"
            ) from None
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # the form of ARC and OpenBookQA on the hub
        value = value["text"]
    if not isinstance(value, list):
        raise DataError("InvalidOptions", f"{where} has no list in column '{column}': write a list of options")
    options = tuple(_text(option, where, column, "InvalidOptions") for option in value)
    if len(options) < 2 or len(set(options)) < len(options):
        raise DataError("InvalidOptions", f"{where} has the options {list(options)}: write at least two distinct ones")
    return options


def _choice(value: Any, options: tuple[str, ...], where: str, column: str) -> str:
    text = _text(value, where, column, "InvalidTarget")
    if text in options:
        return text
    if isinstance(value, int) and 0 <= value < len(options):
        return options[value]
    raise DataError(
        "InvalidTarget",
        f"{where} has the target '{text[:60]}', which is none of its options: write an option or its index from 0",
    )


def _hash(example: Example) -> bytes:
    return hashlib.sha256(f"orrery\0{example.input}\0{example.target}".encode("utf-8", "surrogatepass")).digest()


def _ordered(examples: Iterable[Example]) -> list[Example]:
    return sorted(examples, key=_hash)


def _divide(examples: list[Example], evaluation_percent: int, labelled: bool) -> tuple[list[Example], list[Example]]:
    """Training and evaluation part. Equal inputs stay together; if ``labelled``, each label is seen in training."""
    groups: dict[str, list[Example]] = {}
    for example in _ordered(examples):
        groups.setdefault(example.input, []).append(example)
    wanted = max(1, round(len(examples) * evaluation_percent / 100))
    train: list[Example] = []
    evaluation: list[Example] = []
    seen: set[str] = set()
    for group in groups.values():
        unseen = labelled and not {e.target for e in group} <= seen
        (train if unseen or len(evaluation) + len(group) > wanted else evaluation).extend(group)
        seen.update(e.target for e in group)
    return train, evaluation


def _labels(train: Sequence[Example], evaluation: Sequence[Example]) -> tuple[str, ...]:
    labels = sorted({e.target for e in train})
    if len(labels) > MAX_LABELS or (len(train) >= 20 and len(labels) > len(train) // 2):
        raise DataError(
            "TooManyLabels",
            f"task.type is Classification, and {len(train)} training targets have {len(labels)} different values: "
            "write Generation or MultipleChoice",
        )
    unseen = sorted({e.target for e in evaluation} - set(labels))
    if unseen:
        raise DataError(
            "UnseenLabel",
            f"the evaluation split of task.dataset has the label '{unseen[0]}'"
            + (f" and {len(unseen) - 1} more" if len(unseen) > 1 else "")
            + ", which no training example has: add examples of it to the training split, or write one of "
            f"{', '.join(labels[:8])}",
        )
    if len(labels) < 2:
        raise DataError(
            "InvalidTarget", f"every training target is '{labels[0]}': a Classification task needs two labels or more"
        )
    return tuple(labels)


def _digest(train: Sequence[Example], evaluation: Sequence[Example]) -> str:
    state = hashlib.sha256()
    for name, part in (("train", train), ("evaluation", evaluation)):
        for example in part:
            row = [name, example.input, example.target, example.options, example.references]
            state.update(json.dumps(row, ensure_ascii=True).encode() + b"\n")
    return state.hexdigest()
