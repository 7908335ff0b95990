"""The operator's own configuration, from its environment: what a chart sets, and nothing a plan could."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orrery.controller.jobs import JobSettings

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class SettingsError(ValueError):
    """A variable that cannot be used; the message names it, its value and what to write."""


@dataclass(frozen=True)
class Settings:
    """Everything an operator process is told."""

    namespace: str | None  #: the only namespace that is watched; None: all of them
    own_namespace: str  #: where its Lease is
    identity: str
    jobs: JobSettings
    metrics_port: int = 9090
    health_port: int = 8080
    reports_port: int = 0  #: where reports are served; 0: nowhere
    workers: int = 8
    lease_seconds: float = 30.0
    resync_seconds: float = 120.0
    watch_timeout_seconds: int = 240

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Raises SettingsError for a value that is not usable.

        >>> Settings.from_environment({"ORRERY_PROBE_IMAGE": "r/probe:1", "ORRERY_WORKERS": "none"})
        Traceback (most recent call last):
        orrery.controller.settings.SettingsError: ORRERY_WORKERS is 'none': write a whole number from 1 to 256
        """
        env = os.environ if env is None else env
        image = env.get("ORRERY_PROBE_IMAGE", "")
        if not image:
            raise SettingsError(
                "ORRERY_PROBE_IMAGE is not set: write the image that probes run, such as REGISTRY/orrery-probe:TAG"
            )
        return cls(
            namespace=env.get("ORRERY_NAMESPACE") or None,
            own_namespace=env.get("ORRERY_OWN_NAMESPACE") or _own_namespace(),
            identity=env.get("ORRERY_IDENTITY") or f"{socket.gethostname()}-{os.getpid()}",
            jobs=JobSettings(
                image=image,
                image_pull_policy=env.get("ORRERY_PROBE_IMAGE_PULL_POLICY", "IfNotPresent"),
                default_memory=env.get("ORRERY_PROBE_MEMORY") or None,
                default_cpu=env.get("ORRERY_PROBE_CPU", "1"),
                assets_claim=env.get("ORRERY_ASSETS_CLAIM") or None,
            ),
            metrics_port=_whole(env, "ORRERY_METRICS_PORT", 9090, 0, 65535),
            health_port=_whole(env, "ORRERY_HEALTH_PORT", 8080, 0, 65535),
            reports_port=_whole(env, "ORRERY_REPORTS_PORT", 0, 0, 65535),
            workers=_whole(env, "ORRERY_WORKERS", 8, 1, 256),
            lease_seconds=_whole(env, "ORRERY_LEASE_SECONDS", 30, 3, 3600),
            resync_seconds=_whole(env, "ORRERY_RESYNC_SECONDS", 120, 1, 86400),
            watch_timeout_seconds=_whole(env, "ORRERY_WATCH_TIMEOUT_SECONDS", 240, 5, 3600),
        )


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip() or "default"
    except OSError:
        return "default"


def _whole(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name} is {text!r}: write a whole number from {least} to {most}")
    return int(text)
