"""What an import that fails is told as."""

import pytest

from orrery.cli.failures import Exit, describe, without_extra

pytestmark = pytest.mark.unit


def test_a_name_that_our_own_module_lacks_is_a_fault_and_no_missing_package() -> None:
    ours = ImportError("cannot import name 'x'", name="orrery.costs.prices")
    with pytest.raises(ImportError) as caught:
        without_extra(ours)
    assert caught.value is ours


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileExistsError(17, "File exists", "a"), "'a' is a file, or lies below one, where a folder is needed"),
        (IsADirectoryError(21, "Is a directory", "a"), "'a' is a folder where a file is needed"),
        (PermissionError(13, "Permission denied", "a"), "'a' may not be read or written (Permission denied)"),
        (OSError(36, "File name too long", "a"), "'a' cannot be used (File name too long): give another path"),
    ],
)
def test_a_path_that_cannot_be_used_is_told_with_what_to_give(error: OSError, sentence: str) -> None:
    code, (said,) = describe(error)
    assert code is Exit.BAD_INPUT and said.startswith(sentence)


def test_a_name_that_the_locale_cannot_write_is_told_with_the_locale_that_can() -> None:
    with pytest.raises(UnicodeEncodeError) as caught:
        "tickets-é.jsonl".encode("ascii")
    assert describe(caught.value) == (
        Exit.BAD_INPUT,
        ["'\\xe9' cannot be written in the encoding ascii: set LC_ALL=C.UTF-8"],
    )
