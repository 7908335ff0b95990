"""The API server as the controller uses it: plain objects in and out, every call with a deadline and counted.

The official client authenticates and keeps the connections; its models are left out, since they would parse every field of
thousands of objects to read three of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

from kubernetes import client, config
from urllib3 import Timeout
from yaml import YAMLError

import orrery
from orrery.api.base import GROUP, VERSION
from orrery.controller import wire

Object = dict[str, Any]

#: (connect, read) seconds of one request; a server that does not answer in that time is asked again later. Not longer than
#: the margin of the Lease: a write that was sent while it was held must have landed before another operator may take it.
TIMEOUT = (5, 10)
#: Who asks, in audit logs; up to the stroke it is the manager of the fields that were written.
AGENT = f"orrery/{orrery.__version__}"
#: Objects of a page of a list: parsed, one takes some sixty kilobytes.
_PAGE = 100
#: A gentle list rests three times as long as a page took, but not so long that its snapshot (five minutes) could expire.
_REST, _LONGEST_REST = 3.0, 0.25
#: A watch that is silent for so long, bookmarks included, is asked for anew; no later than a third after its own end.
_SILENCE = 90
_CHUNK = 65536
#: A token is read again this often.
_RENEW_SECONDS = 5.0
#: What the client raises of a KUBECONFIG that is none; it looks into some of them before it checks what they are.
UNREADABLE = (config.ConfigException, YAMLError, OSError, UnicodeDecodeError, TypeError, AttributeError)


@dataclass(frozen=True)
class Resource:
    """A kind as its URL knows it."""

    kind: str
    path: str  #: group and version, e.g. ``/apis/batch/v1``
    plural: str
    namespaced: bool = True

    def url(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of an object or a collection."""
        parts = [self.path]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [self.plural, *(p for p in (name, subresource) if p)]
        return "/".join(parts)


_OURS = f"/apis/{GROUP}/{VERSION}"
PLANS = Resource("AdaptationPlan", _OURS, "adaptationplans")
PROBES = Resource("AdaptationProbe", _OURS, "adaptationprobes")
PRICE_LISTS = Resource("PriceList", _OURS, "pricelists", namespaced=False)
BUDGETS = Resource("AdaptationBudget", _OURS, "adaptationbudgets")
JOBS = Resource("Job", "/apis/batch/v1", "jobs")
PODS = Resource("Pod", "/api/v1", "pods")
CONFIG_MAPS = Resource("ConfigMap", "/api/v1", "configmaps")
EVENTS = Resource("Event", "/api/v1", "events")
#: Kueue's, where it is installed, in the versions that it serves.
WORKLOADS = tuple(Resource("Workload", f"/apis/kueue.x-k8s.io/{v}", "workloads") for v in ("v1beta1", "v1beta2"))
LEASES = Resource("Lease", "/apis/coordination.k8s.io/v1", "leases")


class ServerError(Exception):
    """A request failed; ``status`` is the HTTP status, 0 when no answer came. Worth another try later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFound(ServerError):  # noqa: N818  # reads as what happened
    """404."""


class Gone(ServerError):  # noqa: N818  # reads as what happened
    """410: the version from which to watch, or of which to list on, is too old."""


class Conflict(ServerError):  # noqa: N818  # reads as what happened
    """409: it exists already, or it changed since it was read."""


class Refused(ServerError):  # noqa: N818  # reads as what happened
    """400, 403 or 422: the same request will be refused again; a person must act."""


class Server:
    """Requests to the API server; safe to share between threads."""

    def __init__(
        self,
        api_client: client.ApiClient,
        on_call: Callable[[str, str, int], None] | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self._client = api_client
        host = api_client.configuration.host
        self._pool = api_client.rest_client.pool_manager.connection_from_url(host)
        self._prefix = urlsplit(host).path.rstrip("/")
        self._timeout = Timeout(connect=timeout[0], read=timeout[1])
        self._who: dict[str, str] = {}
        self._renew = 0.0
        self._on_call = on_call or (lambda verb, resource, status: None)

    @classmethod
    def connect(
        cls,
        connections: int,
        on_call: Callable[[str, str, int], None] | None = None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> Server:
        """As a Pod's service account, or as KUBECONFIG says; raises ServerError when there is neither."""
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            try:
                config.load_kube_config(client_configuration=configuration)
            except UNREADABLE as error:
                said = " ".join(str(error).split())[:300]
                if isinstance(error, (TypeError, AttributeError)):
                    said = "KUBECONFIG names a file that is no kubeconfig"
                raise ServerError(
                    0, f"no cluster is configured ({said}): set KUBECONFIG to a kubeconfig, or work on a state folder"
                ) from None
        configuration.connection_pool_maxsize = connections
        configuration.retries = 0  # the queue retries, with a delay that grows and where it can be seen
        return cls(client.ApiClient(configuration), on_call, timeout)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object; raises NotFound."""
        return self._call("GET", resource, resource.url(namespace, name))

    def list(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str | None = None,
        *,
        fields: str | None = None,
        gently: bool = False,
    ) -> Iterator[Object]:
        """All objects whose labels ``selector`` and whose ``fields`` match, page by page; ``namespace`` None lists every namespace.

        ``gently`` rests between pages, so that a list of tens of thousands leaves the API server to those who wait for it.
        """
        for page in self.pages(resource, namespace, selector, gently=gently, fields=fields):
            yield from page["items"]

    def pages(
        self,
        resource: Resource,
        namespace: str | None,
        selector: str | None = None,
        *,
        gently: bool = False,
        fields: str | None = None,
    ) -> Iterator[Object]:
        """The same by page, each with its ``items`` and ``metadata.resourceVersion``, which is that of the whole list."""
        query = {"limit": str(_PAGE)}
        if selector:
            query["labelSelector"] = selector
        if fields:
            query["fieldSelector"] = fields
        while True:
            begun = time.monotonic()
            page = self._call("GET", resource, resource.url(namespace), query=query)
            took = time.monotonic() - begun
            page["items"] = page.get("items") or []
            for item in page["items"]:
                item.setdefault("kind", resource.kind)
            yield page
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            if gently:
                time.sleep(min(_REST * took, _LONGEST_REST))
            query = {**query, "continue": token}

    def watch(
        self, resource: Resource, namespace: str | None, selector: str | None, version: str, seconds: int
    ) -> Iterator[tuple[str, Object]]:
        """Changes since a version, as they come, for at most so many seconds: ADDED, MODIFIED, DELETED or BOOKMARK, and the object.

        Raises Gone when the version is too old, and ServerError when the connection ends, or says nothing for so long that it
        must be dead.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        if selector:
            query["labelSelector"] = selector
        silence = Timeout(connect=self._timeout.connect_timeout, read=min(seconds, _SILENCE) + _SILENCE / 3)
        status = 0
        try:
            response = self._open("GET", resource.url(namespace), query, None, {"Accept": "application/json"}, silence)
            status = response.status
            if status != HTTPStatus.OK:
                raise _translated(status, _message(response.read()))
        finally:
            self._on_call("GET", resource.plural, status)
        try:
            for line in _lines(response):
                event = _parsed(line)
                kind, body = event.get("type"), event.get("object") or {}
                if kind == "ERROR":
                    raise _translated(body.get("code") or 0, str(body.get("message")))
                if kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
                    yield kind, body
        finally:
            response.close()  # also when nobody wants to hear more

    def create(self, resource: Resource, body: Object) -> Object:
        """Create an object; raises Conflict when the name is taken."""
        return self._call("POST", resource, resource.url(body["metadata"].get("namespace")), body=body)

    def replace(self, resource: Resource, body: Object, subresource: str | None = None) -> Object:
        """Replace the object (or its status) as it was read; raises Conflict when it changed since."""
        meta = body["metadata"]
        return self._call("PUT", resource, resource.url(meta.get("namespace"), meta["name"], subresource), body=body)

    def merge(self, resource: Resource, namespace: str | None, name: str, patch: Object) -> Object:
        """JSON merge patch; carry ``metadata.resourceVersion`` in it to make it conditional."""
        return self._call(
            "PATCH",
            resource,
            resource.url(namespace, name),
            body=patch,
            content_type="application/merge-patch+json",
        )

    def delete(self, resource: Resource, body: Object) -> None:
        """Delete this very version of an object and, in the background, what it owns; gone or changed already is fine."""
        meta = body["metadata"]
        namespace, name = meta.get("namespace"), meta["name"]
        body = {
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
        }
        try:
            self._call("DELETE", resource, resource.url(namespace, name), body=body)
        except (NotFound, Conflict):
            return

    def version(self) -> tuple[int, int]:
        """Major and minor version of the server."""
        answer = self._send("GET", "/version", {}, None, {})
        digits = ["".join(c for c in str(answer.get(k, "0")) if c.isdigit()) or "0" for k in ("major", "minor")]
        return int(digits[0]), int(digits[1])

    def _call(
        self,
        method: str,
        resource: Resource,
        url: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content_type: str = "application/json",
    ) -> Object:
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": AGENT}
        status = 0
        try:
            answer = self._send(method, url, dict(query or {}), body, headers)
            status = 200
            return answer
        except ServerError as error:
            status = error.status
            raise
        finally:
            self._on_call(method, resource.plural, status)

    def _send(
        self, method: str, url: str, query: dict[str, str], body: Object | None, headers: dict[str, str]
    ) -> Object:
        response = self._open(method, url, query, body, headers, self._timeout, whole=True)
        raw = response.data
        if not 200 <= response.status < 300:
            raise _translated(response.status, _message(raw))
        return _parsed(raw) if raw else {}

    def _open(
        self,
        method: str,
        url: str,
        query: dict[str, str],
        body: Object | None,
        headers: dict[str, str],
        timeout: Timeout,
        *,
        whole: bool = False,
    ) -> Any:
        """A response, read to its end if ``whole``."""
        try:
            # The client's own way leads through its models and the environment's proxies at every request, and costs as much
            # again as the request.
            return self._pool.urlopen(
                method,
                f"{self._prefix}{url}?{urlencode(query)}" if query else f"{self._prefix}{url}",
                body=None if body is None else wire.dumps(body),
                headers=headers | self._authorization(),
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=whole,
            )
        except Exception as error:  # urllib3's many: refused, reset, timed out, cut short
            raise _broken(error) from error

    def _authorization(self) -> dict[str, str]:
        """The header that says who asks. Tokens are renewed on disk; asking for it at every request reads the whole configuration."""
        now = time.monotonic()
        if now >= self._renew:
            key = self._client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            self._who, self._renew = ({"authorization": key} if key else {}), now + _RENEW_SECONDS
        return self._who


def _lines(response: Any) -> Iterator[bytes]:
    """Of a response that is still being written, each as soon as it is there."""
    begun = b""
    stream = response.stream(_CHUNK)
    while True:
        try:
            chunk = next(stream, None)
        except Exception as error:  # as above
            raise _broken(error) from error
        if chunk is None:
            return
        *lines, begun = (begun + chunk).split(b"\n")
        yield from filter(None, lines)


def _parsed(raw: bytes) -> Object:
    try:
        answer = wire.loads(raw)
    except ValueError as error:
        raise ServerError(0, f"the answer is not JSON: {error}") from None
    return answer if isinstance(answer, dict) else {}


def _broken(error: Exception) -> ServerError:
    return ServerError(0, f"{type(error).__name__}: {error}"[:300])


def _message(body: Any) -> str:
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        return str(json.loads(text).get("message", text))[:1000]
    except (ValueError, AttributeError):
        return text[:1000]


def _translated(status: int, message: str) -> ServerError:
    kinds: dict[int, type[ServerError]] = {
        404: NotFound,
        409: Conflict,
        410: Gone,
        **dict.fromkeys((400, 403, 422), Refused),
    }
    if status == 403 and "because it is being terminated" in message:
        return NotFound(status, message)  # a namespace that takes nothing new is as good as gone
    return kinds.get(status, ServerError)(status, message)
