"""Measures the in-context curves that ``shots`` forecasts: builtin tasks, two models, 0 to 32 random demonstrations.

    python -m tests.benchmarks.measure_shots [--task TASK ...] [--model base|tuned ...] [--seconds N]

Results go to ``tests/benchmarks/measured/shots/curves.csv`` after every curve, and a curve that is there is not measured
again: a run that was ended goes on. ``--seconds`` ends a run before the first curve that would start later than that.

The two models are SmolLM2-135M-Instruct as it is, and the same model after LoRA (rank 8, one epoch, learning rate 1e-3) on
64 training examples of the task, from which its demonstrations are drawn too, as ``FineTuneThenInContext`` does. No second
small causal model comes from a package index, so the second one is not of another family.

A seed chooses the demonstrations (and, tuned, the 64 examples and the adapter's start). All curves of a task are scored on
the same evaluation items, by the likelihood of each option, as ``InContext`` does. Without demonstrations a seed changes nothing of
the untuned model: that score is measured once and stands in each seed's curve.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orrery.api.catalogue import builtin_task
from orrery.api.models import Model
from orrery.api.probe import Fidelity, Parameter, ProbeSpec, Trial
from orrery.api.task import Task
from orrery.probes.data import read_task
from orrery.probes.evaluation import evaluate
from orrery.probes.finetune.direct import LORA, tuned
from orrery.probes.finetune.settings import parse_settings
from orrery.probes.likelihood import Meter
from orrery.probes.locations import SourceRoots
from orrery.probes.models import load, seed_everything
from orrery.probes.retrieval import demonstrations, pool_of
from orrery.probes.session import Example, LoadedModel, Session
from tests.benchmarks import tables

KEPT = Path(__file__).parent / "measured" / "shots" / "curves.csv"
SHOTS = (0, 1, 2, 4, 8, 16, 32)
ITEMS = 120
TUNED_ON = 64
COLUMNS = ("task", "model", "seed", "shots", "score", "items", "chance")

BASE = "smollm2-135m-instruct"
#: Name in the table, and the seeds it is measured with.
MODELS = {"base": (BASE, (0, 1, 2)), "tuned": (f"{BASE}+lora{TUNED_ON}", (0, 1))}

#: Builtin task: instruction, and the form of a request.
TASKS: dict[str, tuple[str, str]] = {
    "intent_recognition": ("Name the intent of each utterance.", "Utterance: {input}\nIntent:"),
    "multiemo/reviews_sentence_en": ("Name the sentiment of each sentence.", "Sentence: {input}\nSentiment:"),
    "social_support": ("Say whether each reply is supportive.", "Reply: {input}\nTone:"),
    "sports_understanding": ("Is each sentence about sport plausible?", "Sentence: {input}\nIt is"),
    "goal_step_wikihow/goal_inference": ("Complete each sentence.", "{input}"),
    "metaphor_boolean": ("Does the second sentence say what the first one means?", "{input}\nAnswer:"),
    "ruin_names": ("", "{input}\nAnswer:"),
    "multiemo/medicine_sentence_en": ("Name the sentiment of each sentence.", "Sentence: {input}\nSentiment:"),
    "strategyqa": ("Answer each question with Yes or No.", "Question: {input}\nAnswer:"),
    "social_iqa": ("", "{input}\nAnswer:"),
    "implicatures": ("Does the answer mean yes or no?", "{input}\nMeaning:"),
    "movie_recommendation": ("Name a film that goes with the others.", "{input}"),
    "analogical_similarity": ("Say how the two stories are alike.", "{input}\nThis is"),
    "fact_checker/fever": ("Say whether each claim is true or false.", "{input}"),
    "date_understanding": ("", "{input}\nAnswer:"),
}

Curve = tuple[str, str, int]  #: task, model, seed


def task_of(name: str) -> Task:
    """The plan's part that asks this task."""
    instruction, example = TASKS[name]
    return Task.model_validate(
        {
            "type": builtin_task(f"bigbench/{name}").type,
            "dataset": {"source": {"builtin": {"name": f"bigbench/{name}"}}},
            "template": {"instruction": instruction, "example": example},
        }
    )


def read() -> dict[Curve, dict[int, tuple[float, int, float]]]:
    """Curves measured so far: shots to (score, items, chance)."""
    found: dict[Curve, dict[int, tuple[float, int, float]]] = {}
    if KEPT.exists():
        for row in tables.read_csv(KEPT)[1]:
            curve = found.setdefault((row["task"], row["model"], int(row["seed"])), {})
            curve[int(row["shots"])] = (float(row["score"]), int(row["items"]), float(row["chance"]))
    return found


def write(curves: dict[Curve, dict[int, tuple[float, int, float]]]) -> None:
    """Keep what was measured so far."""
    rows = (
        (task, model, seed, shots, f"{score:.5f}", items, f"{chance:.5f}")
        for (task, model, seed), points in sorted(curves.items())
        for shots, (score, items, chance) in sorted(points.items())
    )
    tables.replace_csv(KEPT, "python -m tests.benchmarks.measure_shots", COLUMNS, rows)


@contextmanager
def subject(session: Session, kind: str, seed: int) -> Iterator[tuple[LoadedModel, Sequence[Example]]]:
    """The model to ask and the examples its demonstrations are drawn from."""
    if kind == "base":
        yield session.model, session.data.train
        return
    given = {"learningRate": "1e-3", "epochs": "1", "rank": "8"}
    trial = Trial(
        name="tuned",
        strategy="LoRA",
        parameters=[Parameter(name=n, value=v) for n, v in given.items()],
        fidelity=Fidelity(training_examples=TUNED_ON, evaluation_items=ITEMS),
        seed=seed,
    )
    seed_everything(seed)
    with tuned(session, LORA, parse_settings(trial, len(session.data.train), LORA.learning_rate)) as trained:
        yield trained.model, trained.examples


def curve(
    session: Session, kind: str, seed: int, known: dict[int, tuple[float, int, float]]
) -> dict[int, tuple[float, int, float]]:
    """One curve, whole; points in ``known`` are taken as they are."""
    items = session.data.evaluation[:ITEMS]
    chance = sum(1 / len(item.options) for item in items) / len(items)
    points = dict(known)
    with subject(session, kind, seed) as (model, examples):
        pool = pool_of(examples, 0, seed)
        for shots in SHOTS:
            if shots not in points:
                shown = demonstrations(model, pool, items, shots, "random", Meter())
                scores = evaluate(model, session.spec.task, items, shown).scores
                points[shots] = (float(scores.mean()), len(items), chance)
    return points


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", action="append", choices=list(TASKS), help="default: all")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="default: both")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no curve after this much CPU time")
    args = parser.parse_args()
    roots, curves, loaded = SourceRoots.from_environment(), read(), None
    smollm2 = Model.model_validate(
        {"name": "smollm2", "architecture": "Causal", "source": {"builtin": {"name": BASE}}},
    )
    for kind in args.model or list(MODELS):
        name, seeds = MODELS[kind]
        # One seed of every task before another seed of any: an ended run has as many tasks as it can.
        for seed, task in ((s, t) for s in seeds for t in args.task or list(TASKS)):
            begun = time.process_time()
            if (task, name, seed) in curves or begun > args.seconds:
                continue
            loaded = loaded or load(smollm2, roots)
            asked = task_of(task)
            spec = ProbeSpec(
                model=smollm2,
                task=asked,
                trials=[Trial(name="all", strategy="InContext", fidelity=Fidelity(evaluation_items=ITEMS))],
                accelerator="cpu",
                deadline_seconds=86400,
            )
            session = Session(spec=spec, data=read_task(asked, roots), model=loaded)
            # Nothing is drawn at 0 shots, so another seed's score there is this one's.
            same = curves.get((task, name, seeds[0]), {}) if kind == "base" else {}
            points = curve(session, kind, seed, {k: v for k, v in same.items() if k == 0})
            curves[task, name, seed] = points
            write(curves)
            scores = " ".join(f"{points[k][0]:.3f}" for k in SHOTS)
            print(f"{task} {name} {seed}: {scores}, {time.process_time() - begun:.0f} CPU-seconds", flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
