"""The garbage collector of a process that serves: at rest while it starts, settled once it has.

A start makes hundreds of thousands of objects that stay, and would walk them again and again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLDS = (50_000, 20, 50)


@contextmanager
def at_rest() -> Iterator[None]:
    """Collect nothing in the block, or until `settle`."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def settle() -> None:
    """Take the start-up's objects out of the collector's sight, and have it collect what comes after.

    A full collection over the imported libraries takes tens of milliseconds, in the middle of somebody's
    request; frozen, they are never walked again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()
