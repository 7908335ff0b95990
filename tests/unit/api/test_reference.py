"""The reference page is what the models say."""

from __future__ import annotations

from pathlib import Path

import pytest

from orrery.api.reference import render

pytestmark = pytest.mark.unit

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"


def test_the_checked_in_page_is_fresh() -> None:
    assert PAGE.read_text() == render(), "run `python -m orrery.api.reference > docs/reference/api.md`"


def test_the_page_names_fields_defaults_bounds_and_rules() -> None:
    page = render()
    assert '| `confidence` | string | `"0.9"` | Probability with which constraints hold. |' in page
    assert "goal MinimizeCost needs minQuality" in page
    assert "### AdaptationPlan `spec.strategies[].grid[]`" in page
