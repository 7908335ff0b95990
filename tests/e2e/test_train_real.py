"""`orrery train`: a real model is trained, written to a folder, and read again from there alone with the same score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from orrery.api import yamltext
from orrery.api.task import Task
from orrery.cli.main import app
from orrery.probes.data import read_task
from orrery.probes.errors import ProbeError
from orrery.probes.saving import MANIFEST, PROMPT, evaluate_saved

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("builtin_assets")]

TASK = {"dataset": {"source": {"builtin": {"name": "bigbench/intent_recognition"}}}}
MINILM = {"name": "minilm", "architecture": "Encoder", "source": {"builtin": {"name": "all-minilm-l6-v2"}}}
SMOLLM = {"name": "smollm2", "source": {"builtin": {"name": "smollm2-135m-instruct"}}}
#: Scored by the model that was trained and by the one that is read again; the larger model takes longer for each.
ITEMS = {"minilm": 60, "smollm2": 24}


def spec(path: Path, model: dict[str, Any], strategy: str, examples: int, **parameters: str) -> Path:
    trial = {
        "name": "full",
        "strategy": strategy,
        "parameters": [{"name": k, "value": v} for k, v in parameters.items()],
        "fidelity": {"trainingExamples": examples, "evaluationItems": ITEMS[model["name"]]},
    }
    wanted = {"model": model, "task": TASK, "trials": [trial], "accelerator": "cpu", "deadlineSeconds": 600}
    path.write_text(yamltext.write(wanted))
    return path


def train(path: Path, output: Path) -> Result:
    """The command, in this process, which has torch already; test_run_real trains in one of its own."""
    return CliRunner().invoke(app, ["train", str(path), "--output", str(output)])


def told(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / MANIFEST).read_text()))


@pytest.mark.parametrize(
    ("model", "strategy", "examples", "holds"),
    [
        (MINILM, "LoRA", 64, {"adapter", "head.safetensors"}),
        (MINILM, "FullFineTuning", 48, {"model", "head.safetensors"}),
        (SMOLLM, "LoRA", 16, {"adapter"}),
    ],
)
def test_what_is_trained_is_read_again_with_the_same_score(
    tmp_path: Path, model: dict[str, Any], strategy: str, examples: int, holds: set[str]
) -> None:
    output = tmp_path / "out"
    done = train(spec(tmp_path / "spec.yaml", model, strategy, examples, epochs="1"), output)
    assert done.exit_code == 0, done.stderr
    assert {p.name for p in output.iterdir()} == holds | {MANIFEST}
    made = told(output)
    assert json.loads(done.stdout)["score"] == made["measured"]["score"]
    assert made["measured"]["items"] == ITEMS[model["name"]] and len(made["labels"]) == 7
    items = read_task(Task.model_validate(TASK)).evaluation[: ITEMS[model["name"]]]
    again = evaluate_saved(output, items)
    assert float(again.scores.mean()) == pytest.approx(float(made["measured"]["score"]), abs=1e-6)
    if "adapter" in holds:  # any peft can load it
        config = json.loads((output / "adapter" / "adapter_config.json").read_text())
        assert config["peft_type"] == "LORA" and config["r"] == 8
    # a second training does not write over the first
    assert "OutputNotEmpty" in train(tmp_path / "spec.yaml", output).stderr


def test_in_context_learning_leaves_its_prompt_and_demonstrations(tmp_path: Path) -> None:
    output = tmp_path / "out"
    asked = spec(tmp_path / "spec.yaml", SMOLLM, "InContext", 0, shots="2", retriever="random")
    done = train(asked, output)
    assert done.exit_code == 0, done.stderr
    assert {p.name for p in output.iterdir()} == {MANIFEST, PROMPT} and told(output)["kind"] == "prompt"
    prompt = json.loads((output / PROMPT).read_text())
    assert prompt["shots"] == len(prompt["demonstrations"]) == 2
    assert {d["target"] for d in prompt["demonstrations"]} <= set(told(output)["labels"])
    with pytest.raises(ProbeError, match="holds a prompt"):
        evaluate_saved(output, [])


def test_what_cannot_be_trained_leaves_nothing(tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = train(spec(tmp_path / "spec.yaml", MINILM, "LoRA", 8, learningRate="fast"), output)
    assert done.exit_code == 1 and "learningRate is 'fast'" in done.stderr
    assert list(output.iterdir()) == []
