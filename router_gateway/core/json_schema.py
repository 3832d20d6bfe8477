"""JSON schemas from clients, applied to answers from models: both may be hostile, so everything here has a bound.

`jsonschema` does the work, less what is unsafe with strangers' schemas: references lead nowhere but into the schema
itself, patterns run on RE2, and every keyword looks at the clock first.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from router_gateway.core.patterns import matches, pattern_of

_SCHEMA_CHARS_MAX = 20_000
_DEPTH_MAX = 32
_DEADLINE_S = 1.0
_FENCED = re.compile(r"\s*```[A-Za-z0-9]*\n(.*)\n\s*```\s*", re.DOTALL)
_REFERENCES = ("$ref", "$dynamicRef")
_UNSAFE = ("patternProperties",)
"""jsonschema would hand these to `re`, which a pattern can keep busy for ever."""


class _TooLong(Exception):
    """The deadline passed."""


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A schema (draft 2020-12) that has been looked through."""

    document: Mapping[str, Any]

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Raise ValueError, saying what is wrong; some milliseconds for a large one."""
        import jsonschema

        if not isinstance(value, dict):
            raise ValueError("must be an object")
        if _depth(value) > _DEPTH_MAX:
            raise ValueError(f"is nested deeper than {_DEPTH_MAX} levels")
        if len(json.dumps(value)) > _SCHEMA_CHARS_MAX:
            raise ValueError(f"exceeds {_SCHEMA_CHARS_MAX} characters")
        _look_through(value)
        try:
            _validators()[0].check_schema(value)
        except jsonschema.SchemaError as error:
            where = "".join(f".{part}" for part in error.absolute_path)[:200]
            raise ValueError(f"{where or 'the whole'}: {error.message[:200]}") from None
        return cls(value)

    def allows(self, text: str) -> bool | None:
        """Whether `text` is JSON and the schema allows it; None where that takes too long to find out."""
        import referencing.exceptions

        try:
            instance = json.loads(text)
        except (ValueError, RecursionError):
            return False
        _, bounded = _validators()
        registry = referencing.Registry()  # an empty one: nothing is fetched
        try:
            deadline = time.monotonic() + _DEADLINE_S
            return bool(bounded(deadline)(self.document, registry=registry).is_valid(instance))
        except (_TooLong, RecursionError, referencing.exceptions.Unresolvable):
            return None


def unfenced(text: str) -> str:
    """The text without a Markdown code fence around all of it."""
    found = _FENCED.fullmatch(text)
    return found.group(1) if found else text


@lru_cache(maxsize=1)
def _validators() -> tuple[Any, Callable[[float], Any]]:
    """The class of jsonschema, and what makes one of ours that stops at an instant of `time.monotonic`."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    ours = {**Draft202012Validator.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique_items}

    def bounded(deadline_s: float) -> Any:
        return extend(Draft202012Validator, {name: _in_time(check, deadline_s) for name, check in ours.items()})

    return Draft202012Validator, bounded


def _in_time(check: Callable[..., Any], deadline_s: float) -> Callable[..., Iterator[Any]]:
    def timed(*given: Any) -> Iterator[Any]:
        if time.monotonic() > deadline_s:
            raise _TooLong
        yield from check(*given) or ()

    return timed


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(instance, str) and not matches(pattern, instance):
        yield ValidationError("does not match the pattern")


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """In one pass; jsonschema compares each item with each where they cannot be sorted."""
    from jsonschema import ValidationError

    if unique and isinstance(instance, list):
        spelt = {json.dumps(_canonical(item), sort_keys=True) for item in instance}
        if len(spelt) < len(instance):
            yield ValidationError("holds an item twice")


def _canonical(value: Any) -> Any:
    """With whole floats as integers: to JSON Schema 1.0 and 1 are the same."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return {key: _canonical(item) for key, item in value.items()} if isinstance(value, dict) else value


def _look_through(value: Any) -> None:
    """Raise ValueError for a member, however deep, that we do not follow."""
    if isinstance(value, list):
        for item in value:
            _look_through(item)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name in _UNSAFE:
            raise ValueError(f"`{name}` is not supported")
        if name in _REFERENCES and isinstance(item, str) and not item.startswith("#"):
            raise ValueError(f"`{name}` must lead into the schema itself: it begins with #")
        if name == "pattern" and isinstance(item, str):
            try:
                pattern_of(item)
            except ValueError as error:
                raise ValueError(f"`pattern` must be in RE2's syntax: {error}") from None
        _look_through(item)


def _depth(value: Any) -> int:
    """How deep lists and objects are nested, looked at down to just past the bound."""
    level, depth = [value], 0
    while level and depth <= _DEPTH_MAX:
        level = [
            item
            for node in level
            if isinstance(node, dict | list)
            for item in (node.values() if isinstance(node, dict) else node)
        ]
        depth += 1
    return depth
