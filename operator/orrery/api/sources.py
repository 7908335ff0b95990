"""Where models and data come from: exactly one of a few sources, each naming things in the plan's own namespace."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from orrery.api.base import ApiModel, ObjectName, RelativePath, refusal


def _inside_volume(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"is {path!r}, which leaves its volume: write a relative path without '..'")
    return path


VolumePath = Annotated[RelativePath, AfterValidator(_inside_volume)]


class HuggingFaceSource(ApiModel):
    """A repository on the Hugging Face hub, pinned by revision for reproducibility."""

    repo: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$", max_length=200)] = Field(
        description="Repository as OWNER/NAME."
    )
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]+$", max_length=100)] = Field(
        "main", description="Commit, tag or branch. Pin a commit: a branch moves under a plan."
    )
    config: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None, description="Named configuration of a dataset."
    )


class VolumeSource(ApiModel):
    """A file or folder on a PersistentVolumeClaim in the plan's namespace, mounted read-only."""

    claim_name: ObjectName = Field(description="PersistentVolumeClaim in the plan's namespace.")
    path: VolumePath = Field(description="File or folder inside the volume; may not leave it.")


class ConfigMapSource(ApiModel):
    """One key of a ConfigMap in the plan's namespace: small datasets that live beside the plan in Git."""

    name: ObjectName = Field(description="ConfigMap in the plan's namespace.")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        description="Key whose value is the data; its suffix (.jsonl, .csv) tells the format."
    )


class BuiltinSource(ApiModel):
    """An asset that comes with Orrery's packages; needs no hub."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_./-]*$", max_length=128)] = Field(
        description="Catalogue name, as `orrery assets list` prints it."
    )


class LocalSource(ApiModel):
    """A path on this machine, relative to the plan's file. Only for `orrery run`: the operator refuses it."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(description="File or folder.")


class _ExactlyOne(ApiModel):
    # The schema's own form of the rule, for API servers that do not know CEL.
    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _one(self) -> _ExactlyOne:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            aliases = {n: field.alias or n for n, field in type(self).model_fields.items()}
            found = " and ".join(aliases[n] for n in given) or "none"
            raise refusal("", f"names {found} of the sources: write exactly one of {', '.join(aliases.values())}")
        return self


class ModelSource(_ExactlyOne):
    """Where a model's weights are: exactly one source."""

    hugging_face: HuggingFaceSource | None = Field(None, description="A model repository on the Hugging Face hub.")
    pvc: VolumeSource | None = Field(None, description="A folder on a PersistentVolumeClaim, mounted read-only.")
    builtin: BuiltinSource | None = Field(None, description="A model that comes with Orrery's packages.")
    local: LocalSource | None = Field(None, description="A folder on this machine (orrery run only).")


class DataSource(_ExactlyOne):
    """Where a dataset is: exactly one source."""

    hugging_face: HuggingFaceSource | None = Field(None, description="A dataset repository on the Hugging Face hub.")
    pvc: VolumeSource | None = Field(
        None, description="A jsonl, csv or parquet file (or folder of splits) on a volume."
    )
    config_map: ConfigMapSource | None = Field(None, description="A key of a ConfigMap.")
    builtin: BuiltinSource | None = Field(None, description="A task that comes with Orrery's packages.")
    local: LocalSource | None = Field(None, description="A file or folder on this machine (orrery run only).")
