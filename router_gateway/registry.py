"""Finds policies by entry point and builds them from plain parameters. Nothing is imported until it is named."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from router_gateway.core.errors import BadParameters, DuplicatePolicy, PolicyError, UnknownPolicy

if TYPE_CHECKING:
    from pydantic import BaseModel

    from router_gateway.core.protocols import Policy

GROUP = "router_gateway.policies"
_METHODS = ("fit", "partial_fit", "score", "save", "load")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInfo:
    """An installed policy; what follows its version is empty until `describe` imports it.

    parameters : a JSON Schema; defaults : JSON values of those parameters that have one
    """

    name: str
    distribution: str
    version: str
    summary: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def available() -> Mapping[str, PolicyInfo]:
    """Every installed policy by name, in alphabetical order; imports none of them. Raises DuplicatePolicy."""
    return {name: _info(name, point) for name, point in sorted(_entry_points().items())}


def describe(name: str) -> PolicyInfo:
    """The policy with the JSON Schema of its parameters. Raises UnknownPolicy, DuplicatePolicy, PolicyError."""
    from pydantic_core import to_jsonable_python

    cls = policy_class(name)
    model = _parameter_model(cls)
    values = {
        field: to_jsonable_python(info.get_default(call_default_factory=True))
        for field, info in model.model_fields.items()
        if not info.is_required()
    }
    return dataclasses.replace(
        _info(name, _entry_points()[name]),
        summary=(inspect.getdoc(cls) or "").partition("\n\n")[0].replace("\n", " "),
        parameters=model.model_json_schema(),
        defaults=values,
    )


def create(name: str, params: Mapping[str, Any] | None = None) -> Policy:
    """An unfitted policy. Raises BadParameters with one line per mistake, each `name.field: what is wrong`."""
    from pydantic import ValidationError

    cls = policy_class(name)
    model = _parameter_model(cls)
    try:
        checked = model.model_validate(dict(params or {}))
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "none"
        raise BadParameters(
            "\n".join(_problem(name, detail) for detail in error.errors(include_url=False, include_input=False)),
            hint=f"parameters of {name}: {known}",
        ) from None
    try:
        policy = cls(**{field: getattr(checked, field) for field in checked.model_fields_set})
    except ValueError as error:  # a rule between parameters, in the policy's __post_init__
        raise BadParameters(f"{name}: {error}") from None
    return typing.cast("Policy", policy)


def parameters(policy: Policy) -> dict[str, Any]:
    """The hyperparameters as JSON values; `create` with them builds an unfitted twin."""
    from pydantic_core import to_jsonable_python

    values = dataclasses.asdict(typing.cast(Any, policy))
    return {name: to_jsonable_python(value) for name, value in values.items()}


def policy_class(name: str) -> type[Any]:
    """The class registered as `name`. Raises UnknownPolicy, DuplicatePolicy, or PolicyError if it cannot be used."""
    points = _entry_points()
    if name not in points:
        close = difflib.get_close_matches(name, points, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(map(repr, close))}?" if close else "install the distribution that has it"
        raise UnknownPolicy(
            f"no installed distribution registers a policy {name!r}",
            hint=f"{meant} Installed: {', '.join(sorted(points)) or 'none'}.",
        )
    point = points[name]
    where = f"policy {name!r} of {_distribution(point)} ({point.value})"
    try:
        cls = point.load()
    except Exception as error:  # importing somebody else's module may fail in any way
        raise PolicyError(
            f"{where} cannot be imported: {type(error).__name__}: {error}",
            hint="repair or uninstall that distribution",
        ) from error
    lacks = [method for method in _METHODS if not callable(getattr(cls, method, None))]
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls) or lacks:
        what = f"lacks {', '.join(lacks)}" if lacks else "is not a dataclass"
        raise PolicyError(f"{where} {what}", hint="see docs/writing-a-policy.md")
    return cls


def _entry_points() -> Mapping[str, EntryPoint]:
    return _installed(tuple(sys.path))


@lru_cache(maxsize=4)
def _installed(_path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Every distribution on the path is opened for this (30 ms), so what is installed is looked at once a process."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        first = found.setdefault(point.name, point)
        if first != point or _distribution(first) != _distribution(point):
            raise DuplicatePolicy(
                f"policy {point.name!r} is registered twice: by {_distribution(first)} as {first.value} "
                f"and by {_distribution(point)} as {point.value}",
                hint="uninstall one of them, or rename its entry point",
            )
    return found


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unknown distribution"


def _info(name: str, point: EntryPoint) -> PolicyInfo:
    distribution, _, version = _distribution(point).rpartition(" ")
    return PolicyInfo(name=name, distribution=distribution, version=version)


def _parameter_model(cls: type[Any]) -> type[BaseModel]:
    """The dataclass's fields as a pydantic model that refuses unknown keys, NaN and infinity.

    A model of its own, because pydantic ignores unknown keys of a plain dataclass; descriptions come from
    `annotated_types.doc` in the annotations.
    """
    from pydantic import ConfigDict, Field, create_model

    hints = typing.get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        notes = getattr(hints[field.name], "__metadata__", ())
        description = next((note.documentation for note in notes if hasattr(note, "documentation")), None)
        if field.default is not dataclasses.MISSING:
            fields[field.name] = (hints[field.name], Field(default=field.default, description=description))
        elif field.default_factory is not dataclasses.MISSING:
            fields[field.name] = (
                hints[field.name],
                Field(default_factory=field.default_factory, description=description),
            )
        else:
            fields[field.name] = (hints[field.name], Field(description=description))
    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    model: type[BaseModel] = create_model(cls.__name__, __config__=strict, **fields)
    return model


def _problem(name: str, detail: Any) -> str:
    path = ".".join([name, *map(str, detail["loc"])])
    if detail["type"] == "extra_forbidden":
        return f"{path}: no such parameter"
    return f"{path}: {detail['msg'][:1].lower()}{detail['msg'][1:]}"
