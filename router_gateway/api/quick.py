"""Starlette's request and response, with less of what the hot route does not use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope


class QuickHeaders(Headers):
    """The same headers, found by hash: starlette looks through all of them for every question."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        # The first of several with one name, as there.
        self._first = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self._list)}

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower()]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._first

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return self._first.get(key.lower(), default)


class QuickRequest(Request):
    """A request with such headers."""

    @property
    def headers(self) -> Headers:
        if not hasattr(self, "_headers"):
            self._headers = QuickHeaders(self.scope)
        return self._headers


class WholeAnswer(Response):
    """A JSON answer that is there in full. `headers` are ours: names in lower case, values in Latin-1."""

    def __init__(self, content: bytes, *, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.body = content
        self.background = None
        self.raw_headers = [(_name(name), value.encode("latin-1")) for name, value in headers.items()]
        self.raw_headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return name.encode("latin-1")
