"""What probes run on: accelerators, and what is passed on to the Pods of their Jobs."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
)

from orrery.api.base import ApiModel, Flag, Name, ObjectName


class CapacityType(StrEnum):
    """How capacity is bought."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"


_QUALIFIED = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def _qualified(name: str) -> str:
    """As Kubernetes checks it when the Job is made; no schema of a definition can say it of a map's keys."""
    if _QUALIFIED.fullmatch(name):
        return name
    raise ValueError(
        "is no key that Kubernetes takes: write at most 63 letters, digits, '-', '_' and '.', after a prefix if there is one, "
        "such as 'team' or 'example.com/team'"
    )


#: Key of a label, an annotation or a taint.
Key = Annotated[str, StringConstraints(max_length=317), AfterValidator(_qualified)]
LabelValue = Annotated[str, StringConstraints(pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$", max_length=63)]
AnnotationText = Annotated[str, StringConstraints(max_length=1024)]


class Toleration(ApiModel):
    """As in a Pod's spec."""

    key: Key | None = Field(None, description="Taint's key; none, with operator Exists, tolerates every taint.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="Exists ignores the value.")
    value: LabelValue | None = Field(None, description="Taint's value.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint's effect; none tolerates every effect."
    )


Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(Mi|Gi|Ti)$", max_length=8)]


class Accelerator(ApiModel):
    """Hardware that probes run on and that the answer is costed for."""

    name: Name = Field(description="Name in the price list and in the catalogue of accelerators, such as h100 or cpu.")
    resource: (
        Annotated[str, StringConstraints(pattern=r"^[a-z0-9][-a-z0-9.]*/[-A-Za-z0-9_.]+$", max_length=253)] | None
    ) = Field(None, description="Extended resource of a Pod, such as nvidia.com/gpu; none for CPUs.")
    count: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(1, description="Accelerators a probe uses.")
    memory: Memory | None = Field(None, description="Memory of one accelerator; the catalogue's by default.")
    capacity_type: CapacityType = Field(CapacityType.ON_DEMAND, description="Which price applies.")
    node_selector: Annotated[dict[Key, LabelValue], Field(max_length=16)] = Field(
        default_factory=dict, description="Labels of the nodes that have this hardware."
    )
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = Field(
        default_factory=list, description="Taints of those nodes that probes tolerate."
    )


class Scheduling(ApiModel):
    """Passed to the probes' Jobs."""

    queue_name: Name | None = Field(None, description="Kueue LocalQueue.")
    priority_class_name: ObjectName | None = Field(None, description="Kueue and Pod priority class.")
    runtime_class_name: ObjectName | None = Field(None, description="Pod's runtime class.")


class SecretKeyRef(ApiModel):
    """A key of a Secret in the plan's namespace."""

    name: ObjectName = Field(description="Secret in the plan's namespace.")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        "token", description="Key whose value is the token."
    )


class ModelCache(ApiModel):
    """A volume that keeps downloaded weights between probes."""

    claim_name: ObjectName = Field(description="PersistentVolumeClaim in the plan's namespace.")
    offline: Flag = Field(False, description="Never ask the hub; everything must be in the cache.")


class ProbeTemplate(ApiModel):
    """Overrides for the probes' Pods."""

    image: Annotated[str, StringConstraints(pattern=r"^[^ \t\n]+$", max_length=512)] | None = Field(
        None, description="Probe image."
    )
    labels: Annotated[dict[Key, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, description="Further labels of the Pod."
    )
    annotations: Annotated[dict[Key, AnnotationText], Field(max_length=32)] = Field(
        default_factory=dict, description="Further annotations of the Pod."
    )
    cpu: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,6}m?$", max_length=7)] | None = Field(
        None, description="CPU request, such as '4' or '500m'."
    )
    memory: Memory | None = Field(None, description="Memory request and limit, such as 16Gi.")
