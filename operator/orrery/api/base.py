"""What every resource of the group shares: camelCase on the wire, no unknown fields, bounded strings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "orrery.dev"
VERSION = "v1alpha1"
API_VERSION: Literal["orrery.dev/v1alpha1"] = "orrery.dev/v1alpha1"


def is_empty(value: str) -> bool:
    """Whether a text says nothing: such a field is left out on the wire, since old API servers take "" for null."""
    return value == ""


class ApiModel(BaseModel):
    """Immutable, camelCase on the wire, unknown fields refused: a typo in a plan must not be ignored in silence."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def to_wire(self) -> dict[str, Any]:
        """JSON-ready dict as the API server stores it: camelCase, without unset or null fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(ApiModel):
    """Status is written by us and read by newer and older selves: unknown fields are kept out, not refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


#: A list-map key: lower-case words, digits, dots and dashes; short, since names of Jobs derive from it.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,46}[a-z0-9])?$", max_length=48)]
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
#: A Kubernetes object's name.
ObjectName = Annotated[str, StringConstraints(pattern=OBJECT_NAME, max_length=253)]
#: RFC 3339, to the second.
Timestamp = Annotated[str, StringConstraints(max_length=32)]
#: One or two sentences for a person.
Text = Annotated[str, StringConstraints(max_length=1024)]
#: A CamelCase word, for reasons and plug-in types.
CamelWord = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=64)]
#: A commit of a hub's repository.
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40,64}$", max_length=64)]
#: A path inside a volume.
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=512)]
#: Whole numbers are strict, as on the API server: "3", 3.0 and true are not 3. A tighter bound is a type of its own:
#: a second bound beside an annotated one is silently dropped.
Count = Annotated[int, Field(strict=True, ge=0, le=2**53)]
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=2**53)]
Flag = Annotated[bool, Field(strict=True)]


def refusal(field: str, message: str) -> PydanticCustomError:
    """The error for a rule over several fields: where to mend it, below the validated object, and a sentence.

    Raised in model validators; ``load`` joins the field to the object's own path.
    """
    return _refused([(field, message)])


def refuse(faults: Sequence[tuple[str, str]]) -> None:
    """Raises one error for all of them, each as ``refusal`` has it; nothing if there is none."""
    if faults:
        raise _refused(faults)


def repeated(field: str, names: list[str]) -> list[tuple[str, str]]:
    """A fault, as ``refuse`` takes them, for every name that stands more than once in the list at ``field``."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    return [(field, f"names '{name}' twice: give every entry a name of its own") for name in twice]


def _refused(faults: Sequence[tuple[str, str]]) -> PydanticCustomError:
    said = "; ".join(f"{field} {message}" for field, message in faults)
    return PydanticCustomError("rule", "{said}", {"said": said, "faults": list(faults)})


class ObjectMeta(BaseModel):
    """The part of Kubernetes' metadata that the core reads; the rest is kept as it came."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: ObjectName = Field(description="Object's name.")
    namespace: ObjectName = Field("default", description="Object's namespace.")
    generation: int = Field(1, description="Counts the changes of the spec; set by the API server.")
    uid: str = Field("", exclude_if=is_empty, description="Set by the API server.")
