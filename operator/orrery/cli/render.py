"""``orrery render``: the recommended strategy as manifests to apply or to commit."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orrery.cli.answers import Namespace, Where, folder_of, in_cluster, of_cluster, of_state
from orrery.cli.options import StateOption

if TYPE_CHECKING:
    from orrery.api.plan import AdaptationPlan
    from orrery.api.status import PlanStatus


class Format(StrEnum):
    """What is written."""

    JOB = "job"
    TRAINJOB = "trainjob"
    CONFIGMAP = "configmap"


def render(
    context: typer.Context,
    where: Where,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Job, Kubeflow TrainJob, or ConfigMap with the prompt; what fits by default."),
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Probe image, unless the plan names one.")
    ] = None,
    claim: Annotated[
        str, typer.Option("--claim", metavar="NAME", help="PersistentVolumeClaim that is written to.")
    ] = "trained-models",
    assets_claim: Annotated[
        str | None,
        typer.Option(
            "--assets-claim", metavar="NAME", help="PersistentVolumeClaim with the assets of builtin: sources."
        ),
    ] = None,
    state: StateOption = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - for standard output.")
    ] = Path("-"),
    namespace: Namespace = None,
) -> None:
    """Write the recommended strategy as a manifest: a Job or a Kubeflow TrainJob that trains it, or a ConfigMap with its prompt.

    Exit code 0 when it is written, 2 when there is no recommendation or it cannot run in a cluster.
    """
    from orrery.api import yamltext
    from orrery.cli.failures import Exit

    away = in_cluster(context, namespace)
    plan, _, status, *_ = of_cluster(str(where), namespace) if away else of_state(where, state)
    here = None if away else folder_of(where, state)
    try:
        manifest = manifest_of(plan, status, form, image, claim, assets_claim, here)
    except ValueError as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(Exit.BAD_INPUT) from None
    text = yamltext.write(manifest)
    if output == Path("-"):
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def manifest_of(
    plan: AdaptationPlan,
    status: PlanStatus,
    form: Format | None,
    image: str | None,
    claim: str,
    assets_claim: str | None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """The manifest; raises ``ValueError`` with a sentence for what cannot be rendered.

    ``folder`` is the state folder of a run on this machine, whose volumes hold the data of a prompt.
    """
    import re

    import orrery
    from orrery.api.base import OBJECT_NAME
    from orrery.controller import render as rendering
    from orrery.controller.jobs import JobSettings

    if status.recommendation is None:
        raise ValueError(
            f"{plan.metadata.namespace}/{plan.metadata.name} recommends nothing ({status.phase}): there is nothing to render"
        )
    for option, name in (("--claim", claim), ("--assets-claim", assets_claim)):
        if name is not None and not re.fullmatch(OBJECT_NAME, name):
            raise ValueError(
                f"{option} is '{name}': write the name of a PersistentVolumeClaim, of lower-case letters, digits, '-' and '.'"
            )
    image = (
        image or (status.inputs.image if status.inputs is not None else None) or f"orrery-probe:{orrery.__version__}"
    )
    jobs = JobSettings(image=image, assets_claim=assets_claim)
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


def _prompt(folder: Path | None, spec: Any) -> dict[str, Any]:
    """The prompt with its demonstrations, from the data as it is now."""
    from dataclasses import replace

    from orrery.probes.data import read_task
    from orrery.probes.errors import ProbeError
    from orrery.probes.locations import SourceRoots
    from orrery.probes.saving import prompt

    roots = SourceRoots.from_environment()
    volumes = folder / "volumes" if folder is not None else None
    if volumes is not None and volumes.is_dir():  # as the run has linked them
        kinds = {kind: {p.name: p.resolve() for p in (volumes / kind).glob("*")} for kind in ("pvc", "configmap")}
        roots = replace(roots, pvc=kinds["pvc"] or roots.pvc, config_map=kinds["configmap"] or roots.config_map)
    try:
        return prompt(spec.task, spec.trials[0], read_task(spec.task, roots).train)
    except ProbeError as error:
        raise ValueError(f"{error.reason}: {error}") from None
