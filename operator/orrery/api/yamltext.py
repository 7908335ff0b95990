"""YAML as manifests mean it: the values of YAML 1.2, no key twice, and numbers that still know how they were written.

PyYAML alone reads ``1e-4`` as a string, ``2026-01-31`` as a date, ``1:30`` as ninety and lets the second of two equal keys
win in silence; kubectl and the API server do none of that.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

#: Longer than any object that etcd stores.
MAX_CHARACTERS = 3 * 2**20


class WrittenFloat(float):
    """A float that prints as it stood in the file, so that a refusal quotes what the author wrote."""

    text: str

    def __new__(cls, value: float, text: str) -> WrittenFloat:
        """``value`` with the ``text`` it was read from."""
        made = super().__new__(cls, value)
        made.text = text
        return made

    def __repr__(self) -> str:
        return self.text

    __str__ = __repr__


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader, of YAML 1.1 or 1.2, would take for something else; writes no anchors."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own attribute
        key: list(entries) for key, entries in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _Loader(yaml.SafeLoader):
    """Core schema of YAML 1.2 (section 10.3), and true/false alone for booleans."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # PyYAML's own attribute

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands there twice: keep one of them", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> WrittenFloat:
    text = node.value
    plain = text.lower().replace(".inf", "inf").replace(".nan", "nan")
    try:
        return WrittenFloat(float(plain), text)
    except ValueError:
        raise yaml.constructor.ConstructorError(None, None, f"{text!r} is no number", node.start_mark) from None


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value
    try:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    except ValueError:  # an explicit tag, or too many digits for an int
        raise yaml.constructor.ConstructorError(
            None, None, f"{text[:40]!r} is no whole number", node.start_mark
        ) from None


def _bool(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return str(node.value).lower() == "true"


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Texts of several lines as lines, where YAML can hold them so."""
    return dumper.represent_scalar(_TAG + "str", value, style="|" if "\n" in value.strip() else None)


_TAG = "tag:yaml.org,2002:"
_Dumper.add_representer(str, _text)
for _name, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
    ("merge", r"(?:<<)", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(rf"^{_pattern}$"), _first)
    _Dumper.add_implicit_resolver(_TAG + _name, re.compile(rf"^{_pattern}$"), _first)
_Loader.add_constructor(_TAG + "float", _float)
_Loader.add_constructor(_TAG + "int", _int)
_Loader.add_constructor(_TAG + "bool", _bool)


#: What PyYAML says of usual slips, and what to write; the rest of what it says names what it expected.
_MENDS = {
    "'\\t' that cannot start any token": ": indent with spaces, not with tabs",
    "mapping values are not allowed": ": put a text that holds ': ' in quotes, and every key on a line of its own",
    "could not determine a constructor": ": leave the tag out",
}


def read(text: str) -> list[Any]:
    """Every document of a YAML (or JSON) text that is not empty.

    Raises ValueError with a sentence (and line, where there is one) if it is not YAML or too long.

    >>> read("a: 1e-4\\n---\\nb: 2026-01-31")
    [{'a': 1e-4}, {'b': '2026-01-31'}]
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"has {len(text)} characters: write at most {MAX_CHARACTERS}")
    try:
        return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}" if mark else ""
        said = error.problem or error.context or "something else stands here"
        mend = next((mend for words, mend in _MENDS.items() if words in said), "")
        raise ValueError(f"is not YAML{where}: {said}{mend}") from None
    except yaml.reader.ReaderError as error:
        raise ValueError(
            f"holds the character #x{error.character:02x}, which YAML does not: give a text file"
        ) from None
    except RecursionError:
        raise ValueError("is nested too deeply: write a plain manifest") from None


def write(value: Any) -> str:
    """YAML that every reader reads alike, with keys in the order they have.

    >>> write({"rate": "1e-4", "day": "2026-01-31", "on": True})
    "rate: '1e-4'\\nday: '2026-01-31'\\n'on': true\\n"
    """
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))
