"""``orrery operator``: the controller, configured by its environment as the chart sets it."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import typer

from orrery.cli.failures import Exit, without_extra


def operator(
    log_level: str = typer.Option("INFO", "--log-level", help="DEBUG, INFO, WARNING or ERROR."),
    reports: int = typer.Option(
        0,
        "--reports",
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve plans' reports on this port, read-only; 0: nowhere.",
    ),
) -> None:
    """Run the operator: watch plans, start probes as Jobs, write answers to their status."""
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        from orrery.controller.main import run
        from orrery.controller.settings import Settings, SettingsError
    except ImportError as error:
        sys.stderr.write(f"{without_extra(error)}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    try:
        settings = Settings.from_environment()
        if reports:
            settings = replace(settings, reports_port=reports)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    from orrery.cli.cluster_report import pages
    from orrery.controller.server import ServerError

    try:
        code = run(settings, pages)
    except ServerError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    raise typer.Exit(code)
