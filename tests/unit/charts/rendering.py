"""The chart as Helm itself renders it (Helm 4 as a library), as parsed objects."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

CHART = Path(__file__).parents[3] / "charts" / "orrery"

#: The ways to install that the tests hold still.
VARIANTS: dict[str, dict[str, Any]] = {
    "cluster-wide": {},
    "namespaced": {"watchNamespace": "team-a", "networkPolicy": {"enabled": True}},
    "everything": {
        "image": {"digest": "sha256:" + "0" * 64},
        "imagePullSecrets": [{"name": "registry"}],
        "probe": {"memory": "8Gi", "assetsClaim": "assets", "image": {"tag": "cuda"}},
        "serviceAccount": {"annotations": {"example.com/role": "orrery"}},
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True},
            "service": {"annotations": {"example.com/scrape": "true"}},
        },
        "networkPolicy": {
            "enabled": True,
            "operator": {"metricsFrom": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
            "probes": {"namespaces": ["team-b", "team-a"]},
        },
        "priceList": {"enabled": True},
        "reports": {"enabled": True, "from": {"matchLabels": {"kubernetes.io/metadata.name": "people"}}},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
        "podAnnotations": {"example.com/a": "b"},
        "podLabels": {"example.com/c": "d"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "control", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
    },
    "bare": {
        "crds": {"enabled": False},
        "rbac": {"create": False},
        "serviceAccount": {"create": False},
        "metrics": {"service": {"enabled": False}, "podMonitor": {"enabled": True}},
        "networkPolicy": {"enabled": True, "probes": {"namespaces": ["lab"], "modelSource": {"enabled": False}}},
    },
}


@cache
def _rendered(values: str, name: str, namespace: str) -> dict[str, str]:
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(json.loads(values))
        rendered = chart.render(json.loads(values), name=name, namespace=namespace)
    return {
        path.removeprefix("orrery/templates/"): text.strip() for path, text in sorted(rendered.items()) if text.strip()
    }


def texts(values: dict[str, Any], name: str = "orrery", namespace: str = "orrery-system") -> dict[str, str]:
    """Template to rendered text, those that rendered nothing left out."""
    return dict(_rendered(json.dumps(values, sort_keys=True), name, namespace))


@cache
def _objects(values: str, name: str, namespace: str) -> bytes:
    rendered = _rendered(values, name, namespace).items()
    texts = (text for path, text in rendered if not path.endswith(".txt"))
    return pickle.dumps([d for text in texts for d in yaml.load_all(text, Loader=yaml.CSafeLoader) if d])


def objects(values: dict[str, Any], name: str = "orrery", namespace: str = "orrery-system") -> list[dict[str, Any]]:
    """Every object that would be applied; the caller's own, to change as it likes."""
    found: list[dict[str, Any]] = pickle.loads(_objects(json.dumps(values, sort_keys=True), name, namespace))
    return found


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Objects of one kind."""
    return [document for document in found if document["kind"] == kind]
