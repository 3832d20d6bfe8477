"""A JSON request body that can be read and amended without being rewritten.

Only the top-level members that routing must touch (`model`, `stream_options`, our own `routing`) are
spliced; every other byte reaches the upstream as the client sent it: number spellings, unknown fields,
key order and whitespace included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from router_gateway.core.errors import RequestError

_WHITESPACE = " \t\n\r"
_BLANK = re.compile(f"[{_WHITESPACE}]*")
# A member's name that needs no decoding, up to its value; and what follows a value, up to the next name.
_PLAIN_KEY = re.compile(rf'"([^"\\\x00-\x1f]*)"[{_WHITESPACE}]*:[{_WHITESPACE}]*')
_COMMA = re.compile(rf'[{_WHITESPACE}]*,[{_WHITESPACE}]*(?=")')
_KEY_SHOWN_MAX = 64  # characters of a client's key that an error repeats
REMOVE: Any = object()
"""Given to `Body.amended` as a value: the member is left out."""


def _no_constant(name: str) -> NoReturn:
    raise RequestError(f"the body is not valid JSON: {name} is not a JSON value")


_decoder = json.JSONDecoder(parse_constant=_no_constant)
_dumps = json.JSONEncoder(separators=(",", ":")).encode


class _Member(NamedTuple):
    start: int  # of the key's opening quote
    value_start: int
    end: int  # just past the value


class Body:
    """A parsed JSON object and the text it came from. `body["model"]`, `body.get("tools")`."""

    __slots__ = ("_members", "_text", "values")

    def __init__(self, text: str, values: dict[str, Any], members: dict[str, _Member]) -> None:
        self._text = text
        self._members = members
        self.values = values

    @classmethod
    def parse(cls, raw: bytes) -> Body:
        """Raise RequestError (400) unless `raw` is one JSON object in UTF-8."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RequestError(f"the body is not valid UTF-8 (byte {error.start})") from None
        try:
            return cls._scan(text)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno} column {error.colno}"
            raise RequestError(f"the body is not valid JSON: {error.msg} at {where}") from None
        except RecursionError:
            raise RequestError("the body is nested too deeply") from None
        except ValueError as error:  # an integer literal beyond Python's digit limit
            raise RequestError(f"the body is not valid JSON: {error}") from None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Body:
        """A body made here rather than received."""
        return cls._scan(_dumps(dict(values)))

    @classmethod
    def _scan(cls, text: str) -> Body:
        position = _skip(text, 0)
        if text[position : position + 1] != "{":
            _decoder.decode(text)  # a syntax error is named as such
            raise RequestError("the body must be a JSON object")
        values: dict[str, Any] = {}
        members: dict[str, _Member] = {}
        position = _skip(text, position + 1)
        while text[position : position + 1] != "}":
            start = position
            if plain := _PLAIN_KEY.match(text, position):
                key, value_start = plain[1], plain.end()
            else:
                key, value_start = _key(text, position)
            if key in members:
                shown = _printable(key)
                raise RequestError(f"the body names {shown!r} twice", param=shown)
            values[key], position = _decoder.raw_decode(text, value_start)
            members[key] = _Member(start, value_start, position)
            if comma := _COMMA.match(text, position):
                position = comma.end()
                continue
            position = _skip(text, position)
            if text[position : position + 1] == ",":
                position = _skip(text, position + 1)
                if text[position : position + 1] == "}":
                    raise json.JSONDecodeError("Expecting a property name in double quotes", text, position)
            elif text[position : position + 1] != "}":
                raise json.JSONDecodeError("Expecting ',' or '}'", text, position)
        if _skip(text, position + 1) != len(text):
            raise json.JSONDecodeError("Extra data", text, position + 1)
        return cls(text, values, members)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        return self.values.get(key, default)

    @property
    def size(self) -> int:
        """Characters of the whole body."""
        return len(self._text)

    def amended(self, changes: Mapping[str, Any]) -> bytes:
        """The body with top-level members set (or left out, for `REMOVE`); all other bytes as they came."""
        pieces: list[str] = []
        cursor = 0
        for key, member in self._members.items():
            if key not in changes:
                continue
            if changes[key] is REMOVE:
                pieces.append(self._text[cursor : member.start])
                cursor = self._past_comma(member.end)
            else:
                pieces += [self._text[cursor : member.value_start], _dumps(changes[key])]
                cursor = member.end
        text = "".join([*pieces, self._text[cursor:]])
        added = [
            f"{_dumps(key)}:{_dumps(value)}"
            for key, value in changes.items()
            if key not in self._members and value is not REMOVE
        ]
        return _close(text, added).encode("utf-8")

    def _past_comma(self, position: int) -> int:
        position = _skip(self._text, position)
        return position + 1 if self._text[position] == "," else position


def _key(text: str, position: int) -> tuple[str, int]:
    """A member's name, and where its value starts."""
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("Expecting a property name in double quotes", text, position)
    key, position = _decoder.raw_decode(text, position)
    position = _skip(text, position)
    if text[position : position + 1] != ":":
        raise json.JSONDecodeError("Expecting ':'", text, position)
    return key, _skip(text, position + 1)


def _close(text: str, added: list[str]) -> str:
    """`text` with `added` members after its last one, and no comma left dangling by a removal."""
    inside = text.rstrip(_WHITESPACE)[:-1].rstrip(_WHITESPACE)
    tail = text[len(inside) :]  # whitespace, the brace, whitespace
    inside = inside.removesuffix(",")
    comma = "" if not added or inside.lstrip(_WHITESPACE) == "{" else ","
    return inside + comma + ",".join(added) + tail


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    assert match is not None  # it matches the empty string, too
    return match.end()


def _printable(key: str) -> str:
    """A client's key, short and without lone surrogates, which no response could carry."""
    return key[:_KEY_SHOWN_MAX].encode("utf-8", "backslashreplace").decode("utf-8")
