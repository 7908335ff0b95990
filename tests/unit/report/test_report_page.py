"""The page: what it says, that it is whole, and that nobody's text becomes markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest

from orrery.api.status import Confirmation, Revision
from orrery.report.data import script_json
from tests.unit.report.answers import HOSTILE, answer, hostile, large

pytestmark = pytest.mark.unit
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements, attributes, visible text and scripts; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words))

    @property
    def data(self):
        return json.loads(self.scripts[0])


def test_the_answer_comes_first_and_in_a_sentence(answered):
    page = Page(answered.page())
    best = answered.status.recommendation
    sentence = f"Use {best.model} with {best.strategy}"
    assert sentence in page.text
    assert page.text.index(sentence) < page.text.index("Quality against cost")
    assert f"{float(best.quality.predicted):.3f}" in page.text


def test_work_stands_beside_money(answered):
    page, best = Page(answered.page()), answered.status.recommendation
    cost, requests = best.cost, answered.plan.spec.workload.requests_per_day * answered.plan.spec.workload.horizon_days
    assert float(cost.cost_of_pass) == pytest.approx(
        float(cost.total) / requests / float(best.quality.predicted), rel=0.05
    )  # of the expected quality, which is near its median
    assert cost.accelerator_hours > 0 and cost.serving_flops > 0
    assert "expected money per right answer" in page.text and "FLOPs in all" in page.text
    for rival in answered.status.alternatives:
        assert rival.cost.cost_of_pass and rival.cost.serving_flops and rival.cost.accelerator_hours
    rows = page.data["rows"]
    assert rows["pass"] == pytest.approx([r.cost_of_pass for r in answered.rows], rel=1e-5)
    assert rows["hours"] == pytest.approx([r.accelerator_hours for r in answered.rows], rel=1e-3)
    assert "USD per right answer" in page.text or "EUR per right answer" in page.text


def test_what_confirming_found_is_told_and_escaped(answered):
    told = Confirmation(spent="0", reserved="0", reason="Confirming", message="<b>lora</b> runs in full")
    status = answered.status.model_copy(update={"confirmation": told})
    page = replace(answered, status=status).page()
    assert "<b>Confirming:</b> &lt;b&gt;lora&lt;/b&gt; runs in full." in page


def test_nothing_is_loaded_from_anywhere(answered):
    page = Page(answered.page())
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:")), (tag, attributes)
    style = answered.page().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style


def test_only_the_two_scripts_of_the_page_may_run(answered):
    page = Page(answered.page())
    policy = next(a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a)
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    assert allowed == {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in page.scripts[1:]}
    assert len(page.scripts) == 3 and "script-src 'unsafe-inline'" not in policy and "default-src 'none'" in policy


def test_hostile_texts_stay_texts(answered):
    calm, page = Page(answered.page()), Page(hostile(answered).page())
    assert not [e for e in page.elements if e[0] == "img"] and len(page.scripts) == len(calm.scripts)
    assert {k for _, a in page.elements for k in a if k.startswith("on")} == set()
    assert "<" not in page.scripts[0]
    assert HOSTILE in page.data["rows"]["names"]["reason"]  # whole, where it is a text among texts
    assert f"{HOSTILE[:119]}…" in page.text  # and cut, in the title line


def test_a_text_cannot_end_the_script_that_holds_it():
    text = "</script><!--<script>\u2028\u2029&"
    assert not set("<>&\u2028\u2029") & set(script_json(text)) and json.loads(script_json(text)) == text


def test_every_candidate_is_in_the_data(answered):
    rows = Page(answered.page()).data["rows"]
    names = rows["names"]
    shown = {
        (names["model"][m], names["strategy"][s], names["configuration"][c], names["reason"][r])
        for m, s, c, r in zip(rows["model"], rows["strategy"], rows["configuration"], rows["reason"], strict=True)
    }
    assert len(rows["model"]) == len(answered.rows) and len(shown) == len(answered.rows)
    for row, quality in zip(answered.rows, rows["quality"], strict=True):
        assert (quality is None) == (row.quality is None)
        if row.quality is not None:
            assert quality[0] == pytest.approx(row.quality.median, rel=1e-4)
    assert len(rows["frontier"]) == len(answered.status.frontier)


def test_a_large_plan_stays_below_five_megabytes(answered):
    page = large(answered).page()
    assert len(json.loads(Page(page).scripts[0])["rows"]["model"]) == 10_000
    assert len(page.encode()) < 5e6


def test_what_was_not_measured_is_named(answered):
    bare = replace(answered, records=[])
    text = Page(bare.page()).text
    assert "Never measured" in text and "encoder / lora" in text and "0 probes took 0 measurements" in text
    assert "1,000 are assumed" in text
    refused = "encoder / in-context"  # an encoder reads no demonstrations: neither measured nor forecast
    assert refused not in text.split("Never measured")[1].split("measurements")[0]


def test_old_prices_are_said_to_be_old(answered):
    assert "days old: check them" in Page(answered.page(date(2026, 12, 1))).text
    assert "days old: check them" not in Page(answered.page(date(2026, 1, 2))).text


def test_the_same_inputs_give_the_same_bytes(answered):
    assert answered.page() == answered.page()


def test_digests_and_the_plan_are_there(answered):
    text = Page(answered.page()).text
    assert answered.status.inputs.plan_digest in text and answered.status.inputs.data_digest in text
    assert "maxProbeCost" in text


def test_commits_of_the_hub_are_there(answered):
    read = Revision(kind="Model", repo="me/small", revision="v1", commit="a" * 40)
    inputs = answered.status.inputs.model_copy(update={"revisions": [read]})
    made = replace(answered, status=answered.status.model_copy(update={"inputs": inputs}))
    text = Page(made.page()).text
    assert "Commit of me/small (v1)" in text and "a" * 40 in text


def test_a_plan_that_cannot_be_met_says_so():
    made = answer(objective={"goal": "MinimizeCost", "minQuality": "0.999"})
    assert made.status.recommendation is None
    assert "No candidate meets the objective" in Page(made.page()).text


def test_a_plan_without_traffic_has_no_break_even():
    made = answer(workload={"requestsPerDay": 0})
    page = Page(made.page())
    assert page.data["costs"] == [] and page.data["breakEven"] is None
    assert "no pair of a trained and an untrained candidate" in page.text


def test_no_candidate_at_all_is_a_page_too(answered):
    status = answered.status.model_copy(update={"recommendation": None, "frontier": [], "phase": "Stalled"})
    assert "There is no answer yet" in Page(replace(answered, rows=[], records=[], status=status).page()).text
