"""``orrery``: the commands, each imported when it is called, so that ``--help`` answers at once.

Exit codes, for scripts: 0 answered or valid; 1 answered that nothing meets the objective, or the budget ended first with
``onExceeded: Fail``; 2 bad input; 3 ended before an answer (interrupted, suspended): run again to go on; 4 the state
folder is in use; 70 a fault of Orrery itself; 74 standard output could not be written; 141 its reader left.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

#: Command: where its function is, and what ``orrery --help`` says of it without importing that.
COMMANDS = {
    "validate": ("orrery.cli.commands:validate", "Check plans, prices and data; measure nothing."),
    "estimate": ("orrery.cli.commands:estimate", "What would be considered and probed, at what cost."),
    "run": ("orrery.cli.commands:run", "Answer a plan within its budget."),
    "watch": ("orrery.cli.watch:watch", "Plans, probes and spend as they change."),
    "explain": ("orrery.cli.commands:explain", "Why this candidate and why not that one."),
    "report": ("orrery.cli.report:report", "The answer as one HTML page."),
    "prices": ("orrery.cli.prices:app", "Show price lists, and which answers a new one changes."),
    "assets": ("orrery.cli.assets:app", "List and fetch the builtin models and tasks."),
    "probe": ("orrery.cli.probe:probe", "Run one AdaptationProbe and write its report."),
    "train": ("orrery.cli.train:train", "Train one configuration and keep it."),
    "render": ("orrery.cli.render:render", "The recommended strategy as a ready manifest."),
    "operator": ("orrery.cli.operator:operator", "Run the Kubernetes operator."),
    "crds": ("orrery.cli.commands:crds", "Write the CustomResourceDefinitions."),
}


class _Lazy(TyperGroup):
    """Knows every command's name and summary; imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """For listings: the name and its summary."""
        if cmd_name not in COMMANDS:
            return None
        stub = typer.Typer(add_completion=False)
        stub.command(name=cmd_name, help=COMMANDS[cmd_name][1])(lambda: None)
        return typer.main.get_command(stub)

    def invoke(self, ctx: Any) -> Any:
        """Runs the command. Click calls a reader that leaves (``| head``) exit code 1, which is an answer here."""
        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left has no reader
            raise SystemExit(141) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command; where there is none of that name, the refusal names near ones among ``self.commands``."""
        self.commands = {name: self.get_command(ctx, name) for name in COMMANDS if args[:1] != [name]}
        name, command, rest = super().resolve_command(ctx, args)
        return name, _load(name) if name in COMMANDS else command, rest


def _load(name: str) -> Any:
    place, summary = COMMANDS[name]
    module, _, attribute = place.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command = typer.main.get_command(found)
        command.name = name
        return command
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    single.command(name=name, help=found.__doc__ or summary)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=_Lazy,
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Predicts which language model, adapted how, gives the quality you need at the least money.",
    epilog="Exit codes: 0 answered or valid, 1 infeasible or failed, 2 bad input, 3 interrupted, 4 state in use.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("orrery"))
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def kubectl() -> None:
    """Entry point of ``kubectl orrery``: the same verbs; what can be asked of a cluster is asked of kubectl's."""
    run("kubectl orrery", obj={"cluster": True})


def run(name: str = "orrery", **options: Any) -> None:
    """Entry point of the script: every failure ends as a sentence and an exit code."""
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    try:
        app(prog_name=name, **options)
    except Exception as error:
        if os.environ.get("ORRERY_DEBUG"):
            raise
        from orrery.cli.failures import describe

        code, sentences = describe(error)
        for sentence in sentences:
            print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)


if __name__ == "__main__":
    run()
