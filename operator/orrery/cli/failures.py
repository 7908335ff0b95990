"""What went wrong, as an exit code and sentences. Exit codes are part of the interface: CI branches on them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """How ``orrery`` ends."""

    OK = 0  #: answered, valid
    NEGATIVE = 1  #: infeasible, failed, or a check that does not hold
    BAD_INPUT = 2
    UNFINISHED = 3  #: interrupted or suspended; running again goes on
    BUSY = 4  #: another run has the state folder
    FAULT = 70  #: a fault of Orrery (EX_SOFTWARE of sysexits.h)
    UNWRITTEN = 74  #: what was to be said could not be written (EX_IOERR)
    PIPE = 141  #: the reader of standard output left first, as shells say it of SIGPIPE


def describe(error: Exception) -> tuple[Exit, list[str]]:
    """The exit code and sentences of an exception; only what nobody foresaw is called a fault of Orrery."""
    from orrery.api.load import ManifestError
    from orrery.costs.prices import PriceMissing
    from orrery.local.files import StateBusy, StateError
    from orrery.planning.candidates import InvalidPlan
    from orrery.probes.errors import ProbeError

    if isinstance(error, ManifestError):
        prefix = f"{error.where}: " if error.where else ""
        return Exit.BAD_INPUT, [f"{prefix}{problem}" for problem in error.problems]
    if isinstance(error, StateBusy):
        return Exit.BUSY, [str(error)]
    if isinstance(error, InvalidPlan):
        return Exit.BAD_INPUT, list(error.sentences)
    if isinstance(error, (ProbeError, PriceMissing, StateError)):
        return Exit.BAD_INPUT, [str(error)]
    if isinstance(error, UnicodeEncodeError):
        what = ascii(error.object[error.start : error.end])
        return Exit.BAD_INPUT, [f"{what} cannot be written in the encoding {error.encoding}: set LC_ALL=C.UTF-8"]
    if isinstance(error, OSError) and error.filename is not None:
        return Exit.BAD_INPUT, [_path(error)]
    if isinstance(error, OSError) and error.strerror is not None:
        return Exit.UNWRITTEN, [f"the output could not be written: {error.strerror}"]
    return Exit.FAULT, [
        f"Orrery failed where it should not ({type(error).__name__}: {error}); "
        "set ORRERY_DEBUG=1 to see where, and please report it"
    ]


def _path(error: OSError) -> str:
    """What is wrong with the path, and what to give instead.

    >>> _path(FileNotFoundError(2, "No such file or directory", "a.json"))
    "'a.json' does not exist: give the path of one that does"
    """
    where, said = f"'{error.filename}'", error.strerror or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"{where} does not exist: give the path of one that does"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{where} is a file, or lies below one, where a folder is needed: give another path"
    if isinstance(error, IsADirectoryError):
        return f"{where} is a folder where a file is needed: give the path of a file"
    if isinstance(error, PermissionError):
        return f"{where} may not be read or written ({said}): give another path, or change its permissions"
    return f"{where} cannot be used ({said}): give another path"


def without_extra(error: ImportError, extra: str = "operator") -> str:
    """The sentence of an import that the extra would have satisfied; a fault of Orrery's own is raised again.

    >>> without_extra(ModuleNotFoundError("No module named 'kopf'", name="kopf"))
    "kopf is not installed: pip install 'orrery[operator]'"
    """
    if error.name is None or error.name.partition(".")[0] == "orrery":
        raise error
    return f"{error.name} is not installed: pip install 'orrery[{extra}]'"
