"""Collects everything wrong with a data file, so that its author can mend it in one go."""

from __future__ import annotations

from router_gateway.core.errors import DataError

LISTED_MAX = 50
SHOWN_CHARS_MAX = 60


class Problems:
    """A bounded list of `where: field: what`; the rest is counted.

    Messages name fields, line numbers, identifiers and short values; prompts and answers never appear.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0
        self._listed: list[str] = []

    def add(self, where: str, field: str, what: str) -> None:
        """Note one problem; `where` is a line number, or "row 7" where a file has no lines."""
        self.count += 1
        if len(self._listed) < LISTED_MAX:
            place = f"{self.source}:{where}" if where else self.source
            self._listed.append(f"{place}: {field}: {what}" if field else f"{place}: {what}")

    def raise_if_any(self, *, hint: str | None = None) -> None:
        """Raise DataError with the first LISTED_MAX problems and the number of those left out."""
        if not self.count:
            return
        left_out = self.count - len(self._listed)
        rest = [f"{self.source}: and {left_out} more"] if left_out else []
        raise DataError([*self._listed, *rest], hint=hint)


def shown(value: object) -> str:
    """A short value as it may appear in a message."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"
