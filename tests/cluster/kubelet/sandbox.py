"""Where a container runs: in a copy-on-write overlay of this machine's root filesystem, or, where that is not allowed, as a plain process.

Overlay: own mount, process and host-name namespaces; volumes are really mounted at their mountPath, what else the container writes is its own and
goes with it. It needs root: in a user namespace the kernel refuses / as a lower layer, because mounts below it are locked.
None: one plain process; mount paths and the termination message path that occur in the command, its arguments and the environment are rewritten
to the real folders, and TERMINATION_MESSAGE_PATH and VOLUME_<NAME> say where they are.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubelet.settings import Settings

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DIE_WITH_KUBELET = ["setpriv", "--pdeathsig", "KILL", "--"]


@dataclass(frozen=True)
class Mount:
    """One volume in one container."""

    source: Path
    target: str
    read_only: bool
    volume: str = ""


@dataclass(frozen=True)
class Launch:
    """A container to be started: `folder` is its own (overlay layers, termination message)."""

    folder: Path
    argv: list[str]
    environment: dict[str, str]
    mounts: list[Mount]
    working_directory: str
    termination_path: str
    hostname: str

    @property
    def message(self) -> Path:
        """The termination message, as the kubelet reads it after the container's end."""
        return self.folder / "termination-log"

    @property
    def entered(self) -> Path:
        """Exists once everything was mounted: without it the container never started."""
        return self.folder / "entered"


class Sandbox:
    """Turns a Launch into a process's command line and environment."""

    isolated = False

    def command(self, launch: Launch) -> tuple[list[str], dict[str, str] | None, str]:
        """(argv, environment or None for this process's own, working directory)."""
        launch.entered.touch()
        paths = {mount.target.rstrip("/"): str(mount.source) for mount in launch.mounts} | {
            launch.termination_path: str(launch.message)
        }
        environment = {name: rewrite(value, paths) for name, value in launch.environment.items() if name != "PATH"}
        environment |= {"PATH": launch.environment["PATH"], "TERMINATION_MESSAGE_PATH": str(launch.message)}
        environment |= {
            "VOLUME_" + re.sub(r"\W", "_", mount.volume).upper(): str(mount.source) for mount in launch.mounts
        }
        directory = rewrite(launch.working_directory, paths)
        program = shutil.which(launch.argv[0], path=launch.environment["PATH"]) or launch.argv[0]
        return [*DIE_WITH_KUBELET, program, *(rewrite(word, paths) for word in launch.argv[1:])], environment, directory


def rewrite(text: str, paths: dict[str, str]) -> str:
    """Replaces the paths that begin with one of `paths` (longest first) where a path can begin: at the start, or after a sign.

    >>> rewrite("--data=/data/a.csv,/database", {"/data": "/tmp/v"})
    '--data=/tmp/v/a.csv,/database'
    """
    for target in sorted((path for path in paths if path), key=len, reverse=True):
        replacement = paths[target].replace("\\", r"\\")
        text = re.sub(rf"(?<![\w./-]){re.escape(target)}(?![\w.-])", replacement, text)
    return text


class Overlay(Sandbox):
    """The overlay of /. `memory`: layers on tmpfs, where the disk's filesystem cannot hold an upper layer (it is an overlay itself)."""

    isolated = True

    def __init__(self, visible: tuple[str, ...], memory: bool) -> None:
        self.memory = memory
        self.visible = tuple(sorted({path for path in visible if Path(path).exists()}, key=len))
        root = (
            Path("/").stat().st_dev
        )  # an overlay of / does not show what is mounted below it: those folders get overlays of their own
        outside = [path for path in visible if Path(path).exists() and Path(path).stat().st_dev != root]
        self.outside = [
            path for path in sorted(set(outside), key=len) if not any(path.startswith(other + "/") for other in outside)
        ]

    def command(self, launch: Launch) -> tuple[list[str], dict[str, str] | None, str]:
        """See Sandbox.command; everything happens in a shell inside of the new namespaces, which the container replaces."""
        launch.folder.mkdir(parents=True, exist_ok=True)
        launch.message.touch()
        launch.message.chmod(0o666)
        script = launch.folder / "start.sh"
        script.write_text(self.script(launch))
        unshare = ["unshare", "--mount", "--uts", "bash", str(script)]
        return [*DIE_WITH_KUBELET, *unshare, *launch.argv], None, "/"

    def script(self, launch: Launch) -> str:
        """The shell script that mounts and enters the root filesystem; the container's command is its "$@".

        Its last step is a new process namespace whose process 1 becomes the container. `unshare --fork` would be shorter, but answers
        exit code 1 for a child that was killed by SIGKILL, and 137 is what an out-of-memory end must look like.
        """
        quote = shlex.quote
        base, root = str(launch.folder / "layers"), str(launch.folder / "root")
        lines = [
            "set -e",
            "PATH=$PATH:/usr/sbin:/sbin; chroot=$(command -v chroot)",
            f"mkdir -p {quote(base)} {quote(root)}",
            f"cd {quote(str(launch.folder))}",
        ]
        if self.memory:
            lines.append("mount -t tmpfs tmpfs layers")
        lines += self._overlay("/", "layers/root", "root")
        lines += [
            line for i, path in enumerate(self.outside) for line in self._overlay(path, f"layers/{i}", f"root{path}")
        ]
        lines += [
            "mount -t tmpfs tmpfs root/run",
            "mount -t tmpfs -o mode=755 tmpfs root/dev",
        ]
        lines += [f"touch root/dev/{name}; mount --bind /dev/{name} root/dev/{name}" for name in DEVICES]
        lines += [
            "mkdir root/dev/shm; mount -t tmpfs -o mode=1777 tmpfs root/dev/shm",
            "ln -s /proc/self/fd root/dev/fd",
        ]
        lines += [f"ln -s /proc/self/fd/{i} root/dev/{name}" for i, name in enumerate(("stdin", "stdout", "stderr"))]
        for mount in sorted(launch.mounts, key=lambda mount: len(mount.target)):
            lines += self._bind(str(mount.source), inside(mount.target), mount.read_only)
        # a checkout below /tmp must stay visible although the Pod mounts a volume there
        for path in self.visible:
            if any(f"{path}/".startswith(mount.target.rstrip("/") + "/") for mount in launch.mounts):
                lines += self._bind(path, inside(path), True)
        lines += self._bind(str(launch.message), inside(launch.termination_path), False)
        lines += [
            f"mkdir -p {quote(inside(launch.working_directory))}",
            f"hostname {quote(launch.hostname[:63])}",
        ]
        variables = " ".join(quote(f"{name}={value}") for name, value in launch.environment.items())
        change = f'cd {quote(launch.working_directory)} && exec "$@"'
        enter = f'exec env -i {variables} "$chroot" {quote(root)} /bin/sh -c {quote(change)} sh "$@"'
        first = f"mount -t proc proc root/proc && touch {quote(str(launch.entered))} && {enter}"
        wait = f'exec 9>&2 2>/dev/null; setpriv --pdeathsig KILL -- sh -c {quote(first)} sh "$@" 2>&9 9>&-; exit $?'
        lines += ["export chroot", f'exec unshare --pid bash -c {quote(wait)} bash "$@"']
        return "\n".join(lines)

    def _overlay(self, lower: str, layer: str, target: str) -> list[str]:
        quote = shlex.quote
        options = f"lowerdir={lower},upperdir={layer}/upper,workdir={layer}/work"
        return [
            f"mkdir -p {layer}/upper {layer}/work {quote(target)}",
            f"mount -t overlay overlay -o {quote(options)} {quote(target)}",
        ]

    def _bind(self, source: str, target: str, read_only: bool) -> list[str]:
        s, t, parent = shlex.quote(source), shlex.quote(target), shlex.quote(os.path.dirname(target))  # noqa: PTH120
        lines = [
            f"if [ -d {s} ]; then mkdir -p {t}; else mkdir -p {parent}; [ -e {t} ] || touch {t}; fi",
            f"mount --bind {s} {t}",
        ]
        return [*lines, f"mount -o remount,bind,ro {t}"] if read_only else lines


def inside(target: str) -> str:
    """The path below root/ that a path of the container means, with links followed first: root/var/run would lead out, to this machine's /run."""
    return "root" + os.path.realpath(target)


def choose_sandbox(settings: Settings) -> Sandbox:
    """The best this machine allows, found by trying: overlay on disk, overlay in memory, none. Raises RuntimeError if "overlay" was asked for."""
    if settings.isolation == "none":
        return Sandbox()
    for memory in (False, True):
        candidate = Overlay(settings.visible, memory)
        if _works(candidate, settings.root):
            return candidate
    if settings.isolation == "overlay":
        raise RuntimeError(
            'the isolation "overlay" does not work here (it needs root and overlayfs): use "auto" or "none"'
        )
    return Sandbox()


def _works(candidate: Overlay, root: Path) -> bool:
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=root, prefix="try-"))
    try:
        argv, _, directory = candidate.command(
            Launch(folder, ["true"], {"PATH": "/usr/bin:/bin"}, [], "/", "/dev/termination-log", "try")
        )
        done = subprocess.run(argv, cwd=directory, capture_output=True, timeout=30, check=False)
        return done.returncode == 0 and (folder / "entered").exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
