"""``orrery operator``: the controller, configured by its environment as the chart sets it."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from typing import Literal

import typer

from orrery.cli.failures import Exit, without_extra


def operator(
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = typer.Option(
        "INFO", "--log-level", case_sensitive=False, help="Least that is logged."
    ),
    reports: int = typer.Option(
        0,
        "--reports",
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve plans' reports on this port, read-only; 0: nowhere.",
    ),
) -> None:
    """Run the operator: watch plans, start probes as Jobs, write answers to their status.

    It is configured by its environment, as the chart sets it. Exit code 2 when something there is missing or no cluster
    can be reached.
    """
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        from orrery.controller.main import run
        from orrery.controller.settings import Settings, SettingsError
    except ImportError as error:
        sys.stderr.write(f"error: {without_extra(error)}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    try:
        settings = Settings.from_environment()
        if reports:
            settings = replace(settings, reports_port=reports)
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    from orrery.cli.cluster_report import pages
    from orrery.controller.server import ServerError

    try:
        code = run(settings, pages)
    except ServerError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(Exit.BAD_INPUT) from None
    raise typer.Exit(code)
