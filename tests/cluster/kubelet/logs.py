"""The kubelet's HTTPS endpoint for `kubectl logs`: GET /containerLogs/NAMESPACE/POD/CONTAINER with tailLines, limitBytes, previous, follow."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import BinaryIO

from tests.cluster.kubelet.container import Container
from tests.cluster.kubelet.pod import Pod
from tests.cluster.kubelet.settings import Settings

FindPod = Callable[[str, str], Pod | None]


def serve_logs(settings: Settings, find: FindPod) -> None:
    """Serves in a thread on the settings' port."""

    class Handler(_Handler):
        find_pod = staticmethod(find)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", settings.port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(settings.pki / "kubelet.crt"), str(settings.pki / "kubelet.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, name="logs", daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    find_pod: FindPod

    def log_message(self, format: str, *args: object) -> None:
        """Keeps requests out of the kubelet's log."""

    def do_GET(self) -> None:
        url = urllib.parse.urlparse(self.path)
        parts, query = url.path.strip("/").split("/"), dict(urllib.parse.parse_qsl(url.query))
        if parts[0] != "containerLogs" or len(parts) != 4:
            self.send_error(404)
            return
        pod = self.find_pod(parts[1], parts[2])
        container = pod.find(parts[3]) if pod else None
        if container is None:
            self.send_error(404, "no such container on this node")
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        restart = container.status["restartCount"] - (1 if query.get("previous") == "true" else 0)
        try:
            with container.log_file(restart).open("rb") as log:
                self._send(log, query, container)
        except (FileNotFoundError, BrokenPipeError, ConnectionResetError):
            return

    def _send(self, log: BinaryIO, query: dict[str, str], container: Container) -> None:
        data = log.read()
        if "tailLines" in query:
            count = int(query["tailLines"])
            data = b"".join(data.splitlines(keepends=True)[-count:]) if count else b""
        if "limitBytes" in query:
            data = data[: int(query["limitBytes"])]
        self.wfile.write(data)
        while query.get("follow") == "true":
            ended = container.process is None
            more = log.read()
            self.wfile.write(more)
            self.wfile.flush()
            if ended and not more:
                return
            time.sleep(0.1)
