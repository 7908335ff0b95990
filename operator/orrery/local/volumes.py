"""Volumes and ConfigMaps that the user mapped to folders, under one root each, as a Pod has them mounted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orrery.probes.locations import SourceRoots


def link(folder: Path, roots: SourceRoots) -> dict[str, str]:
    """Links to the mapped folders under ``folder``, and the environment that leads probes to them.

    A probe is started with one root for claims and one for ConfigMaps, here as in the cluster; what was not mapped on the
    command line stays where the environment says.
    """
    environment = {}
    for kind, variable, mapped in (
        ("pvc", "ORRERY_PVC_ROOT", roots.pvc),
        ("configmap", "ORRERY_CONFIGMAP_ROOT", roots.config_map),
    ):
        if mapped:
            _link_all(folder / kind, mapped)
            environment[variable] = str((folder / kind).resolve())
    return environment


def _link_all(folder: Path, mapped: Mapping[str, Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, target in mapped.items():
        path = folder / name
        if path.is_symlink():
            path.unlink()
        path.symlink_to(target.resolve(), target_is_directory=True)
