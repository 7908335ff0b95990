"""The real operator as a process that can be killed: `orrery operator`, pointed at the proxy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class OperatorProcess:
    """One operator after another, with the same settings; ``server`` is a plain URL, or the path of a kubeconfig."""

    folder: Path
    server: str | Path
    environment: Mapping[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()  #: words before the command, such as a profiler's
    starts: int = 0
    exits: list[int] = field(default_factory=list)  #: status of each that ended by itself
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> OperatorProcess:
        """Start the next one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(self.server.read_text() if isinstance(self.server, Path) else _kubeconfig(self.server))
        self.metrics_port, self.health_port = _free_port(), _free_port()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ORRERY_")},
            "KUBECONFIG": str(kubeconfig),
            "ORRERY_PROBE_IMAGE": "orrery/probe:test",
            "ORRERY_METRICS_PORT": str(self.metrics_port),
            "ORRERY_HEALTH_PORT": str(self.health_port),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **self.environment,
        }
        self.starts += 1
        with (self.folder / "operator.log").open("ab") as log:
            self._process = subprocess.Popen(
                # the kernel ends it with whoever started it, however that dies
                [
                    *("setpriv", "--pdeathsig", "KILL", "--", *self.wrapper),
                    *(str(Path(sys.executable).parent / "orrery"), "operator"),
                ],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it lives."""
        return self._process is not None and self._process.poll() is None

    def keep_alive(self) -> None:
        """Start it again when it has ended by itself, as its Deployment would."""
        process = self._process
        if process is not None and (status := process.poll()) is not None:
            self.exits.append(status)
            self.start()

    def kill(self) -> None:
        """SIGKILL: it does nothing more."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP: it hangs as on a node that hangs, and will go on with what it believed before."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def metrics(self) -> str:
        """The text of /metrics; empty when it does not answer."""
        address = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
            return str(answer.read().decode())
        return ""

    def peak_mebibytes(self) -> float:
        """Most resident memory of the running process so far."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def processor_seconds(self) -> float:
        """User and system time of the running process so far."""
        return processor_seconds(self.pid)

    def log(self, lines: int = 40) -> str:
        """The last lines of what all of them said."""
        path = self.folder / "operator.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else ""

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _kubeconfig(server: str) -> str:
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n"
        f"clusters: [{{name: here, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: operator, user: {token: passed-by-the-proxy}}]\n"
        "contexts: [{name: here, context: {cluster: here, user: operator, namespace: default}}]\n"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
