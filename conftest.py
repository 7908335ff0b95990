"""What holds for every test: one thread each, doctests with the tests they belong to, no torch where none is asked for."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

# Before NumPy and torch are imported: with a pool of threads each, tests side by side wait for each other's threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# Rarer collections of garbage: what tests make is data, which is freed when it is left.
gc.set_threshold(50_000, 20, 50)

ROOT = Path(__file__).parent
PACKAGE, CHARTS = ROOT / "operator" / "orrery", ROOT / "tests" / "unit" / "charts"


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

    A docstring's example is a test of its module: `unit`, or `model` where it needs torch. Side by side (`make test`), two
    processes have a cluster each, one for the tests of the operator that they share and one for the rest, and a third has
    what holds real models: the first two wait more than they compute, the third computes more than it waits. The rest is
    dealt out by file, since its tests share what is made once; those of the chart share what Helm renders.
    """
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            item.add_marker("model" if _runs_torch(item.path) else "unit")
        if item.get_closest_marker("integration"):
            group = "operator" if "operator" in getattr(item, "fixturenames", ()) else "cluster"
        elif item.get_closest_marker("e2e"):
            group = "models"
        else:
            group = "charts" if item.path.parent == CHARTS else str(item.path.relative_to(ROOT))
        item.add_marker(pytest.mark.xdist_group(group))
    if "benchmark" not in config.getoption("markexpr"):  # one parameter of a unit test may be a benchmark
        measured = [item for item in items if item.get_closest_marker("benchmark")]
        config.hook.pytest_deselected(items=measured)
        items[:] = [item for item in items if item not in measured]


def pytest_collection_finish() -> None:
    """What was imported by now stays: without this a tenth of the tests' time goes to looking through it for garbage."""
    gc.collect()
    gc.freeze()
