"""The rules of the house: what depends on what, and what a bare install brings."""

import operator as standard_operator
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "transformers", "peft", "datasets", "bitsandbytes", "accelerate", "kubernetes", "kopf"}


def python(code, *flags, cwd=ROOT):
    """What the code prints in a fresh interpreter."""
    done = subprocess.run([sys.executable, *flags, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.process
def test_the_folder_operator_does_not_shadow_the_standard_library():
    """Not even for a fresh interpreter started in the repository's root, whose first import path that is."""
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert Path(standard_operator.__file__).name == "operator.py"
    code = "import sys; sys.modules.pop('operator', None); import operator; print(operator.itemgetter(1)([1, 2]), operator.__file__)"
    shown = python(code)
    assert shown.startswith("2 ") and str(ROOT) not in shown


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def needed(*extras):
    """Names of the packages that an install with these extras asks for, with those extras' own."""
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return {Requirement(text).name for text in texts}


def test_a_base_install_brings_neither_torch_nor_kubernetes():
    assert not needed() & HEAVY
    assert {"torch", "transformers"} <= needed("probe") and not needed("probe") & {"kubernetes", "kopf"}
    assert {"kubernetes", "kopf"} <= needed("operator") and not needed("operator") & {"torch", "transformers"}


@pytest.mark.process
def test_help_imports_nothing_heavy():
    """torch, SciPy and pydantic each take longer to import than a person waits for a help text."""
    code = """
import sys
from orrery.cli import main
sys.argv = ["orrery", "--help"]
try:
    main.run()
except SystemExit as end:
    assert end.code == 0, end.code
for name in ("torch", "transformers", "scipy", "numpy", "pydantic", "yaml", "kubernetes"):
    assert name not in sys.modules, name
"""
    assert "estimate" in python(code)


@pytest.mark.process
def test_deciding_imports_no_torch():
    modules = ["orrery.cli.run", "orrery.cli.estimate", "orrery.cli.validate", "orrery.cli.explain"]
    code = f"import sys, {', '.join(modules)}; print([m for m in {sorted(HEAVY)!r} if m in sys.modules])"
    assert python(code) == "[]"


def test_every_package_says_what_it_is_for():
    for path in (ROOT / "operator" / "orrery").rglob("__init__.py"):
        assert path.read_text().startswith(('"""', 'r"""')), f"{path} has no docstring"


def test_constraints_pin_what_the_project_asks_for():
    """A pin of a package that is not asked for is a leftover, and a pin that the range excludes cannot be installed."""
    asked = PROJECT["dependencies"] + [text for extra in PROJECT["optional-dependencies"].values() for text in extra]
    wanted = {requirement.name: requirement for requirement in map(Requirement, asked)}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            assert wanted[name].specifier.contains(version), line


def test_the_readme_s_commands_exist():
    """`make demo` and `make test` are what the README promises; every make target it names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= named <= targets
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"
