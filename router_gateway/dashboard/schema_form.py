"""A form drawn from a JSON Schema, such as a policy's own parameters: one field for each property, checked as typed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.validation_element import ValidationElement

from router_gateway.dashboard import parts

_LINES = frozenset({"array", "object"})
_NOT_GIVEN = object()


class SchemaForm:
    """The fields on the page. `values()` is what differs from the defaults, or None while something is wrong."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        given: Mapping[str, Any] | None = None,
        *,
        on_change: Callable[[], Any] | None = None,
    ) -> None:
        self._properties: dict[str, Mapping[str, Any]] = {
            name: _resolved(schema, each) for name, each in schema.get("properties", {}).items()
        }
        self._required = frozenset(schema.get("required", ()))
        self._fields: dict[str, ValidationElement[Any] | ui.switch] = {}
        self._on_change = on_change
        given = dict(given or {})
        with ui.element("div").classes("rg-form"):
            for name, each in self._properties.items():
                self._fields[name] = self._field(name, each, given.get(name, each.get("default")))
            if not self._properties:
                parts.text("There is nothing to set.", "rg-dim", tag="p")

    def values(self) -> dict[str, Any] | None:
        """The values that are not the defaults; None (with the fields marked) if one is wrong."""
        found: dict[str, Any] = {}
        good = True
        for name, each in self._properties.items():
            field = self._fields[name]
            if isinstance(field, ValidationElement) and not field.validate():
                good = False
                continue
            value = _read(each, field.value)
            if value is not _NOT_GIVEN and (value != each.get("default") or name in self._required):
                found[name] = value
        return found if good else None

    def blame(self, param: str | None, message: str) -> bool:
        """Mark the field that the gateway refused; False if none of ours is to blame."""
        field = self._fields.get((param or "").rsplit(".", 1)[-1])
        if not isinstance(field, ValidationElement):
            return False
        field.error = message
        return True

    def _field(self, name: str, schema: Mapping[str, Any], value: Any) -> ValidationElement[Any] | ui.switch:
        with parts.column():
            made = self._input(name, schema, value)
            if about := _about(schema):
                parts.text(about, "rg-dim rg-small")
        if self._on_change is not None:
            changed = self._on_change
            made.on_value_change(lambda _: changed())
        return made

    def _input(self, name: str, schema: Mapping[str, Any], value: Any) -> ValidationElement[Any] | ui.switch:
        kind = _kind(schema)
        required = name in self._required
        if kind == "boolean":
            return ui.switch(name, value=bool(value))
        if "enum" in schema:
            options = [*schema["enum"]] if required or None in schema["enum"] else [*schema["enum"], None]
            chosen = value if value in options else None
            return ui.select(options, label=name, value=chosen, validation=parts.unchecked).props("outlined dense")
        shown = "" if value is None else json.dumps(value) if kind in _LINES else str(value)
        check = {"": lambda said: _wrong(schema, said, required)}
        field = ui.input(name, value=shown, validation=lambda said: check[""](said)).props("outlined dense")
        if kind in ("number", "integer"):
            field._props["inputmode"] = "decimal" if kind == "number" else "numeric"
        return field


def _wrong(schema: Mapping[str, Any], said: Any, required: bool) -> str | None:
    """What is wrong with what was typed; None: nothing."""
    try:
        value = _read(schema, said)
    except ValueError as error:
        return str(error)
    if value is _NOT_GIVEN:
        return "has to be given" if required else None
    if isinstance(value, int | float) and not isinstance(value, bool):
        bounds: tuple[tuple[str, Callable[[float], bool], str], ...] = (
            ("minimum", lambda bound: value < bound, "at least"),
            ("maximum", lambda bound: value > bound, "at most"),
            ("exclusiveMinimum", lambda bound: value <= bound, "more than"),
            ("exclusiveMaximum", lambda bound: value >= bound, "less than"),
        )
        for name, outside, words in bounds:
            if name in schema and outside(schema[name]):
                return f"{words} {schema[name]:g}"
    if isinstance(value, str) and len(value) > schema.get("maxLength", 100_000):
        return f"at most {schema['maxLength']} characters"
    return None


def _read(schema: Mapping[str, Any], said: Any) -> Any:
    """The value that was typed, of the schema's type. Raises ValueError in words."""
    kind = _kind(schema)
    if not isinstance(said, str):
        return _NOT_GIVEN if said is None and None not in schema.get("enum", ()) else said
    said = said.strip()
    if not said:
        return _NOT_GIVEN
    if kind in ("integer", "number"):
        try:
            number = int(said) if kind == "integer" else float(said)
        except ValueError:
            raise ValueError("a whole number" if kind == "integer" else "a number") from None
        if not math.isfinite(number):
            raise ValueError("a number")
        return number
    if kind in _LINES:
        try:
            value = json.loads(said)
        except ValueError:
            raise ValueError("JSON, such as [1, 2]" if kind == "array" else 'JSON, such as {"a": 1}') from None
        if not isinstance(value, list if kind == "array" else dict):
            raise ValueError("a list in [ ]" if kind == "array" else "names and values in { }")
        return value
    return said


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "string")
    kinds = [each for each in kind if each != "null"] if isinstance(kind, list) else [kind]
    return str(kinds[0]) if kinds else "string"


def _resolved(whole: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The property with its reference followed, and the one choice beside null taken."""
    seen = 0
    while "$ref" in schema and seen < 10:
        name = str(schema["$ref"]).removeprefix("#/$defs/")
        schema = {**whole.get("$defs", {}).get(name, {}), **{k: v for k, v in schema.items() if k != "$ref"}}
        seen += 1
    choices = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    if len(choices) == 1:
        rest = {k: v for k, v in schema.items() if k != "anyOf"}
        return _resolved(whole, {**choices[0], **rest})
    if len(choices) > 1:
        return {**schema, "type": "object"} if all(c.get("type") == "object" for c in choices) else schema
    return schema


def _about(schema: Mapping[str, Any]) -> str:
    names = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = [f"{sign} {schema[name]:g}" for name, sign in names if isinstance(schema.get(name), int | float)]
    default = schema.get("default")
    said = [str(schema.get("description", "")), ", ".join(bounds)]
    if default is not None:
        said.append(f"default {default if isinstance(default, str) else json.dumps(default)}")
    return " · ".join(part for part in said if part)
