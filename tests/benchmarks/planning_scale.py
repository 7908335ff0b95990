"""Expand, gate, forecast and decide 10,000 candidates: ``planning_scale``.

25 models of 16 sizes, each with zero-shot, 15 in-context configurations, 192 of LoRA and 192 of full fine-tuning, on one
accelerator that some do not fit: 10,000 candidates. Timed without any measurement and with three on each model, the
median of ``--repeats`` runs after one warm-up, in one process whose peak resident memory is reported. ``assess`` is the
part that the aim is about; ``step`` is a whole ``advance``, with choosing the next probes and writing 10,000 rows.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

from orrery.api.models import ModelFacts
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import Fidelity, Parameter, ProbeSpec, Report, TaskFacts, Trial, TrialResult, probe_name
from orrery.api.probe import Outcome as TrialOutcome
from orrery.planning.advance import advance, assess
from orrery.planning.candidates import expand
from orrery.planning.types import Facts, ProbeRecord, ProbeState
from tests.benchmarks.harness import Outcome, Row, arguments, run

MODELS, CANDIDATES = 25, 10_000
AIM_SECONDS, AIM_MEBIBYTES = 1.0, 500.0

_RATES = [f"{a}e-{b}" for b in (5, 4, 3) for a in (1, 3)]
_GRIDS: dict[str, dict[str, list[Any]]] = {
    "ZeroShot": {},
    "InContext": {"shots": [1, 2, 4, 8, 16], "retriever": ["random", "bm25", "dense"]},
    "LoRA": {"learningRate": _RATES, "epochs": [1, 2, 3, 5], "rank": [4, 8, 16, 32], "dataPercent": [25, 100]},
    "FullFineTuning": {
        "learningRate": _RATES,
        "epochs": [1, 2, 3, 5],
        "dataPercent": [5, 10, 20, 30, 40, 50, 75, 100],
    },
}


def plan() -> AdaptationPlan:
    """The question: 10,000 candidates."""
    sizes = [int(1e8 * 1.4 ** (i % 16)) for i in range(MODELS)]
    return AdaptationPlan.model_validate(
        {
            "metadata": {"name": "scale"},
            "spec": {
                "task": {"dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}}},
                "models": [
                    {
                        "name": f"model-{i}",
                        "source": {"huggingFace": {"repo": f"lab/model-{i}"}},
                        "facts": ModelFacts(
                            parameters=p, layers=24, hidden_size=2048, heads=16, context_length=4096
                        ).to_wire(),
                    }
                    for i, p in enumerate(sizes)
                ],
                "strategies": [
                    {
                        "name": kind.lower(),
                        "type": kind,
                        "grid": [{"name": name, "values": values} for name, values in grid.items()],
                    }
                    for kind, grid in _GRIDS.items()
                ],
                "workload": {"requestsPerDay": 10_000},
                "objective": {"goal": "MinimizeCost", "minQuality": "0.85"},
                "budget": {"maxProbeCost": "500"},
                "pricing": {"priceListRef": {"name": "prices"}},
                "accelerators": [{"name": "l4"}],
            },
        }
    )


def prices() -> PriceList:
    """One price; its value does not matter here."""
    entry = {"name": "l4", "pricePerHour": "0.8"}
    spec = {"currency": "USD", "source": "made up", "date": "2026-01-01", "accelerators": [entry]}
    return PriceList.model_validate({"metadata": {"name": "prices"}, "spec": spec})


def facts() -> TaskFacts:
    """What a shell reads of the data."""
    return TaskFacts(
        digest="0" * 64,
        train_examples=4000,
        evaluation_examples=500,
        labels=7,
        chance=Decimal("0.15"),
        input_tokens=Decimal(40),
        example_tokens=Decimal(46),
        output_tokens=Decimal(3),
    )


def records(question: AdaptationPlan, seed: int) -> list[ProbeRecord]:
    """Three measurements on every model; their scores do not matter for time."""
    found: list[ProbeRecord] = []
    for i, model in enumerate(question.spec.models):
        trials = [
            _trial("t0", "ZeroShot", 0, calibration="none"),
            _trial("t1", "InContext", 0, calibration="none", retriever="bm25", shots="8"),
            _trial("t2", "LoRA", 64, epochs="3", learningRate="0.001", rank="8"),
        ]
        asked = ProbeSpec(model=model, task=question.spec.task, trials=trials, accelerator="l4", deadline_seconds=600)
        results = [
            TrialResult(
                name=t.name,
                outcome=TrialOutcome.MEASURED,
                score=Decimal(40 + (7 * i + 13 * j + seed) % 50) / 100,
                items=200,
                evaluation_seconds=Decimal(9),
                evaluation_flops=Decimal("2e13"),
            )
            for j, t in enumerate(trials)
        ]
        name = probe_name(asked)
        report = Report(probe=name, complete=True, load_seconds=Decimal(5), task_facts=facts(), trials=results)
        found.append(ProbeRecord(name, asked, ProbeState.SUCCEEDED, 1, Decimal("0.01"), Decimal(0), 60.0, report))
    return found


def _trial(name: str, strategy: str, examples: int, **parameters: str) -> Trial:
    return Trial(
        name=name,
        strategy=strategy,
        parameters=[Parameter(name=k, value=v) for k, v in parameters.items()],
        fidelity=Fidelity(training_examples=examples, evaluation_items=200),
    )


def _median(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds."""
    work()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter(), time.process_time()
        work()
        times.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def measure(repeats: int, seed: int) -> Outcome:
    """Time every phase without and with measurements."""
    question, money, known = plan(), prices(), Facts(task=facts())
    size = len(expand(question.spec))
    if size != CANDIDATES:
        raise AssertionError(f"the plan has {size} candidates, not {CANDIDATES}")
    cases: list[tuple[str, list[ProbeRecord]]] = [
        ("nothing measured", []),
        ("3 measured a model", records(question, seed)),
    ]
    rows: list[Row] = []
    for label, found in cases:
        wall, cpu = _median(partial(assess, question, found, money, known), repeats)
        rows.append({"case": label, "candidates": size, "assess_seconds": wall, "assess_cpu_seconds": cpu})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for row, (_, found) in zip(rows, cases, strict=True):
        row["step_seconds"], row["step_cpu_seconds"] = _median(partial(advance, question, found, money, known), 1)
    names = ("assess_seconds", "assess_cpu_seconds", "step_seconds", "step_cpu_seconds")
    summary = {"candidates": float(size)} | {name: max(row[name] for row in rows) for name in names}
    summary |= {"peak_mebibytes": peak, "aim_seconds": AIM_SECONDS, "aim_mebibytes": AIM_MEBIBYTES}
    return Outcome(rows, summary, [("10,000 candidates", rows)])


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="timed runs of each phase (default 5)")


def main() -> None:
    """Command line."""
    args = arguments(__doc__, data=None, extra=_options)
    run("planning_scale", args, lambda: measure(args.repeats, args.seed))


if __name__ == "__main__":
    main()
