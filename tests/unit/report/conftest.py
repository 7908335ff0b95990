import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def answered():
    """A plan of the made-up world, driven to its end."""
    from tests.unit.report.answers import answer

    return answer()
