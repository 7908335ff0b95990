"""Wiring: what ends Kopf does not end the operator."""

from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from orrery.controller import main
from orrery.controller.metrics import Metrics
from orrery.controller.settings import Settings

pytestmark = pytest.mark.unit


def test_watches_that_died_start_again_until_a_signal_ends_them(monkeypatch):
    ends = [RuntimeError("410: Gone"), RuntimeError("401"), None]
    seen = []

    async def kopf_operator(**told):
        seen.append(told)
        if (end := ends[len(seen) - 1]) is not None:
            raise end

    monkeypatch.setattr(main.kopf, "operator", kopf_operator)
    settings = Settings.from_environment({"ORRERY_PROBE_IMAGE": "probe:1", "ORRERY_NAMESPACE": "team-a"})
    operator = SimpleNamespace(metrics=Metrics(), saw=lambda *_: None)
    main.watch_forever(operator, settings, pause=0.0)
    assert [told["namespaces"] for told in seen] == [["team-a"]] * 3
    assert b'orrery_reconcile_errors_total{reason="Watch"} 2.0' in generate_latest(operator.metrics.registry)
