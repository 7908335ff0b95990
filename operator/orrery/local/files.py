"""Files that are whole or not there: what a crash may not leave half written."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class StateError(Exception):
    """The state folder cannot be used; the message says what to do."""


class StateBusy(StateError):  # noqa: N818  # reads as what is the case
    """Another run uses the state folder."""


def unreadable(path: Path, error: Exception, mend: str) -> StateError:
    """A file that is not what was written there, as one sentence."""
    return StateError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}): {mend}")


def write_atomic(path: Path, text: str) -> None:
    """Replace the file by ``text`` so that a reader, or a run after a power cut, sees the old or the new and no mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else the rename itself may be lost
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """JSON by ``write_atomic``, for people too: indented, keys in the order given."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any | None:
    """The file's value, or None where there is no file; raises StateError when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise unreadable(path, error, f"delete it, or the folder {path.parent}") from None


def lock(path: Path) -> int | None:
    """Take the file's lock without waiting: a descriptor that holds it, or None when somebody else does.

    The kernel gives a lock back when the last process that holds the descriptor dies, so a lock cannot be left over and
    needs no process number that another program may have got since.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the state folder for this run; raises StateBusy when another run has it."""
    descriptor = lock(folder / "lock")
    if descriptor is None:
        raise StateBusy(
            f"{folder} is in use by another `orrery run`: wait for it, or give this one its own --state DIR"
        )
    try:
        yield
    finally:
        os.close(descriptor)
