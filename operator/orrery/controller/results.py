"""Every row of a plan in a ConfigMap: what is too large for a status, complete and compressed.

``results.jsonl.gz`` holds one JSON object a candidate. 10,000 rows stay far below the 1 MiB that etcd takes; should rows ever
not fit, the least attractive are left out and ``summary.json`` says how many.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orrery.api import yamltext
from orrery.api.base import GROUP
from orrery.api.plan import AdaptationPlan
from orrery.controller.jobs import JobSettings
from orrery.controller.records import owner_reference
from orrery.controller.render import Target, render
from orrery.controller.server import Object
from orrery.planning.types import ResultRow, Step

DIGEST = f"{GROUP}/results-digest"
_LIMIT = 900_000
_SIGNIFICANT_DIGITS = 6


def config_map_name(plan: str) -> str:
    """Name of the results object.

    >>> config_map_name("intents")
    'intents-results'
    """
    return f"{plan[:240]}-results"


def lines(rows: Sequence[ResultRow]) -> list[str]:
    """One JSON object a row; equal rows give equal bytes."""
    return [json.dumps(_plain(row), sort_keys=True, separators=(",", ":")) for row in rows]


def digest_of(lines: Sequence[str], rendered: Mapping[str, str] | None = None) -> str:
    """Names the content, so that it is written only when it changed."""
    texts = [*lines, *(f"{name}\n{text}" for name, text in sorted((rendered or {}).items()))]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:32]


def rendered(plan: AdaptationPlan, step: Step, jobs: JobSettings) -> dict[str, str]:
    """The recommended strategy as manifests, by key of the ConfigMap; nothing while there is no answer."""
    if not step.finished or step.status.recommendation is None:
        return {}
    try:
        made = render(plan, step.status.recommendation, Target(jobs))
    except ValueError:  # what cannot run in this cluster has stalled the plan already
        return {}
    return {f"{name}.yaml": yamltext.write(manifest) for name, manifest in made.items()}


def build(plan: Object, lines: Sequence[str], rendered: Mapping[str, str] | None = None) -> Object:
    """The ConfigMap of these lines and manifests."""
    kept = len(lines)
    packed = _packed(lines)
    while len(packed) * 4 / 3 > _LIMIT:
        kept = kept * 9 // 10
        packed = _packed(lines[:kept])
    name, namespace = plan["metadata"]["name"], plan["metadata"]["namespace"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(name),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "orrery"},
            "annotations": {DIGEST: digest_of(lines, rendered)},
            "ownerReferences": [owner_reference(plan, controller=True)],
        },
        "data": {
            "summary.json": json.dumps({"candidates": len(lines), "rows": kept}, sort_keys=True),
            **(rendered or {}),
        },
        "binaryData": {"results.jsonl.gz": base64.b64encode(packed).decode()},
    }


def read(config_map: Object) -> list[dict[str, Any]]:
    """The rows of a results object, as plain JSON."""
    return [json.loads(line) for line in read_lines(config_map)]


def read_lines(config_map: Object) -> list[str]:
    """The rows of a results object, one JSON text each."""
    packed = base64.b64decode(config_map["binaryData"]["results.jsonl.gz"])
    return gzip.decompress(packed).decode().splitlines()


def _packed(lines: Sequence[str]) -> bytes:
    return gzip.compress("\n".join(lines).encode(), mtime=0)


def _plain(value: Any) -> Any:
    """As JSON has it, with floats cut to a few digits: a different sum order must not look like a different result."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, float):
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
    if dataclasses.is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
