"""The command lines of the cluster's components."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.cluster.options import KubeletOptions, Options
from tests.cluster.programs import Programs

Check = Callable[[], bool]

# Both are the rule in a current cluster: Jobs end by their time to live, tokens are mounted as projected volumes.
FEATURES = "TTLAfterFinished=true,BoundServiceAccountTokenVolume=true"


@dataclass(frozen=True)
class Place:
    """What every command line is made from."""

    root: Path
    ports: dict[str, int]
    options: Options
    programs: Programs

    def pki(self, name: str) -> str:
        """A file of the cluster's keys and certificates."""
        return str(self.root / "pki" / name)


def etcd(place: Place) -> list[str]:
    """One member, on the loopback interface."""
    client, peer = (f"http://127.0.0.1:{place.ports[name]}" for name in ("etcd", "etcd_peer"))
    return [
        place.programs.path("etcd"), "--name=single", f"--data-dir={place.root / 'etcd-data'}",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=single={peer}",
        f"--quota-backend-bytes={8 << 30}",  # two thousand plans with their probes and Jobs pass the default of 2 GiB
        *([] if place.options.etcd_fsync else ["--unsafe-no-fsync"]),
    ]  # fmt: skip


def apiserver(place: Place) -> list[str]:
    """RBAC is on; ServiceAccount admission is off in api mode, where no controller makes the default accounts."""
    options, seconds = place.options, place.options.eviction_seconds
    return [
        place.programs.path("kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{place.ports['etcd']}",
        "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={place.ports['apiserver']}", "--insecure-port=0",
        "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true",
        "--authorization-mode=RBAC", f"--client-ca-file={place.pki('ca.crt')}",
        f"--tls-cert-file={place.pki('apiserver.crt')}", f"--tls-private-key-file={place.pki('apiserver.key')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={place.pki('sa.pub')}", f"--service-account-signing-key-file={place.pki('sa.key')}",
        f"--kubelet-client-certificate={place.pki('admin.crt')}", f"--kubelet-client-key={place.pki('admin.key')}",
        "--kubelet-preferred-address-types=InternalIP", f"--cert-dir={place.root / 'pki' / 'generated'}",
        f"--feature-gates={FEATURES}",
        f"--default-not-ready-toleration-seconds={seconds}", f"--default-unreachable-toleration-seconds={seconds}",
        *(["--disable-admission-plugins=ServiceAccount"] if options.mode == "api" else []),
        *_audit(place), *options.apiserver_arguments,
    ]  # fmt: skip


def _audit(place: Place) -> list[str]:
    if place.options.audit is None:
        return []
    policy = place.root / "audit-policy.json"
    rules = [{"level": place.options.audit, "omitStages": ["RequestReceived"]}]
    policy.write_text(json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules}))
    return [f"--audit-policy-file={policy}", f"--audit-log-path={place.root / 'log' / 'audit.log'}"]


def controller_manager(place: Place) -> list[str]:
    """Notices a lost node in seconds where a real cluster takes minutes, so that a test can wait for it."""
    options = place.options
    return [
        place.programs.path("kube-controller-manager"), f"--kubeconfig={place.root / 'kubeconfig'}", "--leader-elect=false",
        "--bind-address=127.0.0.1", f"--secure-port={place.ports['controller']}", "--port=0",
        f"--service-account-private-key-file={place.pki('sa.key')}", f"--root-ca-file={place.pki('ca.crt')}",
        f"--cert-dir={place.root / 'pki' / 'generated-controller'}", "--use-service-account-credentials=false",
        f"--feature-gates={FEATURES}", "--node-monitor-period=1s",
        f"--node-monitor-grace-period={options.node_grace_seconds}s", "--kube-api-qps=200", "--kube-api-burst=400",
        *options.controller_arguments,
    ]  # fmt: skip


def scheduler(place: Place) -> list[str]:
    """The real scheduler."""
    return [
        place.programs.path("kube-scheduler"), f"--kubeconfig={place.root / 'kubeconfig'}", "--leader-elect=false",
        "--bind-address=127.0.0.1", f"--secure-port={place.ports['scheduler']}", "--port=0", "--kube-api-qps=200", "--kube-api-burst=400",
    ]  # fmt: skip


ARGUMENTS: dict[str, Callable[[Place], list[str]]] = {
    "etcd": etcd,
    "kube-apiserver": apiserver,
    "kube-controller-manager": controller_manager,
    "kube-scheduler": scheduler,
}


def kubelet_settings(server: str, root: Path, node: str, port: int, options: KubeletOptions) -> dict[str, Any]:
    """The settings file that `python -m tests.cluster.kubelet` reads."""
    return {**asdict(options), "server": server, "node": node, "port": port, "root": str(root / "kubelet" / node), "pki": str(root / "pki"),
            "claims": str(root / "pvc")}  # fmt: skip
