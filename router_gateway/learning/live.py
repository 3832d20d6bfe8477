"""The policy in service: one reference, replaced whole."""

from __future__ import annotations

from router_gateway.core.types import NamedPolicy


class LivePolicy:
    """Holds the policy that decides now.

    A request reads `current()` once and keeps what it got, so that it finishes under the policy it began
    with. Reading and replacing one reference are atomic in Python: there is no lock to wait for. What is
    swapped in must be taught no more: a learner teaches a copy and swaps that.
    """

    __slots__ = ("_named",)

    def __init__(self, named: NamedPolicy) -> None:
        self._named = named

    def current(self) -> NamedPolicy:
        return self._named

    def swap(self, named: NamedPolicy) -> NamedPolicy:
        """Put `named` into service and return what it replaces, for whoever may want to go back."""
        before, self._named = self._named, named
        return before
