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
    if isinstance(error, (ProbeError, PriceMissing, InvalidPlan, StateError)):
        return Exit.BAD_INPUT, [str(error)]
    if isinstance(error, OSError) and error.filename is not None:
        return Exit.BAD_INPUT, [f"{error.filename}: {error.strerror}"]
    return Exit.FAULT, [
        f"Orrery failed where it should not ({type(error).__name__}: {error}); "
        "set ORRERY_DEBUG=1 to see where, and please report it"
    ]


def without_extra(error: ImportError, extra: str = "operator") -> str:
    """The sentence of an import that the extra would have satisfied; a fault of Orrery's own is raised again.

    >>> without_extra(ModuleNotFoundError("No module named 'kopf'", name="kopf"))
    "kopf is not installed: pip install 'orrery[operator]'"
    """
    if error.name is None or error.name.partition(".")[0] == "orrery":
        raise error
    return f"{error.name} is not installed: pip install 'orrery[{extra}]'"
