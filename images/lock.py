"""Writes images/*/constraints.txt: every package of an image, to the version, as pip resolves them today.

.venv/bin/python images/lock.py    # then build, test, and commit what changed

The project's own constraints.txt wins, so that images run what the tests ran. Packages that only some platforms have (CUDA's)
follow from torch's version.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "images"))
from requirements import requirements  # noqa: E402  # the same list as the images install

HEADER = "# Written by images/lock.py. Every package of this image; more than constraints.txt, which pins what the tests run with.\n"


def lock(extra: str) -> str:
    """Constraints of one image."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", report.name, "--constraint", str(ROOT / "constraints.txt"), *requirements(extra)]
        subprocess.run(command, check=True, cwd=ROOT)
        found = json.loads(Path(report.name).read_text())["install"]
    # a local version (+cpu, +cu128) is another build of the same release, which the base and the index decide
    versions = {e["metadata"]["name"].lower(): e["metadata"]["version"].split("+")[0] for e in found}
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    for image in ("operator", "probe"):
        (ROOT / "images" / image / "constraints.txt").write_text(lock(image))
