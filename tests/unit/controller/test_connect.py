"""A cluster that nobody configured: a sentence, whoever asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.controller.overview import current_namespace
from orrery.controller.server import Server, ServerError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("text", [None, "a: [", "", "kind: Config\n", "just text", "[1, 2]"])
def test_a_kubeconfig_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    with pytest.raises(ServerError, match=r"no cluster is configured \(.*\): set KUBECONFIG to a kubeconfig"):
        Server.connect(1)
    assert current_namespace() == "default"
