"""``orrery validate``: everything that can be known to be wrong before a cent is spent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orrery.api.load import KINDS, ManifestError, Manifests, load
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.cli.failures import Exit, describe
from orrery.cli.options import Output
from orrery.cli.reading import plan_file, read_roots, with_absolute_paths
from orrery.cli.screen import console, write
from orrery.costs.accelerators import unknown_note
from orrery.costs.prices import Prices
from orrery.local.facts import read_facts
from orrery.planning.advance import advance
from orrery.planning.candidates import expand
from orrery.planning.types import Facts
from orrery.probes.locations import SourceRoots


@dataclass
class _Verdict:
    plan: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def validate(
    files: Sequence[Path], prices: Sequence[Path], claims: Sequence[str], maps: Sequence[str], output: Output
) -> Exit:
    """The command: every problem of every plan, not the first alone."""
    roots = read_roots(claims, maps)
    verdicts: list[_Verdict] = []
    made = Manifests()
    for path in [*files, *prices]:  # each file by itself: one broken file hides nothing of the others
        try:
            found = load([path])
        except ManifestError as error:
            verdicts.append(_Verdict(str(path), [str(problem) for problem in error.problems]))
            continue
        made.add(found)
        if not (found.plans or found.price_lists or found.probes or found.budgets):
            verdicts.append(_Verdict(str(path), [f"holds none of {', '.join(KINDS)}"]))
    if repeated := made.repeated():
        verdicts.append(_Verdict("the files together", [str(problem) for problem in repeated]))
    readable = [path for path in files if str(path) not in {verdict.plan for verdict in verdicts}]
    verdicts += [_check(plan, made, plan_file(readable, plan), roots) for plan in made.plans]
    valid = not any(verdict.problems for verdict in verdicts)
    document: dict[str, Any] = {
        "valid": valid,
        "plans": [{"name": v.plan, "problems": v.problems, "notes": v.notes} for v in verdicts],
    }
    if output is Output.TABLE:
        screen = console()
        for verdict in verdicts:
            screen.print(f"{verdict.plan}: {'invalid' if verdict.problems else 'valid'}", markup=False)
            for sentence in verdict.problems:
                screen.print(f"  {sentence}", style="red", markup=False, soft_wrap=True)
            for sentence in verdict.notes:
                screen.print(f"  {sentence}", style="dim", markup=False, soft_wrap=True)
        if not verdicts:
            screen.print("price lists and probes only: valid")
    else:
        write(document, output, "")
    return Exit.OK if valid else Exit.BAD_INPUT


def _check(plan: AdaptationPlan, made: Manifests, home: Path, roots: SourceRoots) -> _Verdict:
    verdict = _Verdict(f"{plan.metadata.namespace}/{plan.metadata.name}")
    plan = with_absolute_paths(plan, home.parent)
    facts, prices = Facts(), None
    verdict.notes += [note for accelerator in plan.spec.accelerators if (note := unknown_note(accelerator))]
    with _told(verdict):
        verdict.notes.append(f"{len(expand(plan.spec)):,} candidates")
    with _told(verdict):
        facts = read_facts(plan, roots, lambda why: verdict.notes.append(f"the data was not read: {why}"))
        verdict.notes += _of_sources(plan, facts)
    if made.price_lists:
        with _told(verdict):
            prices = made.prices(plan)
            verdict.problems += [*Prices(prices).missing(plan.spec), *_foreign_budgets(plan, made, prices)]
    else:
        verdict.notes.append("prices and budget were not checked: give the price list with --prices FILE")
    if verdict.problems or prices is None:
        return verdict
    step = advance(plan, [], prices, facts)
    if any(c.type == "Stalled" and c.status == "True" for c in step.status.conditions):
        verdict.problems.append(step.message)
    elif step.finished:
        verdict.notes.append(step.message)
    return verdict


@contextmanager
def _told(verdict: _Verdict) -> Iterator[None]:
    """What is refused inside is a problem of the plan, and what follows is checked all the same."""
    try:
        yield
    except Exception as error:
        code, sentences = describe(error)
        if code is Exit.FAULT:
            raise
        verdict.problems += sentences


def _of_sources(plan: AdaptationPlan, facts: Facts) -> list[str]:
    """What was read of models and data, and what could not be looked at from here."""
    notes = [
        f"the model '{m.name}' was not looked at: {m.source.hugging_face.repo} at revision "
        f"'{m.source.hugging_face.revision}' is not in the hub's cache on this machine; its first probe reads its sizes"
        for m in plan.spec.models
        if m.source.hugging_face is not None and m.name not in facts.models and m.name not in facts.uncertain
    ]
    if facts.task is not None:
        notes.append(
            f"{facts.task.train_examples:,} training and {facts.task.evaluation_examples:,} evaluation examples"
            + (f", {facts.task.labels} labels" if facts.task.labels else "")
        )
    return notes


def _foreign_budgets(plan: AdaptationPlan, made: Manifests, prices: PriceList) -> list[str]:
    """Budgets of the plan's namespace that count in another money than its prices: it would wait for them for ever."""
    ours = prices.spec.currency
    return [
        f"spec.currency of AdaptationBudget '{b.metadata.name}' is {b.spec.currency}, and the plan's price list "
        f"'{prices.metadata.name}' is in {ours}: write {ours}, or refer to a price list in {b.spec.currency}"
        for b in made.budgets
        if b.metadata.namespace == plan.metadata.namespace and b.spec.currency not in (None, ours)
    ]
