"""A few interruptions of a real operator on a real API server; `python -m tests.chaos` does 200."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import chaos
from tests.cluster import ExternalCluster

pytestmark = [pytest.mark.integration, pytest.mark.chaos]


def test_ten_interruptions_lose_nothing_start_nothing_twice_and_overspend_nothing(tmp_path: Path) -> None:
    if ExternalCluster.from_environment() is not None:
        pytest.skip("interrupts the cluster, and KUBECONFIG names one that is not ours")
    result = chaos(tmp_path, seed=4, count=10, active=4)
    assert result.unanswered == []
    assert result.lost == []
    assert result.duplicated == []
    assert result.overspent == []
    # that it could have failed: things were interrupted, ran, reported, and were looked at
    assert result.summary["interruptions"] == 10
    assert result.summary["plans"] >= 4
    assert result.summary["jobs"] >= result.summary["probes"] > 0
    assert result.summary["reports"] > 0
    assert result.summary["samples"] > 20
