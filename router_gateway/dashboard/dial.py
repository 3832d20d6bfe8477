"""The one slider of the dashboard: what a perfect answer is worth, on a log scale. Moving it asks nobody anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nicegui.element import Element


class Dial(Element, component="assets/rg_dial.js"):
    """It moves with the mouse, a finger, the arrow keys, and Page Up and Down from one stop to the next.

    low, high : its ends, USD; stops : values that were computed, to which it snaps
    on_move : called with the dial, USD, while it is moved
    """

    def __init__(self, label: str, worth_usd: float, *, on_move: Callable[[float], object]) -> None:
        super().__init__()
        self._moves = 0
        self._props.update({"label": label, "name": f"dial-{self.id}"})
        self.range(worth_usd / 10, worth_usd * 10, ())
        self.put(worth_usd)
        self.on("dial", lambda event: self._moved(event.args, on_move))

    def range(self, low: float, high: float, stops: Sequence[float]) -> None:
        """Between which dials it moves, and where it snaps; it stays where it is."""
        self._props.update({"low": low, "high": high, "stops": sorted(stops)})

    def put(self, worth_usd: float) -> None:
        """Move it there, without telling anybody."""
        self._moves += 1
        self._props["put"] = [worth_usd, self._moves]

    @staticmethod
    def _moved(given: object, on_move: Callable[[float], object]) -> None:
        """What the browser says, as far as it is a dial."""
        if isinstance(given, int | float) and math.isfinite(given) and given > 0:
            on_move(float(given))
