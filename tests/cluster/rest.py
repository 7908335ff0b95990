"""A small client of the Kubernetes API: JSON in, JSON out, watches line by line.

The harness and its kubelet start in a tenth of a second with it; the official client's typed models refuse objects that a 1.20 server
sends (an Event with a null eventTime) and take half a second to import. Tests and the product use the official client.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The server answered with an error: `status` is the HTTP code, `reason` the machine-readable word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message = status, reason, message


class Rest:
    """One API server, one identity. Safe to share between threads: each keeps its own connection."""

    def __init__(self, server: str, authority: Path, certificate: Path, key: Path) -> None:
        self.server = server
        url = urllib.parse.urlparse(server)
        self._host, self._port = url.hostname or "127.0.0.1", url.port or 443
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.load_cert_chain(str(certificate), str(key))
        self._local = threading.local()

    def get(self, path: str, timeout: float = 10) -> Json:
        """The object or list at `path`."""
        return self.request("GET", path, timeout=timeout)

    def post(self, path: str, body: Json) -> Json:
        """Creates `body` in the collection at `path`."""
        return self.request("POST", path, body)

    def patch(self, path: str, body: Json, content_type: str = STRATEGIC) -> Json:
        """Applies a patch to the object at `path`."""
        return self.request("PATCH", path, body, content_type)

    def delete(self, path: str, body: Json | None = None) -> Json:
        """Deletes the object at `path`."""
        return self.request("DELETE", path, body)

    def text(self, path: str, timeout: float = 10) -> str:
        """The body of a path that answers in plain text, such as /readyz or a Pod's log."""
        return self._send("GET", path, None, "application/json", timeout).decode(errors="replace")

    def request(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        timeout: float = 10,
    ) -> Json:
        """One call. Raises ApiError for the server's refusals and OSError or http.client.HTTPException for a broken connection."""
        return cast(Json, json.loads(self._send(method, path, body, content_type, timeout) or b"{}"))

    def watch(self, path: str, version: str, seconds: int = 300) -> Iterator[tuple[str, Json]]:
        """Events (type, object) since `version`; ends when the server closes. Raises ApiError 410 when the version is too old."""
        joint = "&" if "?" in path else "?"
        connection = self._connect(timeout=seconds + 30)
        try:
            query = urllib.parse.urlencode(
                {"watch": "1", "resourceVersion": version, "timeoutSeconds": seconds, "allowWatchBookmarks": "true"}
            )
            connection.request("GET", path + joint + query)
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.read())
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ApiError(status.get("code", 500), status.get("reason", ""), status.get("message", ""))
                yield event["type"], event["object"]
        finally:
            connection.close()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)

    def _send(self, method: str, path: str, body: Json | None, content_type: str, timeout: float) -> bytes:
        kept: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        connection = kept or self._connect(timeout)
        connection.timeout = timeout
        if isinstance(connection.sock, socket.socket):
            connection.sock.settimeout(timeout)
        self._local.connection = None
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Content-Type": content_type, "Accept": "application/json"},
            )
            response = connection.getresponse()
            data = response.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()
            if kept is None:
                raise
            return self._send(
                method, path, body, content_type, timeout
            )  # the kept connection had been closed by the server
        except BaseException:
            connection.close()
            raise
        self._local.connection = connection
        if response.status >= 400:
            raise _error(response.status, data)
        return data


def _error(code: int, data: bytes) -> ApiError:
    try:
        status = json.loads(data)
        return ApiError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiError(code, "", data.decode(errors="replace")[:300])
