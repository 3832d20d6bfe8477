"""The fields of a Chat Completions request that routing reads, checked; everything else passes through."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from router_gateway.core.body import Body
from router_gateway.core.checks import Check
from router_gateway.core.errors import RequestError
from router_gateway.core.types import Preferences

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MESSAGES_MAX = 10_000
_MODEL_CHARS_MAX = 256
_GLOBS_MAX = 100
_GLOB_CHARS_MAX = 256
_NAME_CHARS_SHOWN = 64
_TOKENS_MAX = 1_000_000_000
_DEADLINE_MS_MAX = 86_400_000.0
_SUFFIX_WORTH_USD = {"floor": 1e-9, "quality": 1e9}
"""`auto:floor` takes the cheapest endpoint, `auto:quality` the best: the dial at its two ends, which bound it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingOptions:
    """The body's `routing` object, after headers and model suffix were laid under it."""

    policy: str | None
    preferences: Preferences
    deadline_s: float | None
    session_id: str | None
    explain: bool
    verify: Any = None
    """As it came: reading a check may take a moment."""
    checks: tuple[Check, ...] = ()


_HEADERS = ("x-router-policy", "x-router-explain")
_NO_WISHES = RoutingOptions(policy=None, preferences=Preferences(), deadline_s=None, session_id=None, explain=False)


def check_chat(body: Body) -> None:
    """Raise RequestError, naming the field, unless the body is a Chat Completions request we can route."""
    values = body.values
    model = values.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= _MODEL_CHARS_MAX:
        words = f"a string of 1 to {_MODEL_CHARS_MAX} characters"
        raise RequestError(f"`model` must be {words}", param="model", code=_missing(body, "model"))
    messages = values.get("messages")
    if not isinstance(messages, list):
        raise RequestError("`messages` must be a list", param="messages", code=_missing(body, "messages"))
    if not messages:
        raise RequestError("`messages` is empty: at least one message is needed", param="messages")
    if len(messages) > _MESSAGES_MAX:
        raise RequestError(f"`messages` holds more than {_MESSAGES_MAX} messages", param="messages")
    for index, message in enumerate(messages):
        _check_message(f"messages[{index}]", message)
    for name in ("max_tokens", "max_completion_tokens"):
        value = values.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= _TOKENS_MAX):
            raise RequestError(f"`{name}` must be an integer from 1 to {_TOKENS_MAX}", param=name)
    _expect(body, "stream", bool, "true or false")
    _expect(body, "stream_options", dict, "an object")
    _expect(body, "tools", list, "a list")


def output_limit(body: Body) -> int | None:
    """The client's bound on the answer's tokens, or None."""
    limit: int | None = body.get("max_completion_tokens") or body.get("max_tokens")
    return limit


def wants_usage(body: Body) -> bool:
    """Whether the client asked for the usage chunk of a stream."""
    options = body.get("stream_options") or {}
    return bool(options.get("include_usage"))


def routing_options(
    body: Body, headers: Mapping[str, str], *, suffix: str = "", win_threshold: float | None = None
) -> RoutingOptions:
    """The request's wishes; precedence: body `routing` > headers > what the model's name says.

    suffix, win_threshold : what the model's name says
    Unknown and not yet supported fields are refused by name, never silently dropped.
    """
    routing = body.get("routing")
    if routing is None and not suffix and win_threshold is None and not any(name in headers for name in _HEADERS):
        return _NO_WISHES
    if routing is not None and not isinstance(routing, dict):
        raise RequestError("`routing` must be an object", param="routing")
    wish = _Reader(routing or {})
    worth_usd = wish.number("worth_usd", least=_SUFFIX_WORTH_USD["floor"], most=_SUFFIX_WORTH_USD["quality"])
    if suffix and suffix not in _SUFFIX_WORTH_USD:
        known = ", ".join(f"auto:{name}" for name in _SUFFIX_WORTH_USD)
        raise RequestError(f"unknown model suffix {suffix!r}; known: {known}", param="model")
    if worth_usd is None and suffix:
        worth_usd = _SUFFIX_WORTH_USD[suffix]
    if (asked := wish.number("win_threshold", least=0.0, most=1.0)) is not None:
        win_threshold = asked
    if worth_usd is not None and win_threshold is not None:
        words = "a dial (`routing.worth_usd`, `auto:floor`) and a threshold exclude each other: leave out one"
        raise RequestError(words, param="routing.worth_usd")
    data_collection = wish.word("data_collection")
    if data_collection not in (None, "allow", "deny"):
        raise RequestError('`routing.data_collection` must be "allow" or "deny"', param="routing.data_collection")
    deadline_ms = wish.number("deadline_ms", least=1.0, most=_DEADLINE_MS_MAX)
    options = RoutingOptions(
        policy=wish.word("policy") or headers.get("x-router-policy"),
        preferences=Preferences(
            worth_usd=worth_usd,
            quality_floor=wish.number("quality_floor", least=0.0, most=1.0),
            max_cost_usd=wish.number("max_cost_usd", least=0.0),
            allowed=wish.globs("allowed_models"),
            ignore=wish.globs("ignore"),
            region=wish.word("region"),
            deny_data_collection=data_collection == "deny",
            explore=wish.flag("explore", default=True),
            win_threshold=win_threshold,
        ),
        deadline_s=None if deadline_ms is None else deadline_ms / 1e3,
        session_id=wish.word("session_id"),
        explain=wish.flag("explain", default=headers.get("x-router-explain") == "1"),
        verify=wish.anything("verify"),
    )
    wish.refuse_rest()
    return options


def may_use(allows: tuple[str, ...], *names: str) -> bool:
    """Whether a key's globs (none: everything) cover one of `names`."""
    return not allows or any(fnmatchcase(name, glob) for glob in allows for name in names)


def _check_message(path: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise RequestError(f"`{path}` must be an object", param=path)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(f"`{path}.role` must be one of {', '.join(sorted(_ROLES))}", param=f"{path}.role")
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return
    if not isinstance(content, list):
        raise RequestError(f"`{path}.content` must be a string or a list of parts", param=f"{path}.content")
    for part, value in enumerate(content):
        if not isinstance(value, dict):
            raise RequestError(f"`{path}.content[{part}]` must be an object", param=f"{path}.content[{part}]")


def _expect(body: Body, name: str, kind: type, words: str) -> None:
    value = body.values.get(name)
    if value is not None and not isinstance(value, kind):
        raise RequestError(f"`{name}` must be {words}", param=name)


def _missing(body: Body, name: str) -> str:
    return "invalid_type" if name in body else "missing_required_parameter"


def _is_glob(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _GLOB_CHARS_MAX


class _Reader:
    """Takes typed members out of the `routing` object; what is left at the end is unknown."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._left = dict(members)

    def anything(self, name: str) -> Any:
        return self._left.pop(name, None)

    def number(self, name: str, *, least: float, most: float = sys.float_info.max) -> float | None:
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) not in (int, float):
            raise self._wrong(name, "a number")
        if not least <= value <= most:  # an integer may exceed every float, so it is compared before it is one
            raise self._wrong(name, f"a number from {least:g} to {most:g}")
        return float(value)

    def word(self, name: str) -> str | None:
        value = self._left.pop(name, None)
        if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 200):
            raise self._wrong(name, "a string of 1 to 200 characters")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._left.pop(name, None)
        if not isinstance(value, bool | None):
            raise self._wrong(name, "true or false")
        return default if value is None else value

    def globs(self, name: str) -> tuple[str, ...]:
        value = self._left.pop(name, None)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _GLOBS_MAX or not all(map(_is_glob, value)):
            raise self._wrong(name, f"a list of at most {_GLOBS_MAX} strings of 1 to {_GLOB_CHARS_MAX} characters")
        return tuple(value)

    def refuse_rest(self) -> None:
        for left in self._left:
            name = left[:_NAME_CHARS_SHOWN]
            raise RequestError(
                f"`routing.{name}` is not supported", param=f"routing.{name}", code="unsupported_parameter"
            )

    @staticmethod
    def _wrong(name: str, words: str) -> RequestError:
        return RequestError(f"`routing.{name}` must be {words}", param=f"routing.{name}")
