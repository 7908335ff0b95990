"""Manifests in, models out: the one door. What does not fit is refused with sentences that name field, value and mend.

    spec.budget.maxProbeCost is the float 2.5: write a decimal string such as '2.5' in quotes

What passes here passes the API server too, and the other way round, apart from what only a plug-in or a price list can
tell (planning checks that).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from orrery.api import yamltext
from orrery.api.adaptation_budget import AdaptationBudget
from orrery.api.base import API_VERSION, GROUP
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.probe import AdaptationProbe
from orrery.api.quantities import WIRE
from orrery.api.sentences import Problem, nearest, path_of, sentences

Resource = AdaptationPlan | AdaptationProbe | PriceList | AdaptationBudget
_Model = TypeVar("_Model", bound=BaseModel)
KINDS: dict[str, type[AdaptationPlan] | type[AdaptationProbe] | type[PriceList] | type[AdaptationBudget]] = {
    "AdaptationPlan": AdaptationPlan,
    "AdaptationProbe": AdaptationProbe,
    "PriceList": PriceList,
    "AdaptationBudget": AdaptationBudget,
}
_MAX_DEPTH = 64
_MAX_VALUES = 200_000
_MAX_PROBLEMS = 50


class ManifestError(ValueError):
    """Everything that is wrong with a manifest, one problem a line."""

    def __init__(self, problems: Sequence[Problem], where: str = "") -> None:
        self.problems = list(problems)
        self.where = where
        super().__init__("\n".join(f"{where}: {problem}" if where else str(problem) for problem in problems))


@dataclass(frozen=True)
class Manifests:
    """What a set of files holds."""

    plans: list[AdaptationPlan] = field(default_factory=list)
    probes: list[AdaptationProbe] = field(default_factory=list)
    price_lists: list[PriceList] = field(default_factory=list)
    budgets: list[AdaptationBudget] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)  #: documents of other groups, such as ConfigMaps

    def plan(self) -> AdaptationPlan:
        """The one plan; ManifestError if there is none or more than one."""
        if len(self.plans) == 1:
            return self.plans[0]
        if not self.plans:
            raise ManifestError([Problem("AdaptationPlan", "", "is in none of the files: give the file of one plan")])
        names = ", ".join(plan.metadata.name for plan in self.plans)
        raise ManifestError(
            [Problem("AdaptationPlan", names, f"is there {len(self.plans)} times ({names}): give exactly one")]
        )

    def add(self, more: Manifests) -> None:
        """Takes over what another file holds."""
        self.plans.extend(more.plans)
        self.probes.extend(more.probes)
        self.price_lists.extend(more.price_lists)
        self.budgets.extend(more.budgets)
        self.others.extend(more.others)

    def repeated(self) -> list[Problem]:
        """Resources that stand there more than once: which of them would count, nobody could tell."""
        names = [("AdaptationPlan", f"{p.metadata.namespace}/{p.metadata.name}") for p in self.plans]
        names += [("AdaptationBudget", f"{b.metadata.namespace}/{b.metadata.name}") for b in self.budgets]
        names += [("PriceList", p.metadata.name) for p in self.price_lists]
        return [
            Problem(f"{kind}.metadata.name", name, f"is '{name}' in {times} documents: write it once, or rename one")
            for (kind, name), times in Counter(names).items()
            if times > 1
        ]

    def prices(self, plan: AdaptationPlan) -> PriceList:
        """The price list that the plan refers to; ManifestError if it is not among the files."""
        wanted = plan.spec.pricing.price_list_ref.name
        for price_list in self.price_lists:
            if price_list.metadata.name == wanted:
                return price_list
        known = ", ".join(p.metadata.name for p in self.price_lists)
        mend = f"write one of {known}" if known else "give a file with that PriceList as well"
        raise ManifestError(
            [Problem("spec.pricing.priceListRef.name", wanted, f"is '{wanted}', which is in none of the files: {mend}")]
        )


def parse_model(model: type[_Model], document: Any, where: str = "") -> _Model:
    """One object as a model, read as the API server would; ManifestError with every problem otherwise."""
    problems = list(islice(_foreign_values(document), _MAX_PROBLEMS))
    if not problems:
        try:
            return model.model_validate(_without_nulls(document), context=WIRE, by_alias=True, by_name=False)
        except ValidationError as error:
            found = error.errors(include_url=False)
            told = (sentences(model, document, dict(detail)) for detail in found[:_MAX_PROBLEMS])
            problems = list(chain.from_iterable(told))[:_MAX_PROBLEMS]
    raise ManifestError(problems, where)


def parse(document: Any, where: str = "") -> Resource:
    """One resource of the group, by its kind."""
    if not isinstance(document, dict):
        shown = repr(document)[:80]
        raise ManifestError(
            [Problem("the manifest", document, f"is {shown}: write a mapping with apiVersion and kind")], where
        )
    version, kind = document.get("apiVersion"), document.get("kind")
    if version != API_VERSION:
        said = "is missing" if version is None else f"is {version!r}"
        raise ManifestError([Problem("apiVersion", version, f"{said}: write '{API_VERSION}'")], where)
    if not isinstance(kind, str) or kind not in KINDS:
        said = "is missing" if kind is None else f"is {kind!r}"
        mend = f"write one of {', '.join(KINDS)}{nearest(kind, KINDS)}"
        raise ManifestError([Problem("kind", kind, f"{said}: {mend}")], where)
    return parse_model(KINDS[kind], document, where)


def parse_text(text: str, where: str = "") -> Manifests:
    """Every document of a YAML or JSON text; those of other groups are kept as they are."""
    try:
        documents = yamltext.read(text)
    except ValueError as error:
        raise ManifestError([Problem("the file", "", str(error))], where) from None
    made = Manifests()
    problems: list[Problem] = []
    flat = list(_flat(documents))
    for number, document in enumerate(flat, 1):
        if _is_foreign(document):
            made.others.append(document)
            continue
        try:
            resource = parse(document)
        except ManifestError as error:
            place = f"document {number}: " if len(flat) > 1 else ""
            problems += [replace(problem, field=f"{place}{problem.field}") for problem in error.problems]
            continue
        if isinstance(resource, AdaptationPlan):
            made.plans.append(resource)
        elif isinstance(resource, AdaptationProbe):
            made.probes.append(resource)
        elif isinstance(resource, AdaptationBudget):
            made.budgets.append(resource)
        else:
            made.price_lists.append(resource)
    if problems:
        raise ManifestError(problems, where)
    return made


def load(paths: Iterable[Path]) -> Manifests:
    """Every document of every file, in order. Raises ManifestError for the first file with problems, and for repeated names."""
    total = Manifests()
    for path in paths:
        total.add(parse_text(text_of(path), str(path)))
    if problems := total.repeated():
        raise ManifestError(problems)
    return total


def text_of(path: Path) -> str:
    """What a file of manifests says; ManifestError for one that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ManifestError([Problem("the file", "", "is not UTF-8 text: give a YAML file")], str(path)) from None
    except OSError as error:
        said = f"cannot be read ({error.strerror}): give the path of a YAML file"
        raise ManifestError([Problem("the file", "", said)], str(path)) from None


def _flat(documents: Iterable[Any]) -> Iterator[Any]:
    """Documents, with the items of a ``kind: List`` (as ``kubectl get -o yaml`` prints) one by one."""
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List" and isinstance(document.get("items"), list):
            yield from document["items"]
        else:
            yield document


def _is_foreign(document: Any) -> bool:
    version = document.get("apiVersion") if isinstance(document, dict) else None
    return isinstance(version, str) and version.split("/")[0] != GROUP and isinstance(document.get("kind"), str)


def _foreign_values(document: Any) -> Iterator[Problem]:
    """What JSON cannot hold, anywhere: NaN, infinities, keys that are not strings, and aliases that multiply."""
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    visited = 0
    while stack:
        at, value = stack.pop()
        visited += 1
        if len(at) > _MAX_DEPTH or visited > _MAX_VALUES:
            yield Problem(path_of(at[:4], document), "", "is too large or too deep: write a plain manifest")
            return
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(path_of(at, document), value, f"is {value!r}: write a finite number")
        elif isinstance(value, dict):
            for key, child in value.items():
                if isinstance(key, str):
                    stack.append(((*at, key), child))
                else:
                    yield Problem(path_of(at, document), key, f"has the key {key!r}: write keys as strings, in quotes")
        elif isinstance(value, list):
            stack.extend(((*at, index), child) for index, child in enumerate(value))


def _without_nulls(value: Any) -> Any:
    """A field that is null is a field left out, as on the API server; a null in a list stays and is refused."""
    if isinstance(value, dict):
        return {key: _without_nulls(child) for key, child in value.items() if child is not None}
    return [_without_nulls(child) for child in value] if isinstance(value, list) else value
