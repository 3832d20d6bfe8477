"""What narrows the list of requests down: words, time, endpoint, policy, outcome, rating, tenant, cost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nicegui import ui

from router_gateway.dashboard import parts

_TIMES = {
    "": "any time",
    "1h": "last hour",
    "24h": "last 24 hours",
    "7d": "last 7 days",
    "30d": "last 30 days",
}
_LENGTHS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_OUTCOMES = {
    "": "any outcome",
    "answered": "answered",
    "failed": "failed",
    "retried": "after a retry",
    "open": "no answer yet",
}
_RATINGS = {"": "any rating", "any": "rated", "none": "not rated", "good": "rated good", "bad": "rated bad"}
_NAMES = ("q", "time", "endpoint", "policy", "status", "feedback", "tenant", "min_cost_usd")
_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Choices:
    """What there is to choose from."""

    endpoints: list[str]
    policies: list[str]


class Filters:
    """The fields, and what they say. `query` is the address that the page was opened with."""

    def __init__(self, query: Mapping[str, str], changed: Callable[[], Awaitable[None]]) -> None:
        self._said: dict[str, str] = {name: query.get(name, "")[:_CHARS_MAX].strip() for name in _NAMES}
        for name, known in (("time", _TIMES), ("status", _OUTCOMES), ("feedback", _RATINGS)):
            if self._said[name] not in known:
                self._said[name] = ""
        self._changed = changed
        self._fields: dict[str, Any] = {}

    def params(self) -> dict[str, str]:
        """As the admin API asks for them."""
        found = {name: value for name, value in self._said.items() if value and name != "time"}
        if (length := _LENGTHS.get(self._said["time"])) is not None:
            since = datetime.now(UTC).replace(microsecond=0) - length
            found["since"] = since.isoformat()
        return found

    def draw(self, choices: Choices) -> Callable[[Choices], None]:
        """Put the fields on the page."""
        with parts.row():
            search = self._text("q", "Search", "id, session, or words of the prompt")
            search.classes("rg-grow")
            search._props["data-rg-search"] = True
            self._choice("time", "Time", _TIMES).classes("rg-time")
            parts.button("Clear", self._clear, kind="quiet", label="Clear all filters")
        with ui.element("div").classes("rg-form rg-filters"):
            self._choice("endpoint", "Endpoint", _with("any endpoint", choices.endpoints, self._said["endpoint"]))
            self._choice("policy", "Policy", _with("any policy", choices.policies, self._said["policy"]))
            self._choice("status", "Outcome", _OUTCOMES)
            self._choice("feedback", "Rating", _RATINGS)
            self._text("tenant", "Tenant", "its name")
            self._text("min_cost_usd", "Cost from, USD", "0.01", check=_amount)

        def update(now: Choices) -> None:
            for name, none, values in (
                ("endpoint", "any endpoint", now.endpoints),
                ("policy", "any policy", now.policies),
            ):
                self._fields[name].set_options(_with(none, values, self._said[name]))

        return update

    def _choice(self, name: str, label: str, options: Mapping[str, str]) -> ui.select:
        made = ui.select(dict(options), label=label, value=self._said[name]).props("outlined dense stack-label")
        made.on_value_change(lambda event: self._put(name, event.value))
        self._fields[name] = made
        return made

    def _text(self, name: str, label: str, hint: str, *, check: Callable[[str], str | None] | None = None) -> ui.input:
        made = ui.input(label, value=self._said[name], placeholder=hint, validation=check)
        made.props("outlined dense stack-label debounce=400 clearable")
        made._props["maxlength"] = _CHARS_MAX
        made.on_value_change(lambda event: self._put(name, event.value))
        self._fields[name] = made
        return made

    async def _put(self, name: str, value: Any) -> None:
        said = str(value or "").strip()
        if said == self._said[name] or (name == "min_cost_usd" and _amount(said)):
            return
        self._said[name] = said
        await self._changed()

    async def _clear(self) -> None:
        self._said = dict.fromkeys(_NAMES, "")
        for field in self._fields.values():
            field.set_value("")
        await self._changed()


def _with(none: str, values: list[str], chosen: str) -> dict[str, str]:
    """The options; what was asked for by the address is one, though it is there no longer."""
    names = values if not chosen or chosen in values else [*values, chosen]
    return {"": none, **{name: name for name in names}}


def _amount(said: str | None) -> str | None:
    if not (said or "").strip():
        return None
    try:
        usd = float(said or "")
    except ValueError:
        return "a number of dollars"
    return None if 0 <= usd <= 1e6 else "from 0 to 1,000,000"
