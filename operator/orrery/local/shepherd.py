"""Watches one probe process, and outlives the program that started it.

A probe that has been paid for must not be lost because ``orrery run`` was killed, and must not run past its reservation
because nobody was left to stop it. So each attempt has a shepherd of its own: a small process in its own session, that
holds the attempt's lock, ends the probe at its deadline, and writes how it ended. The next run finds the lock held and
waits, or finds the ending and counts it. The probe in turn dies with its shepherd (PR_SET_PDEATHSIG, Linux), so that
nothing runs unwatched.

A script for ``python -I``: it imports the standard library alone, so that starting it costs little. Its one argument is a
JSON object: ``command``, ``folder``, ``deadlineSeconds``, ``graceSeconds``, ``memoryBytes`` (or null).
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

DEATH_SIGNAL_OPTION = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def started_ticks(process: int) -> int | None:
    """When the process started, in clock ticks since boot; tells it from a later one of the same number."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])


def boot() -> str:
    """Identifies this boot of the machine, or is empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def write(path: Path, value: dict[str, Any]) -> None:
    """As ``files.write_json``, which ``python -I`` cannot import."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _limits(memory_bytes: int | None) -> None:
    """In the probe before it starts: die with the shepherd, and have no more memory than allowed."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(DEATH_SIGNAL_OPTION, signal.SIGKILL)
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def watch(order: dict[str, Any]) -> None:
    """Run the command to its end or its deadline, and write ``started.json`` before and ``exit.json`` after."""
    folder = Path(order["folder"])
    cause = "Exited"
    asked: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, on_signal)  # end it, with time for a last report
    signal.signal(signal.SIGINT, on_signal)  # end it now
    write(
        folder / "started.json",
        {"pid": os.getpid(), "startTicks": started_ticks(os.getpid()), "bootId": boot(), "startedAt": time.time()},
    )
    begin = time.monotonic()
    deadline = begin + order["deadlineSeconds"]
    kill_at = deadline
    try:
        process = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: _limits(order.get("memoryBytes")),
        )
    except OSError as error:
        print(f"orrery: the probe command does not start: {error}", file=sys.stderr)
        write(folder / "exit.json", {"code": 127, "cause": "NotExecutable", "seconds": 0.0, "finishedAt": time.time()})
        return
    # The deadline is when the last process is gone, since that is what was reserved: ask a little earlier.
    term_at = deadline - min(order["graceSeconds"], order["deadlineSeconds"] / 4)
    termed = False
    while True:
        try:
            code = process.wait(timeout=0.05)
            break
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        if not termed and (asked or now >= term_at):
            cause = "Terminated" if asked else "DeadlineExceeded"
            termed = True
            kill_at = min(deadline, now + order["graceSeconds"])
            _signal_group(process, signal.SIGTERM)
        if now >= kill_at or signal.SIGINT in asked:
            cause = cause if termed else "Terminated"
            _signal_group(process, signal.SIGKILL)
    _signal_group(process, signal.SIGKILL)  # whatever the probe left running
    write(
        folder / "exit.json",
        {
            "code": code,
            "cause": cause,
            "seconds": round(time.monotonic() - begin, 3),
            "finishedAt": time.time(),
            "peakMemoryBytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        },
    )


if __name__ == "__main__":
    watch(json.loads(sys.argv[1]))
