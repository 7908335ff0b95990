"""JSON as it goes over the wire and into memory: compact, and read and written in a third of the time of the standard library's."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json


def dumps(value: Any) -> bytes:
    """Of an object.

    >>> dumps({"a": [1, "é"]})
    b'{"a":[1,"\\xc3\\xa9"]}'
    """
    try:
        return to_json(value)
    except PydanticSerializationError:  # half a character, which is no UTF-8: a probe's message may hold one
        return json.dumps(value, separators=(",", ":")).encode()


def loads(text: bytes) -> Any:
    """The value of a text; raises ValueError.

    >>> loads(b'{"a": [1, 0.5, null]}')
    {'a': [1, 0.5, None]}
    """
    try:
        return from_json(text)
    except ValueError:  # as above
        return json.loads(text)
