"""A container's memory limit, by a control group where this machine lets us make one (as root, version 1 or 2), else not enforced.

It is what makes an out-of-memory end real: the kernel kills the process, the exit code is 137 and the reason OOMKilled.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubelet.environment import amount
from tests.cluster.rest import Json

VERSION_1 = Path("/sys/fs/cgroup/memory")
VERSION_2 = Path("/sys/fs/cgroup")
PREFIX = "orrery-test-"


@dataclass
class MemoryLimit:
    """The control group of one container; `folder` is None when there is no limit or none can be set."""

    folder: Path | None = None

    @staticmethod
    def of(container: Json, name: str) -> MemoryLimit:
        """The group for resources.limits.memory of this container."""
        wanted = (container.get("resources", {}).get("limits") or {}).get("memory")
        if wanted is None or os.geteuid() != 0:
            return MemoryLimit()
        first = (VERSION_1 / "memory.limit_in_bytes").exists()
        folder = (VERSION_1 if first else VERSION_2) / (PREFIX + name)
        try:
            folder.mkdir(exist_ok=True)
            (folder / ("memory.limit_in_bytes" if first else "memory.max")).write_text(str(int(amount(wanted))))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            return MemoryLimit()
        with contextlib.suppress(OSError):  # absent where swap is not accounted
            (folder / ("memory.memsw.limit_in_bytes" if first else "memory.swap.max")).write_text(
                str(int(amount(wanted))) if first else "0"
            )
        return MemoryLimit(folder)

    def wrap(self, argv: list[str]) -> list[str]:
        """The command, entering the group before it starts."""
        if self.folder is None:
            return argv
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(self.folder), *argv]

    def close(self) -> bool:
        """Removes the group; True if the kernel killed something in it for want of memory."""
        if self.folder is None:
            return False
        killed = 0
        for name in ("memory.oom_control", "memory.events"):
            with contextlib.suppress(OSError):
                for line in (self.folder / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    killed += int(value) if key == "oom_kill" else 0
        for _ in range(20):
            try:
                self.folder.rmdir()
                break
            except OSError:  # the last process is still being torn down
                time.sleep(0.02)
        return killed > 0
