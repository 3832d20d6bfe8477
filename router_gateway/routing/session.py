"""Which endpoint a session was last served by, so that a tool loop can return to it."""

from __future__ import annotations

import threading
from collections import OrderedDict


class SessionMemory:
    """A bounded map from session to endpoint, least recently used out first."""

    def __init__(self, sessions_max: int = 50_000) -> None:
        self._sessions_max = sessions_max
        self._served: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._served)

    def remember(self, session: str, endpoint: str) -> None:
        """`endpoint` answered in `session`."""
        with self._lock:
            self._served[session] = endpoint
            self._served.move_to_end(session)
            if len(self._served) > self._sessions_max:
                self._served.popitem(last=False)

    def last(self, session: str) -> str | None:
        """The endpoint that answered last, or None when the session is unknown."""
        with self._lock:
            if session in self._served:
                self._served.move_to_end(session)
            return self._served.get(session)
