"""The cost model against real runs: memory, time and tokens, predicted after one probe a model and then measured.

    python -m tests.benchmarks.predicted_vs_measured --json OUT [--measure] [--seconds N]

Every run is a real probe in a process of its own (``--measure`` takes those that are missing and stops after N seconds; run
it again to go on) and is kept in ``tests/benchmarks/measured/costs.json``. The one probe of a model holds short trials of
every kind on one task; from its speeds all other runs are predicted, which differ in task, size, epochs, rank and prompt.

Seconds are processor seconds of the one thread: the machine did other things too. What shares its caches still slows it, by as
much as a half, so every run is taken ``TIMES`` times, apart, and the least seconds and the mean memory count, in the probes as in the runs. Memory is the resident set's high-water
mark of the process, interpreter and libraries included, reset when the trial begins (see ``orrery.probes.memory``).

For each of memory, seconds and tokens, over the runs (none of them is in the probe):

X_runs            how many have it (a run without training has no training seconds; its tokens are those of a request)
X_within          how many are within the aim: memory 15 %, seconds 20 %, tokens 5 %
X_median_error, X_largest_error   of |predicted / measured - 1|
X_check_runs, X_check_within      of the runs on politifact and implicatures alone: the cost model's constants for a CPU were
                                  calibrated on the half on intent_recognition
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from orrery.api.catalogue import MODELS
from orrery.api.machines import Accelerator
from orrery.api.models import ModelFacts
from orrery.api.probe import Fidelity, Parameter, ProbeSpec, Trial
from orrery.costs.accelerators import describe
from orrery.costs.flops import Training, inference_flops, training_flops
from orrery.costs.memory import adapter_parameters, process_memory, scoring_memory
from orrery.costs.throughput import Observation, Throughput, WorkKind, counted_passes
from orrery.probes.data import read_task
from orrery.probes.locations import SourceRoots
from orrery.probes.prompts import answered, continuation, preamble, request
from orrery.probes.trie import common_prefix
from orrery.strategies import registry
from orrery.strategies.tuning_curves import passes, update_steps
from tests.benchmarks import harness
from tests.benchmarks.grids import plan

TIMES = 2
CPU = describe(Accelerator(name="cpu"))
KEPT = Path(__file__).parent / "measured" / "costs.json"
INTENTS, IMPLICATURES, POLITIFACT = (
    "bigbench/intent_recognition",
    "bigbench/implicatures",
    "bigbench/fact_checker/politifact",
)


@dataclass(frozen=True)
class Run:
    """Trials of one model in one process."""

    name: str
    model: str
    task: str
    trials: tuple[Trial, ...]


def trial(strategy: str, examples: int = 0, items: int = 64, **parameters: Any) -> Trial:
    """One trial; its name says what it is."""
    words = "-".join([strategy.lower(), str(examples or items), *(f"{v}" for v in parameters.values())])
    return Trial(
        name=words.replace("_", "-"),
        strategy=strategy,
        parameters=[Parameter(name=k, value=str(v)) for k, v in parameters.items()],
        fidelity=Fidelity(training_examples=examples, evaluation_items=items),
    )


def _probe(model: str, *trials: Trial) -> Run:
    return Run(f"probe-{model}", model, INTENTS, trials)


def _run(model: str, task: str, one: Trial) -> Run:
    return Run(f"{model}-{task.rpartition('/')[2]}-{one.name}", model, task, (one,))


_TRAINED = ("LoRA", "QLoRA", "FullFineTuning")
PROBES = [
    _probe("smollm2", trial("ZeroShot", items=32), *(trial(s, 32, items=32, epochs=1) for s in _TRAINED)),
    _probe("minilm", trial("ZeroShot", items=64), *(trial(s, 64, items=64, epochs=1) for s in _TRAINED)),
]
RUNS = [
    _run("smollm2", INTENTS, trial("ZeroShot", items=96)),
    _run("smollm2", POLITIFACT, trial("ZeroShot", items=64)),
    _run("smollm2", INTENTS, trial("InContext", items=48, shots=4, retriever="bm25")),
    _run("smollm2", IMPLICATURES, trial("InContext", items=48, shots=8, retriever="random")),
    _run("smollm2", INTENTS, trial("LoRA", 64, epochs=1, rank=8)),
    _run("smollm2", IMPLICATURES, trial("LoRA", 64, epochs=2, rank=16)),
    _run("smollm2", POLITIFACT, trial("LoRA", 48, epochs=1, rank=4)),
    _run("smollm2", INTENTS, trial("QLoRA", 64, epochs=1, rank=8)),
    _run("smollm2", POLITIFACT, trial("QLoRA", 48, epochs=1, rank=16)),
    _run("smollm2", INTENTS, trial("FullFineTuning", 64, epochs=1)),
    _run("smollm2", IMPLICATURES, trial("FullFineTuning", 64, epochs=2)),
    _run("smollm2", POLITIFACT, trial("FullFineTuning", 48, epochs=1)),
    _run("minilm", INTENTS, trial("ZeroShot", items=200)),
    _run("minilm", INTENTS, trial("LoRA", 256, epochs=1, rank=8)),
    _run("minilm", POLITIFACT, trial("LoRA", 128, epochs=3, rank=16)),
    _run("minilm", INTENTS, trial("QLoRA", 256, epochs=1, rank=8)),
    _run("minilm", INTENTS, trial("FullFineTuning", 256, epochs=1)),
    _run("minilm", IMPLICATURES, trial("FullFineTuning", 256, epochs=2)),
]

#: The child: processor time for the clock, then the probe as it always runs.
_CHILD = """
import json, sys, time
time.monotonic = time.process_time
from pathlib import Path
from orrery.api.probe import ProbeSpec
from orrery.probes.runner import run
run(ProbeSpec.model_validate(json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))
"""


def measure(run: Run) -> dict[str, Any]:
    """One run in a process of its own: its report, in processor seconds."""
    asked = plan(run.task)
    model = next(m for m in asked.spec.models if m.name == run.model)
    spec = ProbeSpec(
        model=model, task=asked.spec.task, trials=list(run.trials), accelerator="cpu", deadline_seconds=3600
    )
    with tempfile.TemporaryDirectory() as folder:
        question, report = Path(folder) / "spec.json", Path(folder) / "report.json"
        question.write_text(json.dumps(spec.to_wire()))
        subprocess.run(
            [sys.executable, "-c", _CHILD, str(question), str(report)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        found: dict[str, Any] = json.loads(report.read_text())
    for result in found["trials"]:
        result.pop("bits", None)
    return found


def load() -> dict[str, Any]:
    """What was measured so far, by run."""
    if KEPT.exists():
        found: dict[str, Any] = json.loads(KEPT.read_text())
        return found
    return {"commit": harness.commit(), "machine": harness.machine(), "runs": {}}


def fill(seconds: float) -> None:
    """Measure what is missing, until ``seconds`` have passed: everything once, then again; probes and trainings first."""
    kept, end = load(), time.monotonic() + seconds
    order = [*PROBES, *sorted(RUNS, key=lambda r: not r.trials[0].fidelity.training_examples)]
    for times in range(1, TIMES + 1):
        for run in order:
            before = kept["runs"].get(run.name, {"trials": []})
            taken = {t["name"]: t.get("repeats") or [t.get("trainSeconds")] for t in before["trials"]}
            peaks = {t["name"]: t.get("memories") or [t["peakMemoryBytes"]] for t in before["trials"]}
            if taken and all(len(r) >= times for r in taken.values()):
                continue
            if time.monotonic() > end:
                print("time is up; run again to go on")
                return
            found = measure(run)
            for result in found["trials"]:
                repeats = [*taken.get(result["name"], []), result.get("trainSeconds")]
                result["repeats"] = repeats
                marks = [*peaks.get(result["name"], []), result["peakMemoryBytes"]]
                result["memories"], result["peakMemoryBytes"] = marks, round(fmean(marks))
                result["trainSeconds"] = min((r for r in repeats if r is not None), key=float, default=None)
            kept["runs"][run.name], kept["commit"] = found, harness.commit()
            KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
            print(run.name, flush=True)


def predict(run: Run, kept: dict[str, Any]) -> dict[str, float | None]:
    """Memory (bytes), processor seconds and tokens of a run, from its model's one probe and from nothing of the run."""
    one, probe = run.trials[0], kept[f"probe-{run.model}"]
    facts = _facts(run.model)
    seen = _task_facts(run.task)
    throughput = Throughput.fit([o for p in PROBES if p.model == run.model for o in _observed(p, probe, facts)])
    given = {p.name: p.value for p in one.parameters}
    epochs, rank = float(given.get("epochs", 1)), float(given.get("rank", 8))
    n = one.fidelity.training_examples
    encoder = run.model == "minilm"
    length = seen["encoder"] if encoder else seen["input"] + seen["output"]
    if not n:
        prompt = seen["encoder"] if encoder else seen["input"] + float(given.get("shots", 0)) * seen["example"]
        memory = float(process_memory(facts, None, scoring=scoring(run.model, seen, given)))
        return {"memory": memory, "seconds": None, "tokens": prompt}
    training = registry.get(one.strategy).training
    assert training is not None
    steps = float(update_steps(np.array([float(n)]), np.array([epochs]))[0])
    rounds = float(passes(np.array([float(n)]), np.array([epochs]))[0])
    trained_on = n * rounds * length
    tokens = trained_on + (n * length if encoder else 0.0)
    flops = float(training_flops(facts, training, length, n * rounds)) + (
        float(inference_flops(facts, length)) * n if encoder else 0.0
    )
    trained = float(facts.parameters) if training is Training.FULL else float(adapter_parameters(facts, rank))
    batch = np.ceil(n * rounds / steps)
    passed = float(training_flops(facts, training, 1.0, 1.0)) * counted_passes(facts, training, [steps], trained_on)
    seconds = throughput.seconds(run.model, CPU, WorkKind.of(training), np.array([flops]), passed)
    longest = float(np.quantile(seen["lengths_encoder" if encoder else "lengths"], n / (n + 1)))
    memory = float(process_memory(facts, training, trained, batch, longest, scoring(run.model, seen, {})))
    return {"memory": memory, "seconds": float(seconds.median()[0]), "tokens": tokens}


def scoring(model: str, seen: dict[str, Any], given: dict[str, str]) -> float:
    """Bytes that scoring a batch takes: random demonstrations are the same in every prompt, retrieved ones are not."""
    if model == "minilm":
        return 0.0
    demonstrations = float(given.get("shots", 0)) * seen["example"]
    shared = seen["shared"] + (demonstrations if given.get("retriever") == "random" else 0.0)
    return scoring_memory(_facts(model), seen["input"] + demonstrations, seen["options"], shared)


def _observed(run: Run, report: dict[str, Any], facts: ModelFacts) -> list[Observation]:
    """Speeds that a probe's report tells."""
    found = []
    results = {r["name"]: r for r in report["trials"]}
    for one in run.trials:
        training = registry.get(one.strategy).training
        result = results[one.name]
        if training is None or result["outcome"] != "Measured":
            continue
        epochs = float({p.name: p.value for p in one.parameters}.get("epochs", 1))
        steps = float(update_steps(np.array([float(one.fidelity.training_examples)]), np.array([epochs]))[0])
        passed = float(counted_passes(facts, training, steps, float(result["trainTokens"])))
        each, seconds = float(training_flops(facts, training, 1.0, 1.0)), float(result["trainSeconds"])
        kind = WorkKind.of(training)
        found.append(Observation(run.model, CPU, kind, float(result["trainFlops"]), seconds, passed * each))
    return found


def _facts(model: str) -> ModelFacts:
    return MODELS[{"smollm2": "smollm2-135m-instruct", "minilm": "all-minilm-l6-v2"}[model]].facts


@lru_cache
def _task_facts(task: str) -> dict[str, Any]:
    """Mean tokens and each example's of the task, counted with each model's own tokenizer on its first 256 training examples."""
    from transformers import AutoTokenizer

    asked, roots = plan(task), SourceRoots.from_environment()
    data = read_task(asked.spec.task, roots)
    template = asked.spec.task.template
    sample = data.train[:256]
    base = Path.home() / ".cache" / "orrery" / "builtin"
    causal = AutoTokenizer.from_pretrained(next(base.glob("smollm2-135m-instruct@*")))
    words = AutoTokenizer.from_pretrained(next(base.glob("all-minilm-l6-v2@*")))
    instruction = preamble(template, ())
    ids = causal([instruction + request(template, e) for e in sample]).input_ids
    prompts = [len(i) for i in ids]
    choices = causal([continuation(template, o) for o in sample[0].options]).input_ids
    answers = [len(i) for i in causal([continuation(template, e.target) for e in sample]).input_ids]
    shown = [len(i) for i in causal([answered(template, e) + template.separator for e in sample]).input_ids]
    read = [len(i) for i in words([e.input for e in sample]).input_ids]
    return {
        "input": fmean(prompts),
        "output": fmean(answers),
        "example": fmean(shown),
        "shared": float(common_prefix(ids)),
        "options": 1.0 + sum(len(o) - 1 for o in choices),  # the last of the request, and all but the last of an option
        "lengths": [p + a for p, a in zip(prompts, answers, strict=True)],
        "encoder": fmean(read),
        "lengths_encoder": read,
    }


def compare() -> harness.Outcome:
    """Every measured run beside its prediction."""
    kept = load()["runs"]
    rows = []
    for run in RUNS:
        if run.name not in kept or f"probe-{run.model}" not in kept:
            continue
        result = kept[run.name]["trials"][0]
        if result["outcome"] != "Measured":
            continue
        told = predict(run, kept)
        trained = run.trials[0].fidelity.training_examples
        measured = {
            "memory": float(result["peakMemoryBytes"]),
            "seconds": float(result["trainSeconds"]) if trained else None,
            "tokens": float(result["trainTokens"] if trained else result["requestTokens"]),
        }
        row: dict[str, Any] = {"run": run.name, "half": "calibration" if run.task == INTENTS else "check"}
        for what in ("memory", "seconds", "tokens"):
            p, m = told[what], measured[what]
            row[what] = math.nan if m is None else round(m / (2**20 if what == "memory" else 1), 1)
            row[f"{what}_error"] = math.nan if p is None or m is None else round(p / m - 1, 3)
        rows.append(row)
    summary: dict[str, float] = {"runs": float(len(rows))}
    checked = [r for r in rows if r["half"] == "check"]
    for what, aim in (("memory", 0.15), ("seconds", 0.20), ("tokens", 0.05)):
        errors = [abs(r[f"{what}_error"]) for r in rows if math.isfinite(r[f"{what}_error"])]
        if errors:
            summary[f"{what}_runs"] = float(len(errors))
            summary[f"{what}_within"] = float(sum(e <= aim for e in errors))
            summary[f"{what}_median_error"] = float(np.median(errors))
            summary[f"{what}_largest_error"] = max(errors)
        apart = [abs(r[f"{what}_error"]) for r in checked if math.isfinite(r[f"{what}_error"])]
        summary[f"{what}_check_runs"] = float(len(apart))
        summary[f"{what}_check_within"] = float(sum(e <= aim for e in apart))
    return harness.Outcome(rows, summary, [("predicted / measured - 1 (memory in MiB)", rows)])


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--measure", action="store_true", help="take the runs that are missing")
        parser.add_argument("--seconds", type=float, default=3600, help="stop measuring after this many")

    args = harness.arguments(__doc__, data=None, extra=extra)
    if args.measure:
        fill(args.seconds)
    harness.run("predicted_vs_measured", args, compare)


if __name__ == "__main__":
    main()
