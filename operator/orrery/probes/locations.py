"""Where the sources of a plan are on this machine: volumes, ConfigMaps, the asset cache.

A Pod mounts each claim under one root; ``orrery run`` and the tests map them to folders. No path may leave its volume,
not even by a symbolic link: data of another tenant must not be read through a crafted dataset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orrery.api.sources import ConfigMapSource, LocalSource, VolumeSource
from orrery.probes.errors import ProbeError


def default_cache() -> Path:
    """``$ORRERY_CACHE``, else ``$XDG_CACHE_HOME/orrery``, else ``~/.cache/orrery``."""
    if explicit := os.environ.get("ORRERY_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "orrery"


@dataclass(frozen=True)
class SourceRoots:
    """Folders that the sources' paths start from; a claim or ConfigMap that is not mapped lies under its root."""

    pvc: Mapping[str, Path] = field(default_factory=dict)
    config_map: Mapping[str, Path] = field(default_factory=dict)
    pvc_root: Path = Path("/volumes/pvc")
    config_map_root: Path = Path("/volumes/configmap")
    local: Path = Path()
    cache: Path = field(default_factory=default_cache)

    @classmethod
    def from_environment(cls, local: Path | None = None) -> SourceRoots:
        """As the environment says: ``ORRERY_PVC_ROOT``, ``ORRERY_CONFIGMAP_ROOT``, ``ORRERY_LOCAL_ROOT``, ``ORRERY_CACHE``."""
        return cls(
            pvc_root=Path(os.environ.get("ORRERY_PVC_ROOT", "/volumes/pvc")),
            config_map_root=Path(os.environ.get("ORRERY_CONFIGMAP_ROOT", "/volumes/configmap")),
            local=local or Path(os.environ.get("ORRERY_LOCAL_ROOT", ".")),
            cache=default_cache(),
        )

    def of_claim(self, source: VolumeSource) -> Path:
        """Path of a file or folder on a claim.

        Raises ``ProbeError`` (``PathLeavesVolume``, ``PathNotFound``).
        """
        root = self.pvc.get(source.claim_name, self.pvc_root / source.claim_name)
        return _inside(root, source.path, f"volume '{source.claim_name}'", "pvc.path")

    def of_config_map(self, source: ConfigMapSource) -> Path:
        """Path of a ConfigMap's key.

        Raises ``ProbeError`` (``PathLeavesVolume``, ``PathNotFound``).
        """
        root = self.config_map.get(source.name, self.config_map_root / source.name)
        return _inside(root, source.key, f"ConfigMap '{source.name}'", "configMap.key")

    def of_local(self, source: LocalSource) -> Path:
        """Path on this machine, relative to the plan's file.

        Raises ``ProbeError`` (``PathNotFound``).
        """
        path = self.local / Path(source.path).expanduser()
        if not path.exists():
            raise ProbeError(
                "PathNotFound",
                f"local.path is '{source.path}', and there is nothing at {path}: write a file or folder relative to "
                "the plan's file",
            )
        return path


def _inside(root: Path, relative: str, volume: str, field_name: str) -> Path:
    path = root / relative
    # Kubernetes serves ConfigMaps through links (..data), so links are followed; only where they end counts.
    real_root = root.resolve()

    def leaves(candidate: Path) -> bool:
        real = candidate.resolve()
        return real != real_root and real_root not in real.parents

    if leaves(path):
        raise ProbeError(
            "PathLeavesVolume",
            f"{field_name} is '{relative}', which leaves {volume}: write a path whose links stay inside it",
        )
    for entry in path.rglob("*") if path.is_dir() else ():
        if entry.is_symlink() and leaves(entry):
            raise ProbeError(
                "PathLeavesVolume",
                f"{field_name} is '{relative}', where '{entry.relative_to(path)}' is a link that leaves {volume}: "
                "replace it by the file itself",
            )
    if not path.exists():
        raise ProbeError(
            "PathNotFound", f"{field_name} is '{relative}', which is not in {volume}: write a path that exists there"
        )
    return path
