"""A cluster's report: the page of its objects, nobody's text as markup, and only for plans that there are."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from orrery.cli.cluster_report import Pages, page_of
from orrery.cli.main import app
from orrery.controller import overview, results
from orrery.controller.jobs import JobSettings
from orrery.controller.server import CONFIG_MAPS, PLANS, PRICE_LISTS, NotFound, Object, Resource, Server
from orrery.controller.world import World
from tests.unit.report.answers import HOSTILE, Answered, answer, hostile, large

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def made() -> Answered:
    return answer()


def objects(made: Answered) -> tuple[Object, Object, Object]:
    """A plan, its price list and its results as the API server holds them."""
    meta = {"name": "plan", "namespace": "team-a", "uid": "u", "resourceVersion": "1", "creationTimestamp": "t"}
    status = made.status.model_copy(update={"results_ref": "plan-results"}).to_wire()
    body = {**made.plan.model_copy(update={"status": None}).to_wire(), "metadata": meta, "status": status}
    prices = {**made.prices.to_wire(), "metadata": {"name": "prices"}}
    return body, prices, results.build(body, results.lines(made.rows))


class Objects:
    """What the pages ask of the API server."""

    def __init__(self, plan: Object, prices: Object, rows: Object) -> None:
        self.kept: dict[str, Object] = {PLANS.kind: plan, PRICE_LISTS.kind: prices, CONFIG_MAPS.kind: rows}
        self.asked = 0
        self.world = World()
        self.world.put(PLANS, plan)

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        self.asked += 1
        if resource.kind not in self.kept:
            raise NotFound(404, "gone")
        return self.kept[resource.kind]

    def list(self, resource: Resource, namespace: str | None) -> list[Object]:
        return []

    def pages(self) -> Pages:
        probing = SimpleNamespace(jobs=JobSettings(image="i"))
        operator: Any = SimpleNamespace(world=self.world, server=self, reconciler=SimpleNamespace(probing=probing))
        return Pages(operator)


def test_the_page_is_that_of_the_answer(made: Answered) -> None:
    page = page_of(*objects(made), [])
    best = made.status.recommendation
    assert best is not None and best.message.split(":")[0] in page and "team-a/plan" in page
    assert f">{best.model}<" in page and f">{best.strategy}<" in page


def test_ten_thousand_candidates_are_less_than_five_megabytes_and_quickly_drawn(made: Answered) -> None:
    begun = time.process_time()
    page = page_of(*objects(large(made)), [])
    assert "10,000" in page and len(page.encode()) < 5_000_000
    assert time.process_time() - begun < 20


def test_what_is_hostile_is_text(made: Answered) -> None:
    evil = hostile(made)
    plan, prices, _ = objects(made)
    plan["status"]["recommendation"]["message"] = HOSTILE[:1000]
    rows = results.build(plan, results.lines(evil.rows))
    page = page_of(plan, prices, rows, [])
    assert "<img src=x" not in page and "&lt;img src=x" in page


def test_pages_are_drawn_once_a_version_and_only_for_plans_that_there_are(made: Answered) -> None:
    server = Objects(*objects(made))
    pages = server.pages()
    found = pages("/reports/team-a/plan")
    assert found is not None and found[0] == 200 and b"<!doctype html" in found[2][:200].lower()
    asked = server.asked
    assert pages("/reports/team-a/plan") == found and server.asked == asked
    index = pages("/reports")
    assert index is not None and b'href="/reports/team-a/plan"' in index[2]
    for path in ("/", "/metrics", "/reports/team-a", "/reports/a/b/c", "/report/team-a/plan"):
        assert pages(path) is None
    missing = pages(f"/reports/team-a/{'x' * 999}<script>")
    assert missing is not None and missing[:2] == (404, "text/plain; charset=utf-8") and len(missing[2]) < 500
    del server.kept[CONFIG_MAPS.kind]
    server.world.put(PLANS, {**objects(made)[0], "metadata": {**objects(made)[0]["metadata"], "resourceVersion": "2"}})
    gone = pages("/reports/team-a/plan")
    assert gone is not None and gone[0] == 404 and b"are gone" in gone[2]


def test_without_an_answer_there_is_no_page(made: Answered) -> None:
    plan, prices, rows = objects(made)
    server = Objects({**plan, "status": {}}, prices, rows)
    found = server.pages()("/reports/team-a/plan")
    assert found is not None and found[0] == 404 and b"has no answer yet" in found[2]


def test_kubectl_renders_explains_and_reports_the_plan_of_that_name(
    made: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "connect", lambda *_: Objects(*objects(made)))
    monkeypatch.setattr(overview, "current_namespace", lambda: "team-a")
    best = made.status.recommendation
    assert best is not None

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, obj={"cluster": True})
        assert done.exit_code == 0, done.output
        return done.output

    job = yaml.safe_load(run("render", "plan", "--format", "job", "--assets-claim", "assets", "--image", "probe:7"))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (job["kind"], container["image"]) == ("Job", "probe:7")
    asked = next(json.loads(v["value"]) for v in container["env"] if v["name"] == "ORRERY_PROBE_SPEC")
    assert asked["model"]["name"] == best.model and asked["trials"][0]["strategy"] in ("LoRA", "InContext", "ZeroShot")
    assert best.message.split(":")[0] in run("report", "plan", "--output", "-")
    assert best.model in run("explain", "plan")
