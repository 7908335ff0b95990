"""The images: linted, pinned, without each other's packages. ``images/build-test.sh`` builds and runs them."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]
IMAGES = ROOT / "images"
NAMES = ("operator", "probe")


def requirements(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("requirements", IMAGES / "requirements.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in lines), path
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, version in (line.split("==") for line in lines)}


def test_hadolint_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    files = [str(IMAGES / name / "Containerfile") for name in NAMES]
    found = subprocess.run([str(linter), *files], capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_an_image_pins_everything_and_as_the_tests_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    locked, tested = pins(IMAGES / name / "constraints.txt"), pins(ROOT / "constraints.txt")
    wanted = {
        re.sub(r"[-_.]+", "-", re.split(r"[<>=!~ ;\[]", line)[0].lower())
        for line in requirements(monkeypatch).requirements(name)
    }
    assert wanted <= set(locked), f"run images/lock.py: {sorted(wanted - set(locked))}"
    assert {p: v for p, v in tested.items() if p in locked} == {p: locked[p] for p in tested if p in locked}


def test_neither_image_has_what_is_the_others() -> None:
    operator, probe = pins(IMAGES / "operator" / "constraints.txt"), pins(IMAGES / "probe" / "constraints.txt")
    assert not {"torch", "transformers", "peft", "datasets"} & set(operator)
    assert not {"kubernetes", "kopf", "prometheus-client"} & set(probe)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_built_in_stages_and_not_run_as_root(name: str) -> None:
    lines = (IMAGES / name / "Containerfile").read_text().splitlines()
    stages = [line for line in lines if line.startswith("FROM ")]
    assert stages == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    (base,) = [line for line in lines if line.startswith("ARG BASE=")]
    assert re.search(r":[^:]*\d+\.\d+", base) and "latest" not in base
    assert "USER 65532:65532" in lines[lines.index("FROM ${BASE}") :]
    assert 'ENTRYPOINT ["orrery"]' in lines
