"""A real Kubernetes 1.20 on this machine: `Cluster(root).start()`, then any client with `cluster.kubeconfig`.

Several clusters run side by side: ports are drawn free and held. Processes belong to the cluster's supervisor (see supervisor.py), so any
process can attach to a running cluster, pause its etcd or kill its API server, and none is left over when its owner dies.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.cluster import components
from tests.cluster.options import KubeletOptions, Options
from tests.cluster.pki import kubeconfig_text, make_pki
from tests.cluster.programs import REPOSITORY, ClusterError, Programs, programs
from tests.cluster.rest import ApiError, Rest
from tests.cluster.supervisor import ask

#: Ten times what an idle machine needs.
READY_SECONDS = 240.0
PORTS = ("apiserver", "etcd", "etcd_peer", "controller", "scheduler")


class Cluster:
    """One cluster in the folder `root`: certificates, logs, etcd's data, volumes and kubeconfig are all in it."""

    owned = True

    def __init__(self, root: Path | str, options: Options | None = None) -> None:
        self.root = Path(root).resolve()
        self.options = options or Options()
        self._ports: dict[str, int] = {}
        self._supervisor: subprocess.Popen[bytes] | None = None

    @classmethod
    def attach(cls, root: Path | str) -> Cluster:
        """The cluster that another process started in `root`. Raises ClusterError when none runs there."""
        cluster = cls(root)
        try:
            state = json.loads((cluster.root / "cluster.json").read_text())
            ask(cluster.root, "status")
        except OSError as error:
            raise ClusterError(
                f"no cluster runs in {root}: start one with `python -m tests.cluster up --root {root}`"
            ) from error
        cluster.options, cluster._ports = Options.from_json(state["options"]), state["ports"]
        return cluster

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, self-contained."""
        return self.root / "kubeconfig"

    @property
    def server_url(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self._ports['apiserver']}"

    @property
    def rest(self) -> Rest:
        """A small client with the administrator's rights."""
        pki = self.root / "pki"
        return Rest(self.server_url, pki / "ca.crt", pki / "admin.crt", pki / "admin.key")

    @property
    def audit_log(self) -> Path:
        """One JSON event a line, when Options.audit is set."""
        return self.root / "log" / "audit.log"

    @property
    def programs(self) -> Programs:
        """The built programs; `cluster.programs.kubectl` is a path."""
        return programs()

    def volume(self, namespace: str, claim: str) -> Path:
        """The folder that a PersistentVolumeClaim is; a test may fill it before the Pod starts."""
        folder = self.root / "pvc" / namespace / claim
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, name: str, lines: int = 40) -> str:
        """The last lines of a component's log (etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet-NODE)."""
        path = self.root / "log" / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.is_file() else ""

    # --- life ---------------------------------------------------------------------------------------------------------------------

    def start(self, owner: int | None = None) -> Cluster:
        """Starts the cluster and waits until it is ready (about 7 s; 4 s in api mode). Builds the programs first if need be.

        owner: the process whose death ends the cluster, by default this one; 0 for none (it runs until `stop`).
        """
        built = programs()
        if (self.root / "supervisor.sock").exists():
            with contextlib.suppress(OSError):
                ask(self.root, "status")
                raise ClusterError(f"a cluster runs in {self.root} already: attach to it, or stop it first")
        for name in ("etcd-data", "kubelet", "pvc", "log"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        (self.root / "log").mkdir(parents=True, exist_ok=True)
        make_pki(self.root / "pki", built.path("openssl"))
        self._start_supervisor(os.getpid() if owner is None else owner)
        try:
            drawn = ask(self.root, "reserve", count=len(PORTS))
            self._ports = dict(zip(PORTS, drawn, strict=True))
            pki = self.root / "pki"
            self.kubeconfig.write_text(
                kubeconfig_text(self.server_url, pki / "ca.crt", pki / "admin.crt", pki / "admin.key")
            )
            (self.root / "cluster.json").write_text(
                json.dumps({"options": self.options.as_json(), "ports": self._ports})
            )
            self._run("etcd")
            self._run("kube-apiserver")
            self.wait_ready()
            if self.options.mode == "full":
                self._run("kube-controller-manager")
                self._run("kube-scheduler")
                if self.options.kubelet:
                    self.kubelet().start(wait=False)
                self._wait(
                    "the default ServiceAccount",
                    lambda: bool(self.rest.get("/api/v1/namespaces/default/serviceaccounts/default")),
                )
                if self.options.kubelet:
                    self.kubelet().wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends every process of the cluster; logs and kubeconfig stay. Harmless when it is stopped already."""
        try:
            ask(self.root, "shutdown")
        except OSError:
            return  # none runs
        self._wait_supervisor()
        (self.root / "supervisor.sock").unlink(missing_ok=True)
        shutil.rmtree(self.root / "kubelet", ignore_errors=True)
        shutil.rmtree(self.root / "etcd-data", ignore_errors=True)

    def __enter__(self) -> Cluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def processes(self) -> dict[str, int]:
        """Name and pid of each component that runs, the supervisor included."""
        status = ask(self.root, "status")
        found = {name: int(entry["pid"]) for name, entry in status.items() if entry["exit_code"] is None}
        return {"supervisor": int((self.root / "supervisor.pid").read_text()), **found}

    # --- interruptions ------------------------------------------------------------------------------------------------------------

    def kill_apiserver(self) -> None:
        """The API server is gone at once (SIGKILL)."""
        ask(self.root, "stop", name="kube-apiserver", grace=0)

    def start_apiserver(self) -> None:
        """Starts the API server again on the same port and waits until it is ready."""
        self._run("kube-apiserver")
        self.wait_ready()

    def restart_apiserver(self, down_seconds: float = 0.0, graceful: bool = False) -> float:
        """Stops the API server (SIGKILL, or SIGTERM when graceful), starts it again, waits until ready. Gives the seconds it was away."""
        began = time.monotonic()
        ask(self.root, "stop", name="kube-apiserver", grace=20.0 if graceful else 0)
        time.sleep(down_seconds)
        self.start_apiserver()
        return time.monotonic() - began

    def pause_etcd(self, seconds: float) -> None:
        """Freezes etcd (SIGSTOP) for `seconds`: every read that must be consistent and every write hangs, watches fall silent."""
        self._signal("etcd", signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._signal("etcd", signal.SIGCONT)

    def pause(self, name: str) -> None:
        """Freezes any component by name until `resume`."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Ends `pause`."""
        self._signal(name, signal.SIGCONT)

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Waits for the API server's /readyz."""
        self._wait("the API server", lambda: self.rest.text("/readyz", timeout=5) == "ok", seconds)

    def kubelet(self, node: str = "node-0", options: KubeletOptions | None = None) -> KubeletHandle:
        """The process kubelet of one node; `start` registers the node. More nodes are more names."""
        return KubeletHandle(self, node, options or self.options.kubelet_options)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with a token of an existing ServiceAccount: what that account may do, the real authorizer says."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [], "expirationSeconds": 86400},
        }
        token = self.rest.post(path, body)["status"]["token"]
        target = self.root / f"kubeconfig-{namespace}-{name}"
        target.write_text(kubeconfig_text(self.server_url, self.root / "pki" / "ca.crt", token=token))
        target.chmod(0o600)
        return target

    # --- inside -------------------------------------------------------------------------------------------------------------------

    def _run(self, name: str) -> None:
        argv = components.ARGUMENTS[name](components.Place(self.root, self._ports, self.options, programs()))
        ask(self.root, "start", name=name, argv=argv)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if not ask(self.root, "signal", name=name, number=int(number)):
            raise ClusterError(
                f"{name} of the cluster in {self.root} does not run; its log ends:\n{self.log(name, 10)}"
            )

    def _wait(self, what: str, ready: components.Check, seconds: float = READY_SECONDS) -> None:
        deadline, problem = time.monotonic() + seconds, "no answer"
        while time.monotonic() < deadline:
            try:
                if ready():
                    return
            except (OSError, ApiError, http.client.HTTPException) as error:
                problem = str(error)
            ended = {
                name: entry["exit_code"]
                for name, entry in ask(self.root, "status").items()
                if entry["exit_code"] is not None
            }
            for name, code in ended.items():
                raise ClusterError(
                    f"{name} ended with exit code {code} while waiting for {what}; its log ends:\n{self.log(name, 15)}"
                )
            time.sleep(0.05)
        raise ClusterError(
            f"{what} was not ready after {seconds:.0f} s ({problem}); see the logs in {self.root / 'log'}"
        )

    def _start_supervisor(self, owner: int) -> None:
        argv = [sys.executable, "-m", "tests.cluster.supervisor", str(self.root), *([str(owner)] if owner else [])]
        (self.root / "supervisor.sock").unlink(missing_ok=True)
        with (self.root / "log" / "supervisor.log").open("ab") as output:
            child = subprocess.Popen(
                argv, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._supervisor = child
        (self.root / "supervisor.pid").write_text(str(child.pid))
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                ask(self.root, "status")
                return
            if child.poll() is not None:
                break
            time.sleep(0.02)
        raise ClusterError(f"the cluster's supervisor did not start; its log ends:\n{self.log('supervisor')}")

    def _wait_supervisor(self) -> None:
        """Waits for the supervisor's end, whoever started it; kills it when it hangs (its children carry PR_SET_PDEATHSIG)."""
        if self._supervisor is not None:
            try:
                self._supervisor.wait(60)
            except subprocess.TimeoutExpired:
                self._supervisor.kill()
                self._supervisor.wait()
            return
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.pidfd_open(int((self.root / "supervisor.pid").read_text()))
            try:
                if not select.select([descriptor], [], [], 60)[0]:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


class KubeletHandle:
    """Start, stop and loss of one node."""

    def __init__(self, cluster: Cluster, node: str, options: KubeletOptions) -> None:
        self.cluster, self.node, self.options = cluster, node, options
        self.name = f"kubelet-{node}"

    def start(self, wait: bool = True) -> KubeletHandle:
        """Starts the kubelet; the node is Ready in less than a second."""
        root = self.cluster.root
        port = ask(root, "reserve", count=1)[0]
        settings = root / "kubelet" / f"{self.node}.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(
            json.dumps(components.kubelet_settings(self.cluster.server_url, root, self.node, port, self.options))
        )
        ask(
            root, "start", name=self.name, argv=[sys.executable, "-m", "tests.cluster.kubelet", str(settings)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Waits until the node is Ready and untainted, so that the scheduler will use it."""

        def ready() -> bool:
            node = self.cluster.rest.get(f"/api/v1/nodes/{self.node}")
            conditions = {entry["type"]: entry["status"] for entry in node["status"].get("conditions", [])}
            return conditions.get("Ready") == "True" and not node["spec"].get("taints")

        self.cluster._wait(f"the node {self.node}", ready, seconds)

    def stop(self) -> None:
        """Ends the kubelet with SIGTERM; its containers end with it, the Node object stays (and is NotReady after the grace)."""
        ask(self.cluster.root, "stop", name=self.name, grace=10.0)

    def kill(self, forget: bool = False) -> None:
        """The node is gone at once, with every container on it. `forget` also deletes the Node object, as a cloud does for a lost machine."""
        ask(self.cluster.root, "stop", name=self.name, grace=0)
        if forget:
            with contextlib.suppress(ApiError):
                self.cluster.rest.delete(f"/api/v1/nodes/{self.node}")

    @property
    def running(self) -> bool:
        """Whether the kubelet's process lives."""
        return self.name in self.cluster.processes()
