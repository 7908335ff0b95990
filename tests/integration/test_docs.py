"""The commands of the documentation that need a cluster, run on a real one; its queries are in test_prometheus.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import pages
from tests.cluster import Cluster
from tests.integration.operators import Operator
from tests.unit.docs.markdown import ROOT, blocks
from tests.unit.docs.markdown import pages as every_page

pytestmark = pytest.mark.integration

CLUSTER = [page for page in every_page() if any(b.language == "sh" and b.words == ("cluster",) for b in blocks(page))]


def simulated(manifest: str) -> str:
    """The page's plan for the tests' cluster: models and data of the simulated probe, on the node that has it."""
    return (
        manifest.replace("builtin: {name: bigbench/intent_recognition}", "huggingFace: {repo: sim/data, revision: r}")
        .replace("builtin: {name: all-minilm-l6-v2}", "huggingFace: {repo: sim/ok, revision: r}")
        .replace("    - name: cpu\n", '    - name: cpu\n      nodeSelector: {orrery.dev/simulated: "true"}\n')
    )


@pytest.mark.parametrize("page", CLUSTER, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_a_cluster(operator: Operator, simulating: Cluster, page: Path, tmp_path: Path) -> None:
    kubectl = tmp_path / "bin"
    kubectl.mkdir()
    (kubectl / "kubectl").symlink_to(simulating.programs.kubectl)
    environment = {
        "KUBECONFIG": str(simulating.kubeconfig),
        "PATH": f"{kubectl}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    assert pages.run(page, tmp_path, ("cluster",), environment, simulated) > 0


def test_the_pages_are_there() -> None:
    assert {page.name for page in CLUSTER} >= {"quickstart.md", "runbook.md"}
