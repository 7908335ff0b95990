"""Measures in-context curves with BM25's demonstrations on tasks beyond the grids', near neighbours telling much or little.

    pip download --no-deps bigbench==1.0.0
    python -m tests.benchmarks.measure_retrieved --archive bigbench-1.0.0.tar.gz [--task TASK ...] [--seconds N]

On five of the six grids retrieval brings nothing, on the sixth everything; what tells the two apart cannot be learned from
one task. On these seven neighbours share their label in 42 to 97 % of cases. One is a builtin task, four are further files of
the same archive, and two are made of its files: of which language, or about which of four matters, a review's sentence is.

Results go to ``tests/benchmarks/measured/retrieved/curves.csv`` after every curve, and what is there is not measured again.
Model, scoring and retrieval are those of ``InContext``; at most 120 evaluation items, seed 0. Only the first two go on to
sixteen demonstrations, whose prompts cost four times the rest of the curve. 17 CPU-minutes.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orrery.api.models import Model
from orrery.api.probe import Fidelity, ProbeSpec, Trial
from orrery.api.task import Task
from orrery.probes.assets import task_rows
from orrery.probes.data import read_task
from orrery.probes.facts import task_facts
from orrery.probes.locations import SourceRoots, default_cache
from tests.benchmarks import tables

KEPT = Path(__file__).parent / "measured" / "retrieved" / "curves.csv"
#: Tasks that are made of the archive's files, read once.
MADE = default_cache() / "benchmarks" / "retrieved"
MODEL = "smollm2-135m-instruct"
ITEMS = 120
COLUMNS = ("task", "model", "shots", "score", "items", "chance", "train", "vote")
_MEMBERS = "bigbench-1.0.0/bigbench/benchmark_tasks/{}/task.json"

#: Builtin task: instruction, form of a request, shots.
BUILTIN: dict[str, tuple[str, str, tuple[int, ...]]] = {
    "multiemo/medicine_sentence_en": (
        "Name the sentiment of each sentence.",
        "Sentence: {input}\nSentiment:",
        (0, 1, 4),
    ),
}

#: Task made of the archive: instruction, form of a request, shots, and its files with the label of their rows (none: their
#: own), how many of each.
FURTHER: dict[str, tuple[str, str, tuple[int, ...], dict[str, str | None], int]] = {
    "review_language": (
        "Name the language of each sentence.",
        "Sentence: {input}\nLanguage:",
        (0, 1, 4, 16),
        {
            "multiemo/hotels_sentence_de": "German",
            "multiemo/hotels_sentence_es": "Spanish",
            "multiemo/hotels_sentence_fr": "French",
            "multiemo/hotels_sentence_it": "Italian",
            "multiemo/hotels_sentence_nl": "Dutch",
        },
        100,
    ),
    "review_matter": (
        "Say what each review is about.",
        "Review: {input}\nAbout:",
        (0, 1, 4, 16),
        {
            "multiemo/hotels_sentence_en": "hotel",
            "multiemo/medicine_sentence_en": "doctor",
            "multiemo/products_sentence_en": "product",
            "multiemo/reviews_sentence_en": "teacher",
        },
        200,
    ),
    "multiemo/medicine_text_en": (
        "Name the sentiment of each review.",
        "Review: {input}\nSentiment:",
        (0, 1, 4),
        {"multiemo/medicine_text_en": None},
        600,
    ),
    "question_typing": (
        "Name the kind of answer each question asks for.",
        "Question: {input}\nKind:",
        (0, 1, 4),
        {"natural_instructions/subtask046_miscellaenous_question_typing": None},
        1500,
    ),
    "navigate": ("Is each statement true?", "{input}\nAnswer:", (0, 1, 4), {"navigate": None}, 600),
    "hinglish_toxicity": (
        "Is each comment toxic?",
        "Comment: {input}\nToxic:",
        (0, 1, 4),
        {"hinglish_toxicity": None},
        200,
    ),
}

TASKS = (*FURTHER, *BUILTIN)


def task_of(name: str) -> Task:
    """The plan's part that asks this task."""
    made = name in FURTHER
    instruction, example = (FURTHER[name] if made else BUILTIN[name])[:2]
    source = {"local": {"path": _file(name).name}} if made else {"builtin": {"name": f"bigbench/{name}"}}
    return Task.model_validate(
        {
            "type": "Classification",
            "dataset": {"source": source},
            "template": {"instruction": instruction, "example": example},
        }
    )


def shots_of(name: str) -> tuple[int, ...]:
    """Demonstrations that the task is measured with."""
    return (FURTHER[name] if name in FURTHER else BUILTIN[name])[2]


def roots() -> SourceRoots:
    """Where the tasks' files are."""
    return SourceRoots.from_environment(local=MADE)


def _file(name: str) -> Path:
    return MADE / f"{name.replace('/', '.')}.jsonl"


def make(archive: Path | None) -> None:
    """Write the files of the tasks that are not builtin, where they are missing."""
    missing = [name for name in FURTHER if not _file(name).exists()]
    if not missing:
        return
    if archive is None:
        raise SystemExit(
            f"{len(missing)} tasks are to be made: give --archive, the file of pip download bigbench==1.0.0"
        )
    members = {_MEMBERS.format(m): m for name in missing for m in FURTHER[name][3]}
    rows: dict[str, list[dict[str, Any]]] = {}
    with tarfile.open(archive, "r|gz") as tar:
        for entry in tar:
            if entry.name in members:
                content = tar.extractfile(entry)
                assert content is not None  # a regular file
                rows[members[entry.name]] = list(task_rows(json.load(content)))
    MADE.mkdir(parents=True, exist_ok=True)
    for name in missing:
        with _file(name).open("w", encoding="utf-8") as out:
            for row in _chosen(rows, *FURTHER[name][3:]):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")


def _chosen(
    rows: dict[str, list[dict[str, Any]]], files: dict[str, str | None], number: int
) -> Iterator[dict[str, str]]:
    for place, (file, label) in enumerate(files.items()):
        # The files of several languages hold the same sentences: no two labels get the same stretch.
        begin = place * number
        for row in rows[file][begin : begin + number]:
            yield {"input": row["input"], "target": label or row["target"]}


def read() -> dict[str, dict[int, tuple[float, int]]]:
    """Curves measured so far: shots to (score, items)."""
    found: dict[str, dict[int, tuple[float, int]]] = {}
    if KEPT.exists():
        for row in tables.read_csv(KEPT)[1]:
            found.setdefault(row["task"], {})[int(row["shots"])] = (float(row["score"]), int(row["items"]))
    return found


def _write(curves: dict[str, dict[int, tuple[float, int]]]) -> None:
    rows: list[tuple[object, ...]] = []
    for name, points in sorted(curves.items()):
        task = task_of(name)
        facts = task_facts(task, read_task(task, roots()), neighbours=True)
        told = (facts.chance, facts.train_examples, facts.neighbour_vote)
        rows += [(name, MODEL, shots, f"{score:.5f}", items, *told) for shots, (score, items) in sorted(points.items())]
    tables.replace_csv(
        KEPT, "python -m tests.benchmarks.measure_retrieved --archive bigbench-1.0.0.tar.gz", COLUMNS, rows
    )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="bigbench-1.0.0.tar.gz, needed once")
    parser.add_argument("--task", action="append", choices=TASKS, help="default: all")
    parser.add_argument("--facts", action="store_true", help="measure nothing; bring the data's facts up to date")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no curve after this much CPU time")
    args = parser.parse_args()
    make(args.archive)
    if args.facts:
        _write(read())
        return

    from orrery.probes.evaluation import evaluate
    from orrery.probes.likelihood import Meter
    from orrery.probes.models import load
    from orrery.probes.retrieval import demonstrations, pool_of

    curves, loaded = read(), None
    model = Model.model_validate({"name": "m", "architecture": "Causal", "source": {"builtin": {"name": MODEL}}})
    for name in args.task or TASKS:
        begun = time.process_time()
        if name in curves or begun > args.seconds:
            continue
        asked = task_of(name)
        spec = ProbeSpec(
            model=model,
            task=asked,
            trials=[Trial(name="all", strategy="InContext", fidelity=Fidelity(evaluation_items=ITEMS))],
            accelerator="cpu",
            deadline_seconds=86400,
        )
        loaded = loaded or load(spec.model, roots())
        data = read_task(asked, roots())
        items, pool = data.evaluation[:ITEMS], pool_of(data.train, 0, 0)
        points = {}
        for shots in shots_of(name):
            shown = demonstrations(loaded, pool, items, shots, "bm25", Meter())
            scores = evaluate(loaded, asked, items, shown).scores
            points[shots] = (float(scores.mean()), len(items))
        curves[name] = points
        _write(curves)
        said = " ".join(f"{k}: {score:.3f}" for k, (score, _) in points.items())
        print(f"{name} {said}, {time.process_time() - begun:.0f} CPU-seconds", flush=True)


if __name__ == "__main__":
    main()
