"""The kubelet's settings, read from the file that the cluster harness writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.rest import Rest


@dataclass(frozen=True)
class Settings:
    """One node's settings; see tests.cluster.options.KubeletOptions for the meaning of those that can be chosen."""

    server: str
    node: str
    port: int
    root: Path
    pki: Path
    claims: Path
    isolation: str
    gpus: int
    labels: dict[str, str]
    entrypoints: dict[str, str]
    environment: dict[str, str]
    backoff_seconds: float
    heartbeat_seconds: float
    visible: tuple[str, ...]

    @staticmethod
    def read(path: Path) -> Settings:
        """Parses the settings file."""
        data: dict[str, Any] = json.loads(path.read_text())
        for name in ("root", "pki", "claims"):
            data[name] = Path(data[name])
        return Settings(**{**data, "visible": tuple(data["visible"])})

    def rest(self) -> Rest:
        """A client with the administrator's rights."""
        return Rest(self.server, self.pki / "ca.crt", self.pki / "admin.crt", self.pki / "admin.key")

    def entrypoint(self, image: str) -> list[str]:
        """The command of a container that names none: by the image's repository, tag and digest apart, longest ending first.

        Raises LookupError when no entry point was configured for the image.
        """
        repository = image.split("@")[0]
        head, _, tail = repository.rpartition("/")
        repository = f"{head}/{tail.split(':')[0]}" if head else tail.split(":")[0]
        for name in sorted(self.entrypoints, key=len, reverse=True):
            if repository == name or repository.endswith("/" + name):
                return self.entrypoints[name].split()
        raise LookupError(
            f"the image {image} has no entry point here: give the container a command, or add the image to KubeletOptions.entrypoints"
        )
