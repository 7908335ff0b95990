"""Every page: links lead somewhere, code is where it can be run, and what is quoted from a file is in that file."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path

import pytest

from orrery.api import yamltext
from orrery.api.load import parse
from orrery.api.quantities import WIRE
from orrery.api.status import PlanStatus
from orrery.controller.metrics import Metrics
from tests.unit.api.manifests import PLAN
from tests.unit.docs.markdown import ROOT, anchors, blocks, links, pages

pytestmark = pytest.mark.unit

#: Languages whose blocks are run, checked or quoted; the others are pictures.
CODE = {"sh", "python", "yaml", "toml", "promql", "json"}
PICTURES = {"text", "mermaid", ""}
COMMAND = re.compile(r"^\s*(orrery|kubectl|helm|pip|python3?|make|git|docker|podman|promtool|sed|curl) ", re.MULTILINE)
#: Pages whose commands made the numbers beside them, by hand: minutes to hours each.
MEASURED = ("docs/benchmarks.md", "docs/benchmarks", "docs/decisions")

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        parts = urllib.parse.urlsplit(link)
        if parts.scheme or link.startswith("//"):
            assert parts.scheme in ("https", "http", "mailto"), link
            continue
        target = (page.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if parts.fragment:
            assert parts.fragment in anchors(target.read_text(encoding="utf-8")), f"{link}: no such heading"


@every_page
def test_code_is_where_it_is_run_or_says_why_not(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    spared = name in MEASURED or str(Path(name).parent) in MEASURED
    for block in blocks(page):
        if block.fenced:
            assert block.language in CODE | PICTURES, f"{block.where}: is '{block.language}' run or a picture?"
            if block.language in PICTURES:
                assert not COMMAND.search(block.code), f"{block.where}: a command in a picture is not run"
            if block.language == "python":
                assert block.source, f"{block.where}: say which file it is from, which is tested"
        else:
            assert spared or not COMMAND.search(block.code), f"{block.where}: fence it as sh, so that it is run"
        if block.not_run:
            assert len(block.not_run) > 20, f"{block.where}: why not?"


@every_page
def test_what_is_quoted_is_in_its_file(page: Path) -> None:
    for block in blocks(page):
        if block.source:
            assert block.code.strip("\n") in (ROOT / block.source).read_text(encoding="utf-8"), (
                f"{block.where} has changed"
            )


@every_page
def test_yaml_is_what_the_api_takes(page: Path) -> None:
    for block in blocks(page):
        if block.language == "yaml" and not block.source:
            for document in yamltext.read(block.code):
                _taken(document, block.where)


def _taken(document: object, where: str) -> None:
    """A manifest, or a part of a plan: what is left out of it is anything valid."""
    assert isinstance(document, dict), where
    if "apiVersion" in document and "spec" in document:
        parse(document, where)
        return
    known = {"apiVersion", "kind", "metadata", "spec", "status"}
    assert set(document) <= known, f"{where}: {set(document) - known} is in no manifest"
    assert document.get("kind", "AdaptationPlan") == "AdaptationPlan", f"{where}: show the whole of it"
    plan = {**PLAN, "metadata": {**PLAN["metadata"], **document.get("metadata", {})}}
    parse({**plan, "spec": {**PLAN["spec"], **document.get("spec", {})}}, where)
    PlanStatus.model_validate(document.get("status", {}), context=WIRE)


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in links(index.read_text())}
    folders = {ROOT / "docs", ROOT / "docs" / "concepts"}
    below = {page for page in pages() if page.parent in folders and page != index}
    assert below <= listed, f"docs/README.md leaves out {sorted(str(p.name) for p in below - listed)}"


def test_every_series_is_in_the_table_and_every_row_a_series() -> None:
    text = (ROOT / "docs" / "watching.md").read_text()
    rows = re.findall(r"^\| (`orrery_[^|]*) \| (?:gauge|counter|histogram) \|", text, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(orrery_\w+)`", row)}
    endings = {"counter": "_total", "info": "_info"}
    exposed = {family.name + endings.get(family.type, "") for family in Metrics().registry.collect()}
    assert told == exposed, told ^ exposed
