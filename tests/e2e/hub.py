"""A Hugging Face hub on this machine: what the hub's client asks for, over HTTP, from folders.

The client is the real one. Served are a repository's revisions, its tree and its files; everything else is refused with the
hub's own error codes.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@contextmanager
def serve(repositories: Mapping[str, Path], gated: frozenset[str] = frozenset()) -> Iterator[tuple[str, list[str]]]:
    """Serve ``{"models/OWNER/NAME": folder}`` as the revision ``main``; yields the address and the requests.

    ``models/OWNER/NAME@TAG`` is another revision of the same repository, with a commit of its own.
    """
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, *args: Any) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            requests.append(path)
            status, headers, body = respond(path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

    def respond(path: str) -> tuple[int, dict[str, str], bytes]:
        missing = {"X-Error-Code": "RepoNotFound"}
        for key, folder in repositories.items():
            commit = commit_of(key)
            name, _, tag = key.partition("@")
            kind, _, repo = name.partition("/")
            files = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
            resolve = f"{repo}/resolve/" if kind == "models" else f"{name}/resolve/"
            if path.startswith((f"api/{name}/", resolve)) and name in gated:
                return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
            if path.startswith(f"api/{name}/revision/"):
                if path.rsplit("/", 1)[1] not in (tag or "main", commit):
                    missing = {"X-Error-Code": "RevisionNotFound"}
                    continue  # another revision of it may be served
                info = {"id": repo, "sha": commit, "siblings": [{"rfilename": f} for f in files]}
                return 200, {}, json.dumps(info).encode()
            if path.startswith(f"api/{name}/tree/{commit}"):
                rows = [{"type": "file", "path": f, "size": p.stat().st_size, "oid": _oid(p)} for f, p in files.items()]
                return 200, {}, json.dumps(rows).encode()
            if path.startswith(resolve + commit + "/"):
                file = path.removeprefix(resolve + commit + "/")
                if file in files:
                    headers = {"ETag": f'"{_oid(files[file])}"', "X-Repo-Commit": commit}
                    return 200, headers, files[file].read_bytes()
                return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        return 404, missing, b"{}"

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit_of(key: str) -> str:
    """The commit that a revision is."""
    return hashlib.sha1(key.encode()).hexdigest()


def _oid(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
