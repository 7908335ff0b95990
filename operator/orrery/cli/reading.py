"""From the command line's files and folders to a question that can be answered; shared by the commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orrery.api.load import ManifestError, load
from orrery.api.plan import AdaptationPlan
from orrery.api.pricelist import PriceList
from orrery.api.sentences import Problem
from orrery.api.sources import DataSource, ModelSource
from orrery.probes.locations import SourceRoots

if TYPE_CHECKING:
    from orrery.planning.types import Facts

STATE_ROOT = Path(".orrery")
_Source = TypeVar("_Source", DataSource, ModelSource)


@dataclass(frozen=True)
class Question:
    """A plan with its prices and where its sources are. ``plan`` has local paths made absolute: its identity."""

    plan: AdaptationPlan
    prices: PriceList
    roots: SourceRoots
    budgets: tuple[str, ...] = ()  #: AdaptationBudgets of its namespace among the files


def read_question(
    files: Sequence[Path], prices: Sequence[Path], claims: Sequence[str], maps: Sequence[str]
) -> Question:
    """The one plan of the files; raises ManifestError with every problem."""
    made = load([*files, *prices])
    plan = made.plan()
    home = plan_file(files, plan)
    namespace = plan.metadata.namespace
    budgets = tuple(b.metadata.name for b in made.budgets if b.metadata.namespace == namespace)
    return Question(with_absolute_paths(plan, home.parent), made.prices(plan), read_roots(claims, maps), budgets)


def known(question: Question, unreachable: Callable[[str], None] | None = None) -> Facts:
    """What is known of the question before anything is measured (``local.facts.read_facts``).

    Raises InvalidPlan; where models or data are refused, with what is wrong with methods and prices as well.
    """
    from orrery.costs.prices import Prices
    from orrery.local.facts import read_facts
    from orrery.planning.candidates import InvalidPlan, expand

    try:
        return read_facts(question.plan, question.roots, unreachable)
    except InvalidPlan as problem:
        sentences = [*problem.sentences, *Prices(question.prices).missing(question.plan.spec)]
        try:
            expand(question.plan.spec)
        except InvalidPlan as more:
            sentences += more.sentences
        raise InvalidPlan(*sentences) from None


def plan_file(files: Sequence[Path], plan: AdaptationPlan) -> Path:
    """The file that the plan is in: its local paths start there."""
    if len(files) == 1:
        return files[0]
    for path in files:
        if any(found.metadata == plan.metadata for found in load([path]).plans):
            return path
    return files[0]


def read_roots(claims: Sequence[str], maps: Sequence[str]) -> SourceRoots:
    """Where volumes and ConfigMaps are on this machine."""
    roots = SourceRoots.from_environment()
    return replace(roots, pvc=_folders("--pvc", claims), config_map=_folders("--configmap", maps))


def _folders(option: str, pairs: Sequence[str]) -> dict[str, Path]:
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not equals or not name or not folder:
            raise ManifestError([Problem(option, pair, f"is '{pair}': write NAME=DIR, such as {option} data=./data")])
        if not Path(folder).is_dir():
            raise ManifestError([Problem(option, pair, f"is '{pair}', and {folder} is no folder: write one that is")])
        folders[name] = Path(folder).resolve()
    return folders


def with_absolute_paths(plan: AdaptationPlan, folder: Path) -> AdaptationPlan:
    """The plan with its ``local`` paths made absolute: two plans' './data.jsonl' are not the same data."""
    folder = folder.resolve()

    def absolute(source: _Source) -> _Source:
        if source.local is None:
            return source
        path = str((folder / Path(source.local.path).expanduser()).resolve())
        return source.model_copy(update={"local": source.local.model_copy(update={"path": path})})

    spec = plan.spec
    dataset = spec.task.dataset.model_copy(update={"source": absolute(spec.task.dataset.source)})
    models = [model.model_copy(update={"source": absolute(model.source)}) for model in spec.models]
    task = spec.task.model_copy(update={"dataset": dataset})
    return plan.model_copy(update={"spec": spec.model_copy(update={"task": task, "models": models})})


def state_folder(plan: AdaptationPlan, given: Path | None) -> Path:
    """Where the plan's state is kept."""
    return given or STATE_ROOT / plan.metadata.namespace / plan.metadata.name
