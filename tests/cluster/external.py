"""Somebody's own cluster (kind, k3d, any), chosen by KUBECONFIG: used as it is, never started, stopped or interrupted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import yaml

from tests.cluster.programs import ClusterError


class ExternalCluster:
    """The part of Cluster's face that any cluster has; what needs the harness's own processes refuses with a sentence."""

    owned = False

    def __init__(self, kubeconfig: Path | str) -> None:
        self.kubeconfig = Path(kubeconfig).expanduser().resolve()
        if not self.kubeconfig.is_file():
            raise ClusterError(
                f"KUBECONFIG names {kubeconfig}, which is no file: correct it, or unset it to let the tests start a cluster"
            )

    @staticmethod
    def from_environment() -> ExternalCluster | None:
        """The cluster that KUBECONFIG names, None when it is not set."""
        chosen = os.environ.get("KUBECONFIG")
        return ExternalCluster(chosen.split(os.pathsep)[0]) if chosen else None

    @property
    def server_url(self) -> str:
        """The address of the current context's API server."""
        data = yaml.safe_load(self.kubeconfig.read_text())
        context = next(entry["context"] for entry in data["contexts"] if entry["name"] == data["current-context"])
        return str(
            next(entry["cluster"]["server"] for entry in data["clusters"] if entry["name"] == context["cluster"])
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ClusterError(
            f"the cluster of KUBECONFIG is not ours to interrupt, so it has no {name}: unset KUBECONFIG for this test"
        )
