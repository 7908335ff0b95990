"""`orrery render`: the recommended strategy of a state folder, and why there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from orrery.api import yamltext
from orrery.api.plan import AdaptationPlan
from orrery.cli.answers import of_state
from orrery.cli.render import Format, manifest_of
from orrery.local.files import StateError
from orrery.planning.advance import advance
from tests.unit.planning.world import World, drive, make_plan, make_prices, model

pytestmark = pytest.mark.unit
ROWS = [{"text": f"item {i}", "label": "ab"[i % 2]} for i in range(40)]


def answered(folder: Path, **changes: Any) -> AdaptationPlan:
    """A state folder with an answer."""
    plan, prices = make_plan(**changes), make_prices()
    run = drive(plan, prices, World())
    step = advance(plan, run.records, prices)
    folder.mkdir(exist_ok=True)
    (folder / "plan.yaml").write_text(yamltext.write(plan.to_wire()))
    (folder / "prices.yaml").write_text(yamltext.write(prices.to_wire()))
    (folder / "status.yaml").write_text(yamltext.write(step.status.to_wire()))
    return plan


def rendered(folder: Path, form: Format | None = None) -> dict[str, Any]:
    plan, _, status, *_ = of_state(folder, None)
    return manifest_of(plan, status, form, "registry.example.com/probe:1", "models", "assets", folder)


def test_what_trains_is_a_job_by_default(tmp_path: Path) -> None:
    answered(tmp_path, strategies=[{"name": "lora", "type": "LoRA"}])
    job = rendered(tmp_path)
    assert job["kind"] == "Job" and rendered(tmp_path, Format.TRAINJOB)["kind"] == "TrainJob"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/probe:1"
    assert job["spec"]["template"]["spec"]["volumes"][-1]["persistentVolumeClaim"]["claimName"] == "models"
    with pytest.raises(ValueError, match="lora trains weights, which no ConfigMap holds: take --format job"):
        rendered(tmp_path, Format.CONFIGMAP)


def test_what_prompts_is_a_configmap_with_its_demonstrations(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task = {
        "dataset": {"source": {"local": {"path": str(data)}}, "columns": {"input": "text", "target": "label"}},
        "template": {"instruction": "Say a or b.", "example": "{input}\nAnswer:"},
    }
    for retriever, key, count in (("random", "demonstrations", 3), ("bm25", "pool", 28)):
        shots = [{"name": "shots", "values": [3]}, {"name": "retriever", "values": [retriever]}]
        folder = tmp_path / retriever
        answered(
            folder,
            task=task,
            models=[model("small")],
            strategies=[{"name": "shots", "type": "InContext", "grid": shots}],
            objective={"goal": "MaximizeQuality"},
        )
        made = rendered(folder)
        prompt = json.loads(made["data"]["prompt.json"])
        assert made["kind"] == "ConfigMap" and prompt["shots"] == 3 and prompt["retriever"] == retriever
        assert prompt["template"]["instruction"] == "Say a or b." and len(prompt[key]) == count
        assert all(d["target"] in ("a", "b") for d in prompt[key])
        with pytest.raises(ValueError, match="shots trains nothing: take --format configmap, or job"):
            rendered(folder, Format.TRAINJOB)
        with pytest.raises(ValueError, match="a path of one machine"):
            rendered(folder, Format.JOB)


def test_without_an_answer_or_a_recommendation_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="holds no answer yet: `orrery run` the plan first"):
        rendered(tmp_path)
    answered(tmp_path, objective={"minQuality": "0.9999"}, strategies=[{"name": "zero", "type": "ZeroShot"}])
    with pytest.raises(ValueError, match=r"recommends nothing \(Infeasible\)"):
        rendered(tmp_path)
    assert yaml.safe_load((tmp_path / "status.yaml").read_text())["phase"] == "Infeasible"
