"""Peak memory of one trial."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Context manager; afterwards ``bytes`` is the most memory that was in use inside.

    On CUDA: ``torch.cuda.max_memory_allocated``, tensors alone, reset at the start. On CPU: the resident set's
    high-water mark of the whole process (interpreter, libraries and the model included), reset at the start through
    ``/proc/self/clear_refs``. Where the kernel forbids the reset the mark is that of the process so far, so a trial after
    a larger one shows the larger one's peak. Memory that an allocator keeps from an earlier trial counts as in use.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self.bytes: int | None = None

    def __enter__(self) -> Self:
        if self._cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            with contextlib.suppress(OSError):
                _CLEAR.write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._cuda:
            import torch

            self.bytes = int(torch.cuda.max_memory_allocated())
        else:
            self.bytes = _high_water_mark()


def _high_water_mark() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
