"""``orrery prices``: what a list says and how old it is, what differs between two, and which stored answers that changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli.answers import folder_of
from orrery.cli.options import Output, OutputOption

if TYPE_CHECKING:
    from orrery.api.plan import AdaptationPlan
    from orrery.api.pricelist import PriceList
    from orrery.planning.repricing import Repriced

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Price lists: what they say, how old they are, what differs, and which stored answers that changes.",
)
#: Adaptations whose answer is decided anew are listed up to this many; the count is always said.
_LISTED = 50


def today() -> date:
    """The day by this machine's clock, UTC; the core has no clock."""
    return datetime.now(tz=UTC).date()


def notes(plan: AdaptationPlan, prices: PriceList, budgets: Sequence[str] = ()) -> list[str]:
    """What a person should know of the costs before they read them: old prices, a service that nobody asks, other caps."""
    from orrery.costs.prices import age_note

    found = [note] if (note := age_note(prices, today())) else []
    if not plan.spec.workload.requests_per_day:
        found.append(
            "spec.workload.requestsPerDay is 0: only adaptation is paid for, so the cheapest candidate is one that trains "
            "nothing; write the mean requests of a day"
        )
    found += [
        f"the AdaptationBudget '{name}' holds in the cluster that it is applied to: here spec.budget bounds this plan alone"
        for name in budgets
    ]
    return found


@app.command("show")
def show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files with PriceLists.")],
    output: OutputOption = Output.TABLE,
) -> None:
    """Every price with its source and date; which lists are old.

    Exit code 0 when they are shown, 2 when a file holds no PriceList.
    """
    from rich.console import Group

    from orrery.api.quantities import format_decimal
    from orrery.cli.screen import console, facts, listing, section, write
    from orrery.costs.prices import age_note

    lists = [found for path in files for found in _lists(path)]
    parts: list[Any] = []
    for found in lists:
        spec = found.spec
        note = age_note(found, today())
        said = [("source", spec.source), ("date", spec.date.isoformat() + (f"  ({note})" if note else ""))]
        prices = [[a.name, str(a.capacity_type), format_decimal(a.price_per_hour), "hour"] for a in spec.accelerators]
        for m in spec.hosted_models:
            prices.append([m.name, "input", format_decimal(m.input_per_million), "1M tokens"])
            prices.append([m.name, "output", format_decimal(m.output_per_million), "1M tokens"])
        table = listing(["name", "kind", spec.currency, "per"], [(row, "") for row in prices], right=[spec.currency])
        parts.append(section(found.metadata.name, Group(facts(said), table)))
        if note:
            console(stderr=True).print(f"note: {note}", markup=False, soft_wrap=True)
    write({"priceLists": [found.to_wire() for found in lists]}, output, Group(*parts))


@app.command("diff")
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="File with the PriceList that holds now.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="File with the one to compare.")],
    states: Annotated[
        list[Path] | None,
        typer.Argument(metavar="STATE|PLAN", help="State folders of answered plans, or their plans' files."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """What differs between two lists, and which answers it changes.

    Exit code 0 when every answer stays, 1 when one changes, 2 for bad input.
    """
    from rich.console import Group

    from orrery.api.quantities import format_decimal
    from orrery.cli.failures import Exit
    from orrery.cli.screen import listing, section, write
    from orrery.costs.prices import price_changes

    before, after = _one(old), _one(new)
    changes = price_changes(before, after)
    answers = [
        (folder, _redecide(folder, before, after)) for folder in (folder_of(given, None) for given in states or [])
    ]
    changed = [(folder, answer) for folder, answer in answers if answer.changed]
    money = [f"old {before.spec.currency}", f"new {after.spec.currency}", "percent"]

    def price(value: Any) -> str:
        return "-" if value is None else format_decimal(value)

    rows = [
        ([c.name, price(c.old), price(c.new), "-" if c.percent is None else f"{c.percent:+.1f}", c.unit], "")
        for c in changes
    ]
    table = listing(["name", *money, "per"], rows, right=money) if rows else "the two lists say the same"
    title = "1 price differs" if len(changes) == 1 else f"{len(changes)} prices differ"
    parts: list[Any] = [section(title, table)]
    if answers:
        told = [
            ([str(folder), answer.before or "nothing meets the objective", answer.after or "nothing meets it"], "")
            for folder, answer in changed[:_LISTED]
        ]
        title = f"{len(changed)} of {len(answers)} answers change"
        parts.append(
            section(title, listing(["state", "before", "after"], told) if told else "every one stays as it is")
        )
    document = {
        "currency": after.spec.currency,
        "prices": [
            {"name": c.name, "per": c.unit, "old": price(c.old), "new": price(c.new), "percent": c.percent}
            for c in changes
        ],
        "answers": [
            {
                "state": str(folder),
                "changed": answer.changed,
                "before": answer.before,
                "after": answer.after,
                "costBefore": answer.cost_before,
                "costAfter": answer.cost_after,
                "keptCost": answer.kept_cost,
            }
            for folder, answer in answers
        ],
    }
    write(document, output, Group(*parts))
    raise typer.Exit(Exit.NEGATIVE if changed else Exit.OK)


@app.command("hosted")
def hosted(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL", help="Names in the providers' APIs, or PROVIDER:MODEL.")
    ],
    base: Annotated[
        Path | None, typer.Option("--add-to", metavar="FILE", help="A file with the PriceList to add them to.")
    ] = None,
) -> None:
    """Token prices of hosted models, as a PriceList.

    It goes to standard output, with source and date, for models[].hostedAs. Exit code 2 when a model is not listed; needs the package of 'orrery[prices]'.
    """
    import sys

    from orrery.api import yamltext
    from orrery.cli.failures import Exit, without_extra
    from orrery.cli.hosted import NoPrice, hosted_list

    try:
        found = hosted_list(models, today(), None if base is None else _one(base))
    except ImportError as error:
        print(f"error: {without_extra(error, 'prices')}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None
    except NoPrice as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None
    document = found.to_wire()
    document["metadata"] = {"name": found.metadata.name}  # it belongs to no namespace
    sys.stdout.write(yamltext.write(document))


def _lists(path: Path) -> list[PriceList]:
    from orrery.api.load import ManifestError, load
    from orrery.api.sentences import Problem

    found = load([path]).price_lists
    if not found:
        raise ManifestError([Problem("PriceList", "", "is missing: give a file that holds one")], str(path))
    return list(found)


def _one(path: Path) -> PriceList:
    from orrery.api.load import ManifestError
    from orrery.api.sentences import Problem

    found = _lists(path)
    if len(found) > 1:
        names = ", ".join(p.metadata.name for p in found)
        said = f"is there {len(found)} times ({names}): give a file with one"
        raise ManifestError([Problem("PriceList", names, said)], str(path))
    return found[0]


def _redecide(folder: Path, old: PriceList, new: PriceList) -> Repriced:
    from orrery.local.files import StateError
    from orrery.local.publish import PLAN, read_plan, read_rows
    from orrery.planning.repricing import NeedsAdvance, reprice

    rows = read_rows(folder)
    if not rows or not (folder / PLAN).exists():
        raise StateError(f"{folder} holds no answer yet: `orrery run` the plan first")
    plan = read_plan(folder)
    try:
        return reprice(plan, rows, old, new)
    except NeedsAdvance:
        from orrery.local.store import Store
        from orrery.planning.advance import assess
        from orrery.planning.repricing import repriced

        records = Store(folder).records()
        situation = assess(plan, records, new)
        before = next((i for i, row in enumerate(rows) if row.status == "Recommended"), None)
        return repriced(rows, before, situation.decision, situation.columns.total.median())
    except ValueError as problem:
        raise StateError(str(problem)) from None
