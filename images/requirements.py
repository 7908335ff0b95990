"""Prints what pyproject.toml asks for, with the extras that are named: the layer of dependencies, before any of our code.

python3 images/requirements.py operator
"""

import sys
import tomllib
from pathlib import Path


def requirements(*extras: str) -> list[str]:
    """Requirement lines of the base install and the extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))
