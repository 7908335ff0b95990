"""The commands of the documentation that need no cluster, run as they stand: real models, real data."""

import pytest

from tests import pages
from tests.unit.docs.markdown import ROOT, blocks
from tests.unit.docs.markdown import pages as every_page

pytestmark = pytest.mark.e2e

LOCAL = [
    page for page in every_page() if any(b.language == "sh" and not b.words and not b.not_run for b in blocks(page))
]
#: Run one after the other in the folder where the quickstart's plan was answered.
ANSWERED = [page for page in every_page() if any(b.language == "sh" and b.words == ("answered",) for b in blocks(page))]


@pytest.mark.parametrize("page", LOCAL, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_on_this_machine(builtin_assets, page, tmp_path):
    assert pages.run(page, tmp_path, (), {}) > 0
    if page.name == "quickstart.md":
        assert (tmp_path / "report.html").stat().st_size > 50_000 and '"phase"' in (
            tmp_path / "answer.json"
        ).read_text()
        for other in ANSWERED:
            assert pages.run(other, tmp_path, ("answered",), {}) > 0


def test_the_pages_are_there():
    assert {page.name for page in LOCAL} >= {"quickstart.md", "watching.md"}
    assert {str(page.relative_to(ROOT)) for page in ANSWERED} >= {
        "README.md",
        "docs/report.md",
        "docs/concepts/render.md",
    }
