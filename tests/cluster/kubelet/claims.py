"""Gives each PersistentVolumeClaim a folder: CLAIMS/NAMESPACE/NAME, as a hostPath volume that the real volume controller binds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.cluster.kubelet.informer import follow
from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import ApiError, Json, Rest

VOLUMES = "/api/v1/persistentvolumes"


class Provisioner:
    """Serves claims of every storage class; several kubelets may do so at once, the volume's name is the claim's uid."""

    def __init__(self, settings: Settings) -> None:
        self.rest: Rest = settings.rest()
        self.claims: Path = settings.claims

    def run(self) -> None:
        """Follows the claims for ever."""
        follow(self.rest, "/api/v1/persistentvolumeclaims", self._handle)

    def _handle(self, kind: str, claim: Json) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        folder, name = self.claims / metadata["namespace"] / metadata["name"], f"pvc-{metadata['uid']}"
        if kind == "DELETED":
            self._ignoring(404, lambda: self.rest.delete(f"{VOLUMES}/{name}"))
            shutil.rmtree(folder, ignore_errors=True)
            return
        if spec.get("volumeName") or metadata.get("deletionTimestamp"):
            return
        folder.mkdir(parents=True, exist_ok=True)
        reference = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            **{key: metadata[key] for key in ("namespace", "name", "uid")},
        }
        volume: Json = {
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]}, "accessModes": spec["accessModes"],
                "storageClassName": spec.get("storageClassName") or "", "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": str(folder)}, "claimRef": reference, "volumeMode": spec.get("volumeMode", "Filesystem"),
            },
        }  # fmt: skip
        self._ignoring(409, lambda: self.rest.post(VOLUMES, volume))

    @staticmethod
    def _ignoring(status: int, call: Callable[[], Json]) -> None:
        try:
            call()
        except ApiError as error:
            if error.status != status:
                raise
