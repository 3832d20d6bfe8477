"""An answer that comes compressed although nobody asked for that."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable

_AT_ONCE_BYTES_MAX = 1 << 20  # a few compressed bytes can stand for a gigabyte
_AUTO = 32 + zlib.MAX_WBITS  # gzip or zlib, by the head
CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class Inflating:
    """`readany` of what `read` brings, decompressed; a piece at a time, so that the reader's own bound holds."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._inflater = zlib.decompressobj(_AUTO)

    async def readany(self) -> bytes:
        """b"" at the end. Raises ConnectionError for bytes that are not compressed as the head says."""
        while not self._inflater.eof:
            content = self._inflater.unconsumed_tail or await self._read()
            if not content:
                raise ConnectionError("the compressed answer broke off")
            try:
                if inflated := self._inflater.decompress(content, _AT_ONCE_BYTES_MAX):
                    return inflated
            except zlib.error:
                raise ConnectionError("the answer is not compressed as it says") from None
        return b""
