"""A Pod's volumes as folders and files of this machine."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.kubelet.environment import field
from tests.cluster.kubelet.objects import MissingObjectError, Objects
from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import Json


class UnsupportedVolumeError(Exception):
    """A kind of volume that this kubelet cannot mount; the Pod stays ContainerCreating, with this sentence."""


def prepare_volumes(settings: Settings, objects: Objects, pod: Json, folder: Path) -> dict[str, Path]:
    """Makes every volume of the Pod; gives its path on this machine by the volume's name.

    A PersistentVolumeClaim is CLAIMS/NAMESPACE/NAME, the same folder for every Pod on every node. Raises MissingObjectError and
    UnsupportedVolumeError.
    """
    namespace, found = pod["metadata"]["namespace"], {}
    for volume in pod["spec"].get("volumes", []):
        path = folder / volume["name"]
        if "hostPath" in volume:
            path = Path(volume["hostPath"]["path"])
            if volume["hostPath"].get("type", "").endswith("OrCreate"):
                path.mkdir(parents=True, exist_ok=True)
        elif "persistentVolumeClaim" in volume:
            path = settings.claims / namespace / volume["persistentVolumeClaim"]["claimName"]
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.mkdir(parents=True, exist_ok=True)
            _fill(settings, objects, pod, volume, path)
        found[volume["name"]] = path
    return found


def _fill(settings: Settings, objects: Objects, pod: Json, volume: Json, path: Path) -> None:
    if "emptyDir" in volume:
        path.chmod(0o777)
    elif "projected" in volume:
        for source in volume["projected"].get("sources", []):
            _write(settings, objects, pod, source, path)
    else:
        kinds = [kind for kind in ("configMap", "secret", "downwardAPI") if kind in volume]
        if not kinds:
            other = ", ".join(key for key in volume if key != "name")
            raise UnsupportedVolumeError(
                f"the volume {volume['name']} is of a kind that this kubelet cannot mount: {other}"
            )
        _write(settings, objects, pod, {kinds[0]: volume[kinds[0]]}, path)


def _write(settings: Settings, objects: Objects, pod: Json, source: Json, path: Path) -> None:
    namespace = pod["metadata"]["namespace"]
    if "configMap" in source:
        spec = source["configMap"]
        _files(path, objects.config_map(namespace, spec["name"], spec.get("optional", False)), spec)
    if "secret" in source:
        spec = source["secret"]
        name = spec.get("secretName") or spec["name"]  # a projected source says name, a volume secretName
        _files(path, objects.secret(namespace, name, spec.get("optional", False)), spec)
    if "downwardAPI" in source:
        for item in source["downwardAPI"].get("items", []):
            if "fieldRef" in item:
                _file(path / item["path"], field(pod, item["fieldRef"]["fieldPath"], settings.node).encode())
    if "serviceAccountToken" in source:
        spec = source["serviceAccountToken"]
        token = objects.service_account_token(pod, spec.get("audience"), spec.get("expirationSeconds", 3600))
        _file(path / spec["path"], token.encode())


def _files(path: Path, data: dict[str, bytes], spec: Json) -> None:
    chosen = {item["key"]: item["path"] for item in spec.get("items", [])} or {key: key for key in data}
    for key, name in chosen.items():
        if key in data:
            _file(path / name, data[key])
        elif not spec.get("optional", False):
            raise MissingObjectError(f"references non-existent config key: {key}")


def _file(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
