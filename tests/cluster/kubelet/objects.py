"""What the kubelet reads and writes on the API server, one method a call."""

from __future__ import annotations

import base64
import datetime
import urllib.parse

from tests.cluster.kubelet.settings import Settings
from tests.cluster.rest import ApiError, Json


def now() -> str:
    """The time as Kubernetes writes it (metav1.Time: whole seconds)."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class MissingObjectError(Exception):
    """A ConfigMap, Secret or key that a container needs is not there: it waits as CreateContainerConfigError."""


class Objects:
    """Typed access to the few kinds a kubelet knows."""

    def __init__(self, settings: Settings) -> None:
        self.rest = settings.rest()

    def config_map(self, namespace: str, name: str, optional: bool = False) -> dict[str, bytes]:
        """The data of a ConfigMap, binaryData included; {} if it is missing and optional."""
        found = self._find(f"/api/v1/namespaces/{namespace}/configmaps/{name}", "configmap", name, optional)
        text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return text | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}

    def secret(self, namespace: str, name: str, optional: bool = False) -> dict[str, bytes]:
        """The decoded data of a Secret; {} if it is missing and optional."""
        found = self._find(f"/api/v1/namespaces/{namespace}/secrets/{name}", "secret", name, optional)
        return {key: base64.b64decode(value) for key, value in (found.get("data") or {}).items()}

    def service_account_token(self, pod: Json, audience: str | None, seconds: int) -> str:
        """A token of the Pod's ServiceAccount, as a projected volume holds it."""
        namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName", "default")
        spec: Json = {"audiences": [audience] if audience else [], "expirationSeconds": max(seconds, 600)}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.rest.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token", body)
        return str(answer["status"]["token"])

    def patch_pod_status(self, namespace: str, name: str, uid: str, status: Json) -> None:
        """Writes a Pod's status; the uid is the precondition, so a new Pod of the same name is never touched."""
        self.rest.patch(
            f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"metadata": {"uid": uid}, "status": status}
        )

    def remove_pod(self, namespace: str, name: str, uid: str) -> None:
        """Takes the Pod object away after its containers have ended; no error when it is gone already."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            self.rest.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def pods_path(self, node: str) -> str:
        """The list of the Pods that are bound to a node."""
        return "/api/v1/pods?" + urllib.parse.urlencode({"fieldSelector": f"spec.nodeName={node}"})

    def _find(self, path: str, kind: str, name: str, optional: bool) -> Json:
        try:
            return self.rest.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            if optional:
                return {}
            raise MissingObjectError(f'{kind} "{name}" not found') from error
