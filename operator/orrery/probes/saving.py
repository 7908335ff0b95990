"""What a training leaves behind, and how it is read again.

::

    orrery.json      what it is: base model, strategy, parameters, labels, template, score, data digest
    adapter/         low-rank adapters as peft writes them (LoRA, QLoRA): load with ``PeftModel.from_pretrained``
    model/           the whole model and its tokenizer (FullFineTuning): load with transformers
    head.safetensors an encoder's classification head: weight (labels, width) and bias, on ``encoder.mean_pool``
    prompt.json      the prompt and its demonstrations, or the pool to retrieve them from (ZeroShot, InContext, ...)

Written to a folder beside and renamed at the end, so that a run that is killed leaves nothing that looks finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orrery.api.models import Model
from orrery.api.probe import Outcome, ProbeSpec, Report, Trial, model_identity
from orrery.api.task import Task
from orrery.probes.errors import ProbeError
from orrery.probes.locations import SourceRoots
from orrery.probes.pool import pool_of
from orrery.probes.session import Example, Session, Tuned

if TYPE_CHECKING:
    from orrery.probes.evaluation import Evaluation

MANIFEST, PROMPT = "orrery.json", "prompt.json"
FORMAT = "orrery.dev/trained/v1"


class TrainingError(ProbeError):
    """The model was not trained; nothing was written."""


def train(spec: ProbeSpec, output: Path, roots: SourceRoots | None = None) -> dict[str, Any]:
    """Train the one configuration of ``spec``, score it, and write what is needed to use it to ``output``.

    A configuration that trains nothing writes its prompt. Returns what ``orrery.json`` holds.

    Raises ``TrainingError`` with the reason when data, model or training fail, or when ``output`` holds something already.
    """
    if len(spec.trials) != 1:
        raise TrainingError(
            "InvalidSpec", f"trials has {len(spec.trials)} entries: write the one that is to be trained"
        )
    partial = output / ".partial"
    if output.exists() and any(path != partial for path in output.iterdir()):
        raise TrainingError("OutputNotEmpty", f"{output} is not empty: give an empty or a new folder")
    from orrery.probes.runner import run

    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(partial, ignore_errors=True)  # of a Pod that was taken away
    sessions: list[Session] = []
    kinds: list[str] = []

    def keep(session: Session) -> Any:
        sessions.append(session)
        return lambda trained: kinds.append(_save(session, trained, partial))

    partial.mkdir()
    try:
        report = run(spec, partial / "report.json", roots, keep=keep)
        told = _manifest(spec, report, sessions, kinds)
        trial = spec.trials[0]
        if not kinds or _shows(trial):
            (partial / PROMPT).write_text(_dump(prompt(spec.task, trial, sessions[0].data.train)), encoding="utf-8")
        (partial / "report.json").unlink()
        for path in partial.iterdir():
            path.rename(output / path.name)
        partial.rmdir()
        # last, so that a folder with a manifest is whole
        (output / MANIFEST).write_text(_dump(told), encoding="utf-8")
        return told
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _shows(trial: Trial) -> bool:
    return any(p.name == "shots" for p in trial.parameters)


def _manifest(spec: ProbeSpec, report: Report, sessions: Sequence[Session], kinds: Sequence[str]) -> dict[str, Any]:
    if report.error:
        raise TrainingError(report.reason or "ProbeFailed", report.error)
    result, trial = report.trials[0], spec.trials[0]
    if result.outcome is not Outcome.MEASURED:
        raise TrainingError(result.outcome.value, result.message or f"the training ended with {result.outcome.value}")
    told = result.to_wire()
    numbers = ("score", "items", "standardError", "trainSeconds", "trainTokens", "trainFlops", "trainLoss")
    return {
        "format": FORMAT,
        "kind": kinds[0] if kinds else "prompt",
        "model": spec.model.to_wire(),
        "base": model_identity(spec.model),
        "strategy": trial.strategy,
        "parameters": {p.name: p.value for p in trial.parameters},
        "seed": trial.seed,
        "task": spec.task.to_wire(),
        "labels": list(sessions[0].data.labels),
        "dataDigest": sessions[0].data.digest,
        "measured": {name: told[name] for name in numbers if name in told},
    }


def _save(session: Session, trained: Tuned, folder: Path) -> str:
    from safetensors.torch import save_file

    from orrery.probes.finetune.adapters import save_adapters

    if trained.head is not None:
        head = trained.head.state_dict()
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in head.items()}, folder / "head.safetensors"
        )
    if save_adapters(trained.model.module, folder / "adapter"):
        return "adapter"
    trained.model.module.save_pretrained(folder / "model")  # type: ignore[operator]  # a transformers model
    trained.model.tokenizer.save_pretrained(folder / "model")
    return "model"


def prompt(task: Task, trial: Trial, train: Sequence[Example]) -> dict[str, Any]:
    """What a request is shown: the template, and the demonstrations or, where each request has its own, their pool."""
    parameters = {p.name: p.value for p in trial.parameters}
    shots, retriever = int(parameters.get("shots", "0")), parameters.get("retriever", "random")
    pool = pool_of(train, trial.fidelity.training_examples, trial.seed) if shots else []
    shown = pool[:shots] if retriever == "random" else pool
    return {
        "template": task.template.to_wire(),
        "shots": shots,
        "retriever": retriever if shots else "none",
        "calibration": parameters.get("calibration", "none"),
        "demonstrations" if retriever == "random" else "pool": [{"input": e.input, "target": e.target} for e in shown],
    }


def evaluate_saved(folder: Path, items: Sequence[Example], roots: SourceRoots | None = None) -> Evaluation:
    """Score items with what ``train`` wrote to ``folder``, read from there alone (and the base model from its source).

    Raises ``ProbeError`` for what this machine cannot load.
    """
    import torch
    from safetensors.torch import load_file

    from orrery.probes.evaluation import evaluate
    from orrery.probes.finetune import encoder
    from orrery.probes.finetune.answers import judge
    from orrery.probes.likelihood import Meter
    from orrery.probes.models import load

    told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    task = Task.model_validate(told["task"])
    if told["strategy"] == "QLoRA":
        raise ProbeError("Unsupported", f"{folder} holds adapters of a quantised model: load the base in NF4 first")
    if (folder / PROMPT).exists():
        raise ProbeError("Unsupported", f"{folder} holds a prompt: put it before the request, as prompt.json says")
    model = Model.model_validate(told["model"])
    if told["kind"] == "model":
        source = {"local": {"path": str((folder / "model").resolve())}}
        model = Model.model_validate({**told["model"], "source": source})
    loaded = load(model, roots)
    if told["kind"] == "adapter":
        from peft import PeftModel

        loaded.module = PeftModel.from_pretrained(loaded.module, folder / "adapter").merge_and_unload()
    if not (folder / "head.safetensors").exists():
        return evaluate(loaded, task, items)
    weights = load_file(folder / "head.safetensors")
    labels, width = weights["weight"].shape
    head = torch.nn.Linear(width, labels, device=loaded.device)
    head.load_state_dict(weights)
    rows, meter = encoder.tokenize(loaded, [e.input for e in items]), Meter()
    found = encoder.predict(encoder.HeadLoss(loaded, head), rows)
    return judge(task, items, list(found), loaded.facts, meter, 0.0, 0.0)


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
