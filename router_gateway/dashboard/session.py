"""Who is signed in. Keys stay in this process's memory; a browser holds a random token that says nothing."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from router_gateway.dashboard.client import AdminClient

_SESSIONS_MAX = 1_000
_ADDRESSES_MAX = 10_000


@dataclass(slots=True, kw_only=True)
class Session:
    """One sign-in. `name` is what the page calls the person; `role` what the gateway says that the key may do."""

    admin: AdminClient = field(repr=False)
    name: str
    role: str = "admin"
    began_s: float
    seen_s: float
    ended: bool = False


@dataclass(slots=True, kw_only=True)
class Sessions:
    """Sessions by the digest of their token. An idle one ends after `idle_s`, any one after `whole_s`.

    What counts as being there is a page that is opened, or a person who clicks or types: pages that refresh
    themselves do not keep a session alive.
    """

    idle_s: float = 2 * 3600.0
    whole_s: float = 12 * 3600.0
    sessions_max: int = _SESSIONS_MAX
    clock: Callable[[], float] = time.monotonic
    _sessions: OrderedDict[bytes, Session] = field(default_factory=OrderedDict)

    def begin(self, admin: AdminClient, *, name: str, role: str = "admin") -> str:
        """A new session; returns the token for the cookie."""
        now, token = self.clock(), secrets.token_urlsafe(32)
        self._sessions[_digest(token)] = Session(admin=admin, name=name, role=role, began_s=now, seen_s=now)
        while len(self._sessions) > self.sessions_max:
            self._end(next(iter(self._sessions)))
        return token

    def of(self, token: str | None) -> Session | None:
        """The live session of a token."""
        if not token:
            return None
        digest = _digest(token)
        session = self._sessions.get(digest)
        if session is None:
            return None
        if not self.is_live(session):
            self._end(digest)
            return None
        return session

    def is_live(self, session: Session) -> bool:
        now = self.clock()
        return not session.ended and now - session.seen_s < self.idle_s and now - session.began_s < self.whole_s

    def touch(self, session: Session) -> None:
        """The person is there."""
        if self.is_live(session):
            session.seen_s = self.clock()

    def end(self, token: str | None) -> None:
        """Sign out. Pages that are still open hold the session, and find it ended."""
        if token:
            self._end(_digest(token))

    def _end(self, digest: bytes) -> None:
        if (session := self._sessions.pop(digest, None)) is not None:
            session.ended = True


@dataclass(slots=True, kw_only=True)
class Brake:
    """How often a wrong key may be tried: `tries` in `window_s` from one address, `tries_all` from all together."""

    tries: int = 5
    tries_all: int = 100
    window_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _failed: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)
    _failed_all: deque[float] = field(default_factory=deque)

    def wait_s(self, address: str) -> float:
        """How long the next try has to wait; 0: none."""
        now = self.clock()
        return max(
            self._left_s(self._failed.get(address, deque()), self.tries, now),
            self._left_s(self._failed_all, self.tries_all, now),
        )

    def failed(self, address: str) -> None:
        """A wrong key came from there."""
        now = self.clock()
        mine = self._failed.setdefault(address, deque(maxlen=self.tries))
        mine.append(now)
        self._failed.move_to_end(address)
        while len(self._failed) > _ADDRESSES_MAX:
            self._failed.popitem(last=False)
        self._failed_all.append(now)
        while len(self._failed_all) > self.tries_all:
            self._failed_all.popleft()

    def _left_s(self, failed: deque[float], most: int, now: float) -> float:
        return max(0.0, failed[-most] + self.window_s - now) if len(failed) >= most else 0.0


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
