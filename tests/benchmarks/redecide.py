"""A price change against 1,000 stored answers: which of them change, without a probe.

    python -m tests.benchmarks.redecide [--plans 1000] --json OUT

Real answers of the benchmark's tasks (``tests.benchmarks.recorded``: measured trials, nothing made up) are stored as state
folders with thresholds and workloads of their own; then every accelerator's price changes and all are decided anew, read
from disk as ``orrery prices diff`` reads them. A sample is also assessed in full (``advance``'s own path on the same
measurements), which must give the same answers.

seconds           processor seconds for all plans, reading included
seconds_decide    of these, the deciding alone
disagreements     answers of the sample that differ from the full assessment's (aim: 0)
changed           answers that the new prices change
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from orrery.api.pricelist import PriceList
from orrery.api.probe import ProbeSpec
from orrery.cli.prices import _redecide
from orrery.local.publish import publish, read_rows, write_inputs
from orrery.planning.advance import advance, assess
from orrery.planning.repricing import reprice
from orrery.planning.types import Facts, ProbeRecord
from tests.benchmarks import harness
from tests.benchmarks.grids import PRICES, facts_of, plan
from tests.benchmarks.recorded import World

TASKS = ("bigbench/intent_recognition", "bigbench/implicatures", "bigbench/fact_checker/politifact")
SAMPLE = 6


def _prices(factor: str) -> PriceList:
    spec = PRICES.spec
    changed = [a.model_copy(update={"price_per_hour": a.price_per_hour * int(factor)}) for a in spec.accelerators]
    return PRICES.model_copy(update={"spec": spec.model_copy(update={"accelerators": changed})})


class _Kept(World):
    """The recorded measurements, and no others: nothing is run here."""

    def _measure(self, spec: ProbeSpec) -> None:
        raise LookupError(spec.model.name)


def _records(task: str) -> list[ProbeRecord]:
    """What the plan asked for, as far as it was ever measured."""
    asked, world = plan(task), _Kept(task)
    facts, records = facts_of(asked), list[ProbeRecord]()
    for _ in range(4):
        step = advance(asked, records, PRICES, facts)
        if step.finished or not step.start:
            break
        try:
            records += [world.record(request) for request in step.start]
        except LookupError:
            break
    return records


def _measure(count: int) -> harness.Outcome:
    new = _prices("4")
    variants = []
    for task in TASKS:
        base = plan(task)
        records = _records(task)
        for k in range(SAMPLE):
            objective = base.spec.objective.model_copy(update={"max_total_cost": None if k % 2 else 200 * (k + 1)})
            workload = base.spec.workload.model_copy(update={"requests_per_day": 100 * 10**k})
            spec = base.spec.model_copy(update={"objective": objective, "workload": workload})
            asked = base.model_copy(update={"spec": spec})
            variants.append((asked, records, facts_of(asked), advance(asked, records, PRICES, facts_of(asked))))
    with tempfile.TemporaryDirectory() as root:
        folders = []
        for i in range(count):
            asked, _, _, step = variants[i % len(variants)]
            folder = Path(root) / f"plan-{i:04}"
            folder.mkdir()
            write_inputs(folder, asked, PRICES)
            publish(folder, asked, step, 0.0)
            folders.append(folder)
        begun = time.process_time()
        found = [_redecide(folder, PRICES, new) for folder in folders]
        seconds = time.process_time() - begun
        rows = [read_rows(folder) for folder in folders[: len(variants)]]
        begun = time.process_time()
        for (asked, _, _, _), stored in zip(variants, rows, strict=False):
            reprice(asked, stored, PRICES, new)
        deciding = (time.process_time() - begun) * count / len(variants)
    wrong = 0
    for (asked, records, facts, _), repriced in zip(variants, found, strict=False):
        situation = assess(asked, records, new, facts if isinstance(facts, Facts) else Facts())
        chosen = situation.decision.chosen
        wrong += (None if chosen is None else situation.space.label(chosen)) != repriced.after
    summary = {
        "plans": float(count),
        "candidates": float(len(rows[0])),
        "seconds": seconds,
        "seconds_decide": deciding,
        "disagreements": float(wrong),
        "compared": float(len(variants)),
        "changed": float(sum(f.changed for f in found)),
    }
    return harness.Outcome([], summary)


def main() -> None:
    """See the module's docstring."""

    def extra(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--plans", type=int, default=1000)

    args = harness.arguments(__doc__, data=None, extra=extra)
    harness.run("redecide", args, lambda: _measure(args.plans))


if __name__ == "__main__":
    main()
