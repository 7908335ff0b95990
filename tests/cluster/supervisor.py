"""One supervisor per cluster owns every process of it, so that none outlives the test that asked for it.

It ends everything when its owner (the pytest process, by pidfd) dies, however it dies; its children carry PR_SET_PDEATHSIG, so they die with the
supervisor even if that is killed; and it is a subreaper, so containers whose kubelet was killed come to it and are killed in turn.
Requests are JSON lines on the Unix socket ROOT/supervisor.sock; any process may send them, which is how `python -m tests.cluster down` and a
chaos test in another process reach a running cluster.

    python -m tests.cluster.supervisor ROOT [OWNER_PID]
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ORDER = ("kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")  # who is stopped first
_prctl = ctypes.CDLL(None, use_errno=True).prctl


def socket_path(root: Path, folder: int) -> str:
    """The socket's address by way of an open descriptor of ROOT: a Unix socket's path may have 107 bytes, a test's folder has more."""
    return f"/proc/self/fd/{folder}/supervisor.sock"


class Supervisor:
    """Starts, signals and reaps the processes of one cluster. Single-threaded: a child's death signal is bound to the thread that made it."""

    def __init__(self, root: Path, owner: int | None) -> None:
        self.root, self.owner = root, owner
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: list[socket.socket] = []
        self.stopping = False

    def run(self) -> None:
        """Serves until told to stop, signalled, or the owner is gone."""
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        with (
            selectors.DefaultSelector() as selector,
            socket.socket(socket.AF_UNIX) as server,
            _opened(self.root) as folder,
        ):
            with contextlib.suppress(ProcessLookupError):
                if self.owner is not None:
                    selector.register(os.pidfd_open(self.owner), selectors.EVENT_READ, "owner")
            if self.owner is not None and not selector.get_map():
                return
            (self.root / "supervisor.sock").unlink(missing_ok=True)
            server.bind(socket_path(self.root, folder))
            server.listen(16)
            selector.register(server, selectors.EVENT_READ, "server")
            try:
                while not self.stopping:
                    for key, _ in selector.select(timeout=0.5):
                        if key.data == "owner":
                            return
                        self._serve(server)
                    self._reap()
            finally:
                self._stop_all()
                (self.root / "supervisor.sock").unlink(missing_ok=True)

    def _on_signal(self, *_: object) -> None:
        self.stopping = True

    def _serve(self, server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, connection.makefile("rwb") as stream:
            connection.settimeout(10)
            try:
                request = json.loads(stream.readline())
                answer = {"ok": True, "value": getattr(self, "do_" + request.pop("do"))(**request)}
            except Exception as error:  # a bad request must not take the cluster down
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError):
                stream.write(json.dumps(answer).encode() + b"\n")
                stream.flush()

    def do_reserve(self, count: int) -> list[int]:
        """Free ports, held for the cluster's life by bound sockets that never listen, so that no neighbour draws the same ones.

        The programs can still listen on them: both sides set SO_REUSEADDR.
        """
        chosen = []
        for _ in range(count):
            holder = socket.socket()
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            self.ports.append(holder)
            chosen.append(holder.getsockname()[1])
        return chosen

    def do_start(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> int:
        """Starts `argv` as `name`, its output appended to ROOT/log/NAME.log."""
        if self._alive(name):
            raise ValueError(f"{name} is running already")
        log = self.root / "log" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            child = subprocess.Popen(
                argv, cwd=self.root, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.children[name] = child
        return child.pid

    def do_signal(self, name: str, number: int) -> bool:
        """Sends a signal to a child; False when it is not running."""
        if not self._alive(name):
            return False
        self.children[name].send_signal(number)
        return True

    def do_stop(self, name: str, grace: float = 10.0) -> int | None:
        """Ends a child: SIGTERM, then SIGKILL after `grace` seconds (0: at once). Gives its exit code, None if it was not running."""
        child = self.children.pop(name, None)
        if child is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGCONT)  # a paused process would not see the SIGTERM
            child.send_signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
        code = child.wait()
        self._kill_strays()
        return code

    def do_status(self) -> dict[str, Any]:
        """Each known child: its pid while it runs, its exit code once it ended."""
        return {name: {"pid": child.pid, "exit_code": child.poll()} for name, child in self.children.items()}

    def do_shutdown(self) -> None:
        """Ends the supervisor and everything it started, after this answer."""
        self.stopping = True

    def _alive(self, name: str) -> bool:
        return name in self.children and self.children[name].poll() is None

    def _stop_all(self) -> None:
        def rank(name: str) -> int:
            return next((i for i, prefix in enumerate(ORDER) if name.startswith(prefix)), 0)

        for name in sorted(self.children, key=rank):
            self.do_stop(name, grace=3.0 if name.startswith(("kube-apiserver", "etcd", "kubelet")) else 0)
        self._kill_strays()

    def _kill_strays(self) -> None:
        """Kills processes that came to the subreaper because their own parent (a kubelet) is gone."""
        for _ in range(50):
            known = {child.pid for child in self.children.values() if child.poll() is None}
            strays = _children_of_self() - known
            if not strays:
                return
            for pid in strays:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            self._reap()

    def _reap(self) -> None:
        known = {child.pid for child in self.children.values() if child.poll() is None}
        for pid in _children_of_self() - known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children_of_self() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def _die_with_parent() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def _opened(folder: Path) -> Any:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def ask(root: Path, do: str, timeout: float = 60, **arguments: Any) -> Any:
    """Sends one request to the supervisor of the cluster in `root`. Raises ConnectionError when none runs there."""
    with _opened(root) as folder, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        try:
            client.connect(socket_path(root, folder))
        except FileNotFoundError as error:
            raise ConnectionRefusedError(f"no cluster runs in {root}") from error
        with client.makefile("rwb") as stream:
            stream.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            stream.flush()
            line = stream.readline()
    if not line:
        raise ConnectionResetError(f"the supervisor of {root} ended before it answered {do}")
    answer = json.loads(line)
    if not answer["ok"]:
        raise RuntimeError(f"the supervisor of {root} refused {do}: {answer['error']}")
    return answer["value"]


if __name__ == "__main__":
    Supervisor(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else None).run()
