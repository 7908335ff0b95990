"""The example strategy before a real model and real data: its page's commands find it, probe it, and it wins where it is better."""

import os

import pytest
import yaml

from tests import pages
from tests.plugin import installed
from tests.unit.docs.markdown import ROOT, blocks
from tests.unit.docs.markdown import pages as every_page

pytestmark = pytest.mark.e2e

PAGE = ROOT / "docs" / "adding-a-strategy.md"


def test_the_page_s_commands_probe_the_example_strategy_and_it_beats_zero_shot(builtin_assets, tmp_path):
    environment = {"PYTHONPATH": os.pathsep.join(installed(tmp_path / "site"))}
    assert pages.run(PAGE, tmp_path, ("plugin",), environment) > 0
    status = yaml.safe_load((tmp_path / ".orrery" / "default" / "neighbours" / "status.yaml").read_text())
    best = status["recommendation"]
    assert best["strategy"] == "neighbours" and best["measured"] is True
    rivals = {rival["strategy"]: float(rival["quality"]["predicted"]) for rival in status["alternatives"]}
    assert float(best["quality"]["predicted"]) > rivals["zero-shot"] + 0.05
    assert float(best["cost"]["adaptation"]) > 0 and float(best["cost"]["serving"]) > 0


def test_no_other_page_has_such_commands():
    found = [page for page in every_page() if any(b.language == "sh" and b.words == ("plugin",) for b in blocks(page))]
    assert found == [PAGE]
