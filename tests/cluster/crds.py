"""Installs the project's CustomResourceDefinitions and waits until the server serves them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

DEFINITIONS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


def install_crds(api_client: Any, folder: Path | str, seconds: float = 30.0) -> list[str]:
    """Creates or replaces every CustomResourceDefinition in folder/*.yaml; returns their names once each is Established and served.

    api_client: a kubernetes.client.ApiClient. A definition that is there already is replaced only when its spec differs, and its objects stay.
    Raises TimeoutError when the server does not establish one in `seconds`, FileNotFoundError when the folder holds none.
    """
    definitions = list(_read(Path(folder)))
    if not definitions:
        raise FileNotFoundError(f"no CustomResourceDefinition in {folder}/*.yaml: generate them first")
    for wanted in definitions:
        _apply(api_client, wanted)
    deadline = time.monotonic() + seconds
    for wanted in definitions:
        while not _served(api_client, wanted):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the CustomResourceDefinition {wanted['metadata']['name']} was not Established after {seconds:.0f} s"
                )
            time.sleep(0.05)
    return [wanted["metadata"]["name"] for wanted in definitions]


def _read(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document and document.get("kind") == "CustomResourceDefinition":
                yield document


def _apply(api_client: Any, wanted: dict[str, Any]) -> None:
    objects, name = client.CustomObjectsApi(api_client), wanted["metadata"]["name"]
    for _ in range(5):
        try:
            found = _get(objects, name)
            if found is None:
                objects.create_cluster_custom_object(*DEFINITIONS, wanted)
            else:
                metadata = {**wanted["metadata"], "resourceVersion": found["metadata"]["resourceVersion"]}
                objects.replace_cluster_custom_object(*DEFINITIONS, name, {**wanted, "metadata": metadata})
            return
        except client.ApiException as error:
            if error.status != 409:  # someone else wrote it at the same moment: look again
                raise
    raise RuntimeError(f"the CustomResourceDefinition {name} changed under every one of five attempts to write it")


def _served(api_client: Any, wanted: dict[str, Any]) -> bool:
    objects, spec = client.CustomObjectsApi(api_client), wanted["spec"]
    found = _get(objects, wanted["metadata"]["name"]) or {}
    conditions = {entry["type"]: entry["status"] for entry in (found.get("status") or {}).get("conditions") or []}
    if conditions.get("Established") != "True":
        return False
    for version in spec["versions"]:
        if version.get("served", True):
            try:
                objects.list_cluster_custom_object(spec["group"], version["name"], spec["names"]["plural"], limit=1)
                # kubectl asks discovery, which learns of a definition later than the routes do
                told = objects.get_api_resources(spec["group"], version["name"]).resources
                if spec["names"]["plural"] not in {resource.name for resource in told}:
                    return False
            except client.ApiException as error:
                if error.status == 404:  # established, and not routed yet
                    return False
                raise
    return True


def _get(objects: Any, name: str) -> dict[str, Any] | None:
    try:
        return dict(objects.get_cluster_custom_object(*DEFINITIONS, name))
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
