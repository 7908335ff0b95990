"""What an import that fails is told as."""

import pytest

from orrery.cli.failures import without_extra

pytestmark = pytest.mark.unit


def test_a_name_that_our_own_module_lacks_is_a_fault_and_no_missing_package() -> None:
    ours = ImportError("cannot import name 'x'", name="orrery.costs.prices")
    with pytest.raises(ImportError) as caught:
        without_extra(ours)
    assert caught.value is ours
