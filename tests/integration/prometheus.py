"""A real Prometheus: Debian's programs, fetched when they are not there, and a running server."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import yaml

from tests.integration.operators import free_port
from tests.waiting import until

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "prometheus"


def program(name: str) -> str:
    """``prometheus`` or ``promtool``: of this machine, or from Debian's package, unpacked once into the cache.

    Nothing is installed in the system. Skips, with the reason, where there is no apt; fails where apt is and cannot fetch it,
    so that a CI that could have it does not leave the test out unseen.
    """
    unpacked = CACHE / "usr" / "bin" / name
    if found := shutil.which(name) or (str(unpacked) if unpacked.exists() else None):
        return found
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"{name} is not installed, and this machine has no apt to fetch Debian's package prometheus with")
    CACHE.mkdir(parents=True, exist_ok=True)
    lists = CACHE / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", f"-oDir::State::lists={lists}", "-oAPT::Sandbox::User=root"]
    for step in ([*apt, "update"], [*apt, "download", "prometheus"]):
        done = subprocess.run(step, cwd=CACHE, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            pytest.fail(f"{name} is missing and apt cannot fetch it ({done.stderr.strip()[-300:]}): install prometheus")
    package = next(CACHE.glob("prometheus_*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, CACHE], check=True, timeout=120)
    package.unlink()
    return str(unpacked)


class Prometheus:
    """A server that scrapes one target every second and evaluates rules; ended at the end of the ``with``."""

    def __init__(self, folder: Path, target: str, rules: dict[str, Any]) -> None:
        self.folder, self.target, self.port = folder, target, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        rules = json.loads(json.dumps(rules))
        for group in rules["groups"]:
            group["interval"] = "1s"
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        (folder / "prometheus.yaml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yaml"],
                    # a plan's namespace is not the operator's, as in the chart's monitors
                    "scrape_configs": [
                        {"job_name": "orrery", "honor_labels": True, "static_configs": [{"targets": [target]}]}
                    ],
                }
            )
        )

    def __enter__(self) -> Prometheus:
        command = [
            program("prometheus"),
            f"--config.file={self.folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self.folder / "prometheus.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(self._ready, 60, what=f"Prometheus is ready; see {log.name}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def get(self, path: str, **parameters: str) -> Any:
        """``data`` of an answer of the HTTP API; AssertionError with Prometheus' own words when it is refused."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {json.load(error).get('error')}") from None

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        return list(self.get("query", query=expression, time=str(time.time()))["result"])
