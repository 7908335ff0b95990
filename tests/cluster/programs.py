"""The cluster's programs: built once by build.sh into a cache folder that is named by the recipe's hash.

A changed recipe is a new folder, so an old cache is never wrong, only unused. The build happens in a scratch folder and is published by one
rename under a file lock: a killed build leaves scratch that the next build removes, and two builds never run at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = Path(__file__).with_name("build.sh")
CACHE_VARIABLE = "ORRERY_CLUSTER_CACHE"
# Ends the build's process group ($2) when the process that wants it ($1) is gone.
WATCH = 'while kill -0 "$1" && kill -0 -- "-$2"; do sleep 0.5; done 2>/dev/null; kill -KILL -- "-$2" 2>/dev/null'
NEEDED = ("bash", "apt-get", "dpkg-deb", "python3", "tar", "sed", "grep", "sha256sum", "xargs")


class ClusterError(RuntimeError):
    """The harness cannot do what was asked; the message says what to do instead."""


@dataclass(frozen=True)
class Programs:
    """Paths of the built programs."""

    folder: Path

    def __getattr__(self, name: str) -> str:
        return self.path(name.replace("_", "-"))

    def path(self, name: str) -> str:
        """The program's path in the cache, or on PATH for the few that the build leaves to the machine (openssl)."""
        built = self.folder / name
        if built.is_file():
            return str(built)
        found = shutil.which(name)
        if found is None:
            raise ClusterError(
                f"the program {name} is neither in {self.folder} nor on PATH: remove {self.folder.parent} to build it again"
            )
        return found


def cache_root() -> Path:
    """The folder of all builds: $ORRERY_CLUSTER_CACHE, or .cache/orrery-cluster in the repository."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().resolve() if chosen else REPOSITORY / ".cache" / "orrery-cluster"


def recipe_hash() -> str:
    """Names the build: 16 hexadecimal digits of build.sh's SHA-256, and the processor the programs are for."""
    return f"{hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:16]}-{platform.machine()}"


def programs(say: Callable[[str], None] = lambda line: print(line, file=sys.stderr)) -> Programs:
    """The programs, built first if this recipe was never built here (about three minutes on two free cores).

    Raises ClusterError, with what to do about it, when this machine cannot build them or the build fails.
    """
    folder = cache_root() / recipe_hash()
    if not folder.is_dir():
        with _lock(folder.with_suffix(".lock"), say) as lock:
            if not folder.is_dir():  # another process may have built it while this one waited
                _build(folder, lock, say)
    return Programs(folder / "bin")


def _build(folder: Path, lock: int, say: Callable[[str], None]) -> None:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        raise ClusterError(
            f"the test cluster cannot be built here, {', '.join(missing)} is missing: build on Debian 12, or set KUBECONFIG to a cluster"
        )
    scratch, log = folder.with_suffix(".building"), folder.with_suffix(".log")
    shutil.rmtree(scratch, ignore_errors=True)
    say(f"building the test cluster's programs into {folder} (a few minutes, once); log: {log}")
    try:
        with log.open("wb") as output:
            build = subprocess.Popen(
                ["nice", "-n", "10", "bash", str(RECIPE), str(scratch)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, pass_fds=[lock],
            )  # fmt: skip
        watch = subprocess.Popen(["sh", "-c", WATCH, "watch", str(os.getpid()), str(build.pid)], start_new_session=True)
        try:
            code = build.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(build.pid, signal.SIGKILL)
            watch.kill()
            watch.wait()
        if code != 0:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise ClusterError(f"building the test cluster failed with exit code {code} (log: {log}):\n{last}")
        published = folder.with_suffix(".publishing")
        shutil.rmtree(published, ignore_errors=True)
        published.mkdir()
        (scratch / "bin").rename(published / "bin")
        published.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _lock(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process builds the test cluster; waiting for {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle.fileno()  # released when this process and a build that it started have both ended, however they end
