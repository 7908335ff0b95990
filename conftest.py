"""What holds for every test: one thread each, doctests with the tests they belong to, no torch where none is asked for."""

from __future__ import annotations

import gc
import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

# Before NumPy and torch are imported: with a pool of threads each, tests side by side wait for each other's threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Helm is a library here; Go reads these when it is loaded, and would have its collector on every core. Gone after collection.
_GO = {"GOMAXPROCS": "1", "GOGC": "400"}
os.environ |= {name: os.environ.get(name, value) for name, value in _GO.items()}

# Rarer collections of garbage: what tests make is data, which is freed when it is left.
gc.set_threshold(50_000, 20, 50)

ROOT = Path(__file__).parent
PACKAGE = ROOT / "operator" / "orrery"


def _runs_torch(path: Path) -> bool:
    """torch is imported in probes and in strategies' measure.py alone (a contract in pyproject.toml)."""
    return path.is_relative_to(PACKAGE / "probes") or (path.name == "measure.py" and path.is_relative_to(PACKAGE))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make unit` imports neither torch nor what talks to clusters: that takes longer than its tests."""
    if config.getoption("markexpr") not in ("unit", "unit and not process"):
        return None
    elsewhere = {ROOT / "tests" / name for name in ("processes", "models", "integration", "e2e", "benchmarks")}
    return True if _runs_torch(collection_path) or collection_path in elsewhere else None


def pytest_configure(config: pytest.Config) -> None:
    """The same examples every time, and none that fails because the machine is slow; ``--hypothesis-profile=default`` draws others."""
    if not config.getoption("numprocesses", None) or hasattr(config, "workerinput"):  # else its workers run the tests
        import hypothesis

        hypothesis.settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks that follow from where a test stands.

    A docstring's example is a test of its module: `unit`, or `model` where it needs torch.
    """
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("model" if _runs_torch(item.path) else "unit")
    if "benchmark" not in config.getoption("markexpr"):  # one parameter of a unit test may be a benchmark
        measured = [item for item in items if item.get_closest_marker("benchmark")]
        config.hook.pytest_deselected(items=measured)
        items[:] = [item for item in items if item not in measured]
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def pytest_collection_finish() -> None:
    """What was imported by now stays: without this a tenth of the tests' time goes to looking through it for garbage."""
    gc.collect()
    gc.freeze()
    for name, value in _GO.items():
        if os.environ.get(name) == value:
            del os.environ[name]


#: Who shares a cluster in `make test`; the other integration tests share a second one.
SHARE_A_CLUSTER = ("operator_plans", "operator_attempts", "budgets", "confirm", "docs", "spec_edits", "watch")
#: Who loads torch and real models into the tests' own process, once for all; the other e2e tests start processes.
SHARE_MODELS = ("finetune_real", "probe_real", "then_in_context_real", "train_real")
#: What takes longest, in the order in which it is begun; the rest fills the gaps.
FIRST = ("cluster shared", "cluster", "models", "tests/e2e/")


def _group(nodeid: str) -> str:
    """What is run by one process, in order.

    Two processes have a cluster each and wait more than they compute; a third holds real models and a fourth starts
    processes that do, and both compute more than they wait. The rest is dealt out by file, since its tests share what is
    made once.
    """
    file = PurePosixPath(nodeid.partition("::")[0])
    folder, name = file.parts[1] if len(file.parts) > 2 else "", file.stem.removeprefix("test_")
    if folder in ("integration", "chaos"):
        return "cluster shared" if name in SHARE_A_CLUSTER else "cluster"
    if folder == "e2e" and name in SHARE_MODELS:
        return "models"
    return "charts" if file.parent == PurePosixPath("tests/unit/charts") else str(file)


def _turn(item: pytest.Item) -> int:
    """Where an item's group stands in ``FIRST``."""
    group = _group(item.nodeid)
    return next((turn for turn, first in enumerate(FIRST) if group.startswith(first)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals out by ``_group``: pytest-xdist 3.8 takes no notice of its own marks under pytest 9.2 (its issue 1386)."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return ByGroup(config, log)
