"""``orrery render``: the recommended strategy as manifests to apply or to commit."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Format(StrEnum):
    """What is written."""

    JOB = "job"
    TRAINJOB = "trainjob"
    CONFIGMAP = "configmap"


def render(
    where: Annotated[Path, typer.Argument(metavar="STATE|PLAN", help="A state folder, or the plan's file.")],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Job, Kubeflow TrainJob, or ConfigMap with the prompt; what fits by default."),
    ] = None,
    image: Annotated[str | None, typer.Option(help="Probe image, unless the plan names one.")] = None,
    claim: Annotated[str, typer.Option(help="PersistentVolumeClaim that is written to.")] = "trained-models",
    assets_claim: Annotated[
        str | None, typer.Option("--assets-claim", help="Claim with the assets of builtin: sources.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="State folder; .orrery/NAMESPACE/NAME by default.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - for standard output.")
    ] = Path("-"),
) -> None:
    """Write the recommended strategy as a manifest: a Job or a Kubeflow TrainJob that trains it, or a ConfigMap with its prompt.

    Exit code 0 when it is written, 2 when there is no recommendation or it cannot run in a cluster.
    """
    from orrery.api import yamltext
    from orrery.cli.failures import Exit

    try:
        manifest = manifest_of(where, state, form, image, claim, assets_claim)
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None
    text = yamltext.write(manifest)
    if output == Path("-"):
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def manifest_of(
    where: Path, state: Path | None, form: Format | None, image: str | None, claim: str, assets_claim: str | None
) -> dict[str, Any]:
    """The manifest; raises ``ValueError`` with a sentence for what cannot be rendered, StateError without an answer."""
    import orrery
    from orrery.api.load import load
    from orrery.cli.reading import state_folder
    from orrery.controller import render as rendering
    from orrery.controller.jobs import JobSettings
    from orrery.local.files import StateError
    from orrery.local.publish import PLAN, read_status

    folder = where if where.is_dir() else state_folder(load([where]).plan(), state)
    status = read_status(folder)
    if status is None or not (folder / PLAN).exists():
        raise StateError(f"{folder} holds no answer yet: `orrery run` the plan first")
    if status.recommendation is None:
        raise ValueError(f"{folder} recommends nothing ({status.phase}): there is nothing to render")
    plan = load([folder / PLAN]).plan()
    jobs = JobSettings(image=image or f"orrery-probe:{orrery.__version__}", assets_claim=assets_claim)
    target = rendering.Target(jobs, claim)
    spec = rendering.training_spec(plan, status.recommendation)
    trained = rendering.trains(spec)
    form = form or (Format.JOB if trained else Format.CONFIGMAP)
    if form is Format.CONFIGMAP:
        if trained:
            raise ValueError(
                f"{status.recommendation.strategy} trains weights, which no ConfigMap holds: take --format job"
            )
        return rendering.build_prompt(plan, spec, _prompt(folder, spec))
    if form is Format.TRAINJOB and not trained:
        raise ValueError(f"{status.recommendation.strategy} trains nothing: take --format configmap, or job")
    made = rendering.render(plan, status.recommendation, target)
    return made[form.value]


def _prompt(folder: Path, spec: Any) -> dict[str, Any]:
    """The prompt with its demonstrations, from the data as it is now."""
    from dataclasses import replace

    from orrery.probes.data import read_task
    from orrery.probes.errors import ProbeError
    from orrery.probes.locations import SourceRoots
    from orrery.probes.saving import prompt

    roots = SourceRoots.from_environment()
    volumes = folder / "volumes"
    if volumes.is_dir():  # as the run has linked them
        kinds = {kind: {p.name: p.resolve() for p in (volumes / kind).glob("*")} for kind in ("pvc", "configmap")}
        roots = replace(roots, pvc=kinds["pvc"] or roots.pvc, config_map=kinds["configmap"] or roots.config_map)
    try:
        return prompt(spec.task, spec.trials[0], read_task(spec.task, roots).train)
    except ProbeError as error:
        raise ValueError(f"{error.reason}: {error}") from None
