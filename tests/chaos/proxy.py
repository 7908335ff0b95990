"""Between the operator and the API server: passes everything on, and fails as it is told.

Plain HTTP on a free port of the loopback interface towards the operator, TLS with the administrator's certificate towards the server. What
a network or a loaded server does to a client is done here on purpose: answers that say 409, 410, 429 or 500, requests that never
arrive, requests that arrive and whose answer does not come back, watches that end or fall silent.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import socket
import ssl
import threading
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOP = frozenset(
    {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "authorization", "accept-encoding"}
)
#: What may be told; see Proxy.fail.
FAULTS = ("409", "410", "429", "500", "500-landed", "reset", "reset-landed", "timeout", "timeout-landed")


@dataclass
class Rule:
    """A fault, for a while, for a share of the requests it can concern."""

    fault: str
    share: float
    until: float


@dataclass
class Proxy:
    """Start it, point the operator's kubeconfig at ``url``, tell it to fail."""

    server: str
    pki: Path
    seed: int = 0
    hang_seconds: float = 12.0
    hits: Counter[str] = field(default_factory=Counter)
    _rules: list[Rule] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _watches: set[socket.socket] = field(default_factory=set)
    _silent_until: float = 0.0

    def start(self) -> Proxy:
        """Listen, in threads of its own."""
        self._rng = random.Random(self.seed)
        self._context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        self._context.load_cert_chain(str(self.pki / "admin.crt"), str(self.pki / "admin.key"))
        address = urllib.parse.urlparse(self.server)
        self._upstream = address.hostname or "127.0.0.1", address.port or 443
        proxy = self

        class Handler(_Handler):
            owner = proxy

        self._http = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, name="proxy", daemon=True).start()
        return self

    @property
    def url(self) -> str:
        """Where the operator finds it."""
        return f"http://127.0.0.1:{self._http.server_port}"

    def stop(self) -> None:
        """Close everything."""
        self._http.shutdown()
        self._http.server_close()
        self.cut_watches()

    def fail(self, fault: str, seconds: float, share: float = 0.5) -> None:
        """For ``seconds``, a share of the requests that ``fault`` can concern fail with it.

        409 and the ``-landed`` faults concern writes, 410 watches and continued lists, the others every request.
        """
        if fault not in FAULTS:
            raise ValueError(f"'{fault}' is not one of {', '.join(FAULTS)}")
        with self._lock:
            self._rules.append(Rule(fault, share, time.monotonic() + seconds))

    def calm(self) -> None:
        """From now on everything passes."""
        with self._lock:
            self._rules.clear()
            self._silent_until = 0.0

    def cut_watches(self) -> None:
        """End every watch in the middle, without a word."""
        with self._lock:
            watches = list(self._watches)
        for watch in watches:
            with contextlib.suppress(OSError):
                watch.shutdown(socket.SHUT_RDWR)

    def silence_watches(self, seconds: float) -> None:
        """Watches stay open and tell nothing; what they had to tell comes afterwards."""
        with self._lock:
            self._silent_until = time.monotonic() + seconds

    # ---- for the handler

    def drawn(self, method: str, path: str) -> str | None:
        """The fault that this request meets, if any."""
        now = time.monotonic()
        watching = "watch=" in path
        with self._lock:
            self._rules = [rule for rule in self._rules if rule.until > now]
            for rule in self._rules:
                if rule.fault == "410":
                    concerned = watching or "continue=" in path
                elif rule.fault == "409" or rule.fault.endswith("-landed"):
                    concerned = method in WRITES
                else:
                    concerned = True
                if concerned and self._rng.random() < rule.share:
                    self.hits[rule.fault] += 1
                    return rule.fault
        return None

    def connect(self) -> http.client.HTTPSConnection:
        """A connection to the API server."""
        return http.client.HTTPSConnection(*self._upstream, timeout=70, context=self._context)

    def hush(self) -> None:
        """Wait while watches are to be silent."""
        while (left := self._silent_until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def watching(self, connection: socket.socket, on: bool) -> None:
        """Remember a watch's connection."""
        with self._lock:
            (self._watches.add if on else self._watches.discard)(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are this program's purpose, and no news."""


class _Handler(BaseHTTPRequestHandler):
    owner: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self._kept: http.client.HTTPSConnection | None = None

    def finish(self) -> None:
        if self._kept is not None:
            self._kept.close()
        with contextlib.suppress(OSError):
            super().finish()

    def _pass(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else None
        fault = self.owner.drawn(self.command, self.path)
        if fault in ("409", "410", "429", "500"):
            self._answer_fault(int(fault))
            return
        if fault in ("reset", "timeout"):
            self._vanish(fault)
            return
        try:
            response = self._ask(body)
        except (OSError, http.client.HTTPException):
            self._drop()
            return
        if "watch=" in self.path and response.status == 200:
            self._stream(response)
            return
        try:
            data = response.read()
        except (OSError, http.client.HTTPException):
            self._drop()
            return
        if fault == "500-landed":
            self._answer_fault(500)
        elif fault is not None:
            self._vanish(fault)
        else:
            self._answer(response.status, response.getheader("Content-Type") or "application/json", data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815  # the names http.server calls

    def _ask(self, body: bytes | None) -> http.client.HTTPResponse:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
        for last in (False, True):
            fresh = self._kept is None
            connection = self._kept or self.owner.connect()
            self._kept = None
            try:
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                # a kept connection that the server had closed: nothing of the request was read
                if fresh or last or self.command in WRITES:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            self._kept = connection
            return response
        raise ConnectionError("unreachable")

    def _stream(self, response: http.client.HTTPResponse) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.owner.watching(self.connection, True)
        try:
            while data := response.read1(65536):
                self.owner.hush()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self.owner.watching(self.connection, False)
            self._drop()

    def _answer(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer_fault(self, status: int) -> None:
        reason = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}[status]
        said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
        self._answer(status, "application/json", json.dumps({**said, "message": f"injected {status}"}).encode())

    def _vanish(self, fault: str) -> None:
        if fault.startswith("timeout"):
            time.sleep(self.owner.hang_seconds)
        self._drop()

    def _drop(self) -> None:
        self.close_connection = True
        if self._kept is not None:
            self._kept.close()
            self._kept = None
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""
