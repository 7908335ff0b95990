"""A container's environment: values, fields, ConfigMaps and Secrets, with $(NAME) expansion."""

from __future__ import annotations

import re
from urllib.parse import urlparse

from tests.cluster.kubelet.objects import MissingObjectError, Objects
from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import Json

REFERENCE = re.compile(r"\$(\$|\(([A-Za-z0-9_.-]+)\))")
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
DECIMAL = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def expand(text: str, environment: dict[str, str]) -> str:
    """Replaces $(NAME) by its value; unknown names stay as they are, $$ is one dollar sign.

    >>> expand("--data=$(DATA) $(UNKNOWN) $$(DATA)", {"DATA": "/d"})
    '--data=/d $(UNKNOWN) $(DATA)'
    """

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] == "$" else environment.get(match[2], match[0])

    return REFERENCE.sub(value, text)


def field(pod: Json, path: str, node: str) -> str:
    """The downward API's fieldPath."""
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str((pod["metadata"].get(keyed[1]) or {}).get(keyed[2], ""))
    fixed = {
        "status.podIP": "127.0.0.1",
        "status.hostIP": "127.0.0.1",
        "spec.nodeName": node,
        "status.podIPs": "127.0.0.1",
    }
    if path in fixed:
        return fixed[path]
    found: object = pod
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if isinstance(found, dict):
        return "\n".join(f'{key}="{value}"' for key, value in sorted(found.items()))
    return "" if found is None else str(found)


def resource(container: Json, name: str, divisor: str) -> str:
    """The downward API's resourceFieldRef, rounded up to the divisor: limits.memory, requests.cpu and the like.

    >>> resource({"resources": {"limits": {"memory": "1Gi"}}}, "limits.memory", "1Mi")
    '1024'
    """
    kind, _, key = name.partition(".")
    quantity = (container.get("resources", {}).get(kind) or {}).get(key, "0")
    return str(-int(-amount(quantity) // (amount(divisor) if divisor not in ("", "0") else 1)))


def amount(quantity: str | int | float) -> float:
    """A Kubernetes quantity as a number.

    >>> amount("2Gi"), amount("500m"), amount(3)
    (2147483648.0, 0.5, 3.0)
    """
    text = str(quantity)
    for suffix, factor in {**BINARY, **DECIMAL}.items():
        if text.endswith(suffix):
            return float(text[: -len(suffix)]) * factor
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def build_environment(settings: Settings, objects: Objects, pod: Json, container: Json) -> dict[str, str]:
    """All variables of one container. Raises MissingObjectError when a reference that is not optional has no target."""
    namespace, server = pod["metadata"]["namespace"], urlparse(settings.server)
    result = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": pod["metadata"]["name"],
        "HOME": "/root",
        "KUBERNETES_SERVICE_HOST": server.hostname or "",
        "KUBERNETES_SERVICE_PORT": str(server.port or 443),
        **settings.environment,
    }
    for source in container.get("envFrom", []):
        for key, read in (("configMapRef", objects.config_map), ("secretRef", objects.secret)):
            if key in source:
                data = read(namespace, source[key]["name"], source[key].get("optional", False))
                result |= {
                    source.get("prefix", "") + name: value.decode(errors="replace") for name, value in data.items()
                }
    for variable in container.get("env", []):
        value = _value(settings, objects, pod, container, variable, result)
        if value is not None:
            result[variable["name"]] = value
    return result


def _value(
    settings: Settings, objects: Objects, pod: Json, container: Json, variable: Json, known: dict[str, str]
) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return expand(variable.get("value", ""), known)
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"], settings.node)
    if "resourceFieldRef" in source:
        return resource(
            container, source["resourceFieldRef"]["resource"], source["resourceFieldRef"].get("divisor", "1")
        )
    namespace = pod["metadata"]["namespace"]
    for kind, read in (("configMapKeyRef", objects.config_map), ("secretKeyRef", objects.secret)):
        if kind in source:
            reference = source[kind]
            data = read(namespace, reference["name"], reference.get("optional", False))
            if reference["key"] in data:
                return data[reference["key"]].decode(errors="replace")
            if not reference.get("optional", False):
                raise MissingObjectError(
                    f"couldn't find key {reference['key']} in {kind[:-6]} {namespace}/{reference['name']}"
                )
    return None
