"""`python -m tests.cluster up|down|status|build`: a cluster for a person, outside of pytest."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.options import Options
from tests.cluster.programs import ClusterError, cache_root, programs


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 on success, 1 with a sentence on stderr otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "start a cluster that runs until `down`"),
        ("down", "end it"),
        ("status", "say what runs"),
        ("build", "build the programs into the cache and start nothing"),
    ):
        command = commands.add_parser(name, help=text)
        if name != "build":
            command.add_argument(
                "--root", type=Path, default=cache_root() / "run", help="folder of this cluster (default: %(default)s)"
            )
        if name == "up":
            command.add_argument(
                "--mode", choices=("api", "full"), default="full", help="api: etcd and the API server alone"
            )
            command.add_argument(
                "--kubelet", action=argparse.BooleanOptionalAction, default=True, help="run Pods as local processes"
            )
            command.add_argument(
                "--audit", choices=("Metadata", "Request", "RequestResponse"), help="write ROOT/log/audit.log"
            )
    chosen = parser.parse_args(arguments)
    try:
        return {"up": _up, "down": _down, "status": _status, "build": _build}[chosen.command](chosen)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _up(chosen: argparse.Namespace) -> int:
    with contextlib.suppress(ClusterError):
        print(f"it runs already\nexport KUBECONFIG={Cluster.attach(chosen.root).kubeconfig}")
        return 0
    programs()  # outside of the measured start
    began = time.monotonic()
    cluster = Cluster(chosen.root, Options(mode=chosen.mode, kubelet=chosen.kubelet, audit=chosen.audit)).start(owner=0)
    print(f"the cluster is ready after {time.monotonic() - began:.1f} s", file=sys.stderr)
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _down(chosen: argparse.Namespace) -> int:
    if not (chosen.root / "supervisor.sock").exists():
        print(f"no cluster runs in {chosen.root}", file=sys.stderr)
        return 0
    Cluster(chosen.root).stop()
    return 0


def _status(chosen: argparse.Namespace) -> int:
    cluster = Cluster.attach(chosen.root)
    for name, pid in cluster.processes().items():
        print(f"{name:28} pid {pid}")
    print(f"export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _build(_: argparse.Namespace) -> int:
    print(programs().folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
