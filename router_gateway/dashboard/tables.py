"""Dense tables: sorted and paged by the server or, where all rows are there, in the browser. Every cell is text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nicegui.element import Element

Form = Literal["text", "mono", "money", "number", "percent", "count", "ms", "instant", "ago", "pill"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    name : the key in a row
    form : how a value is told; money is in USD, percent of 1, ms in milliseconds, instants ISO 8601.
        The value of a pill is (words, tone)
    sort : whether the head sorts
    path : the key of a row that holds the page to which the cell links, such as "/requests/…"
    """

    name: str
    title: str
    form: Form = "text"
    sort: bool = False
    path: str = ""


@dataclass(slots=True, kw_only=True)
class Order:
    """How a table is asked for: the column, the direction, the first row and how many."""

    by: str | None = None
    descending: bool = True
    offset: int = 0
    limit: int = 50


class Table(Element, component="assets/rg_table.js"):
    """See `table`."""

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        label: str,
        none: str,
        order: Order,
        on_order: Callable[[Order], Any] | None,
        on_open: Callable[[Mapping[str, Any]], Any] | None,
        height: str,
    ) -> None:
        super().__init__()
        self._rows: list[Mapping[str, Any]] = []
        self._names = {column.name for column in columns}
        self._order = order
        self._props.update(
            {
                "columns": [asdict(column) for column in columns],
                "rows": [],
                "label": label,
                "none": none,
                "total": None,
                "by": order.by,
                "descending": order.descending,
                "offset": order.offset,
                "limit": order.limit,
                "remote": on_order is not None,
                "opens": on_open is not None,
                "height": height,
            }
        )
        if on_order is not None:
            self.on("order", lambda event: on_order(self._asked(event.args)))
        if on_open is not None:
            self.on("open", lambda event: self._opened(event.args, on_open))

    def show(self, rows: Sequence[Mapping[str, Any]], *, total: int | None = None) -> None:
        """Put these rows in it; `total` is how many there are beyond this page (None: unknown, or all are here)."""
        self._rows = list(rows)
        self._props["rows"] = [dict(row) for row in rows]
        self._props["total"] = total

    def _asked(self, given: Any) -> Order:
        """What the browser asks for, as far as it is possible."""
        given = given if isinstance(given, dict) else {}
        by, offset = given.get("by"), given.get("offset")
        self._order.by = by if by in self._names else self._order.by
        self._order.descending = bool(given.get("descending", True))
        self._order.offset = offset if isinstance(offset, int) and 0 <= offset < 10**9 else 0
        self._props.update({"by": self._order.by, "descending": self._order.descending, "offset": self._order.offset})
        return self._order

    def _opened(self, index: Any, on_open: Callable[[Mapping[str, Any]], Any]) -> Any:
        return on_open(self._rows[index]) if isinstance(index, int) and 0 <= index < len(self._rows) else None


def table(
    columns: Sequence[Column],
    *,
    label: str,
    none: str = "Nothing here yet.",
    order: Order | None = None,
    on_order: Callable[[Order], Any] | None = None,
    on_open: Callable[[Mapping[str, Any]], Any] | None = None,
    height: str = "",
) -> Table:
    """Put a table on the page; `show` fills it.

    label : what it lists, for screen readers
    none : what stands there without rows
    on_order : the server sorts and pages: called with the Order that is wanted. Without it the browser sorts
    on_open : called with the row that was clicked or entered
    height : its largest height, such as "480px"; then it scrolls by itself
    """
    return Table(
        columns, label=label, none=none, order=order or Order(), on_order=on_order, on_open=on_open, height=height
    )
