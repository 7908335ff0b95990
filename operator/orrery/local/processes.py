"""Starting, seeing and ending the shepherds of probe attempts: a thin shell without decisions."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from orrery.local import files, shepherd

#: Held by an attempt's shepherd for as long as it lives.
LOCK = "alive"
LOG = "log.txt"


def probe_environment(threads: int, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of a probe: the caller's (hub tokens and offline switches pass), with threads bounded.

    Two probes that each take every core are slower together than one after the other, and their times, which calibrate
    the costs, would mean nothing.
    """
    bounded = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**base, **bounded, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}


def start(
    folder: Path,
    command: Sequence[str],
    *,
    deadline_seconds: float,
    grace_seconds: float,
    memory_bytes: int | None,
    environment: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Start the attempt's shepherd in ``folder``. Its lock is held from before it exists: there is no unseen moment."""
    descriptor = files.lock(folder / LOCK)
    if descriptor is None:
        raise files.StateBusy(f"{folder} already has a running process")
    order = {
        "command": list(command),
        "folder": str(folder.resolve()),
        "deadlineSeconds": deadline_seconds,
        "graceSeconds": grace_seconds,
        "memoryBytes": memory_bytes,
    }
    try:
        with (folder / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-I", str(Path(shepherd.__file__).resolve()), json.dumps(order)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(descriptor,),  # the lock goes with the descriptor
                start_new_session=True,  # neither the terminal's Ctrl-C nor its closing reaches it
                env=dict(environment),
            )
    finally:
        os.close(descriptor)


def alive(folder: Path) -> bool:
    """Whether the attempt's shepherd still runs, whoever started it."""
    if not (folder / LOCK).exists():
        return False
    descriptor = files.lock(folder / LOCK)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def terminate(folder: Path, *, at_once: bool = False) -> None:
    """Ask the attempt's shepherd to end its probe; ``at_once`` kills both without a partial report."""
    started = files.read_json(folder / "started.json")
    if started is None or not alive(folder):
        return
    process = int(started["pid"])
    same = (shepherd.boot(), shepherd.started_ticks(process)) == (started["bootId"], started["startTicks"])
    if same:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGINT if at_once else signal.SIGTERM)
