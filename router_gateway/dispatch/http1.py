"""One HTTP/1.1 connection to an upstream, and the answer on it; llhttp parses (docs/adr/0017).

A connection carries one exchange at a time. The answer is handed over as it comes: its head wakes whoever waits for it,
its body collects until somebody reads, and beyond a bound the socket is left alone until then.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

BUFFER_BYTES_MAX = 256 << 10  # of a body that nobody has read yet, and what one read of the socket adds
OVERHEAD_BYTES_MAX = 256 << 10  # heads, interim answers and trailers, without a byte of body between
PIECE_BYTES = 256 << 10  # a larger body is written in pieces, so that it does not hold up the loop


class BrokenConnection(ConnectionError):
    """The connection ended, or what came was no HTTP, before the answer was whole."""


class Silence(TimeoutError):
    """Nothing came for as long as a silence may last."""


class Response:
    """An answer as it comes; one task reads it.

    headers : names in lower case; of several with one name the first
    """

    __slots__ = ("_body", "_buffered", "_connection", "_failure", "_waiter", "headers", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection: Connection | None = connection  # None: nothing more will come
        self._body: list[bytes] = []
        self._buffered = 0
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    async def readany(self) -> bytes:
        """What has come of the body since the last call, b"" at its end. Raises BrokenConnection, Silence."""
        while not self._body:
            if self._failure is not None:
                raise self._failure
            if self._connection is None:
                return b""
            await self.news()
        content = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._buffered = 0
        if self._connection is not None:
            self._connection.read_on()
        return content

    def close(self) -> None:
        """Hang up, unless the answer is whole: then its connection serves others already."""
        if self._connection is not None:
            self._connection.fail(BrokenConnection("closed here"))

    async def headed(self) -> None:
        """Return when status and headers are there."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self.news()

    @property
    def decided(self) -> bool:
        """Whether the head is there, or never will be."""
        return bool(self.status) or self._failure is not None

    @property
    def crowded(self) -> bool:
        """Whether more has come than should wait to be read."""
        return self._buffered > BUFFER_BYTES_MAX

    async def news(self) -> None:
        """Wait for the next `tell`."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def tell(self) -> None:
        """Wake the reader."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def add(self, content: bytes) -> None:
        """More of the body."""
        self._body.append(content)
        self._buffered += len(content)

    def end(self, failure: Exception | None) -> None:
        """Nothing more will come."""
        self._connection = None
        self._failure = failure
        self.tell()


class Connection(asyncio.Protocol):
    """A connection, made by `loop.create_connection`.

    `freed` is called once at the end of every exchange, with whether the connection can serve another; `lost` when
    it is gone.
    """

    def __init__(self, freed: Callable[[Connection, bool], None], lost: Callable[[Connection], None]) -> None:
        self.idle_since_s = 0.0
        self._freed = freed
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._silence_s = self._heard_s = 0.0
        self._overhead = 0
        self._writing = self._paused = False
        self._interim = self._framed = self._whole = self._kept = False

    async def exchange(self, head: bytes, body: bytes, *, silence_s: float) -> Response:
        """Send a request and return when the head of its answer is there; hangs up when cancelled.

        Raises BrokenConnection, and Silence when nothing has come or gone for `silence_s`.
        """
        response = self._response = Response(self)
        self._overhead = 0
        self._interim = self._framed = self._whole = self._kept = False
        self._silence_s, self._heard_s = silence_s, self._loop.time()
        self._timer = self._loop.call_at(self._heard_s + silence_s, self._listen)
        try:
            if len(body) <= PIECE_BYTES:
                self._transport.write(head + body)
            else:
                await self._write_pieces(response, head, body)
            await response.headed()
        except BaseException:
            response.close()
            raise
        return response

    @property
    def usable(self) -> bool:
        """Whether a request can be sent: neither side has hung up."""
        return self._response is None and not self._transport.is_closing()

    @property
    def stirs(self) -> bool:
        """Whether something has come that the loop has yet to hand over; while nobody asks, that is the other's end."""
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(0))

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def fail(self, error: Exception) -> None:
        """End the exchange with an error, and the connection with it."""
        self._transport.abort()
        self._end(error)

    def read_on(self) -> None:
        """The body that had come was taken."""
        if self._paused:
            self._paused, self._heard_s = False, self._loop.time()
            self._transport.resume_reading()

    async def _write_pieces(self, response: Response, head: bytes, body: bytes) -> None:
        """Until the upstream answers: what it has not asked for by then (413) it will not read."""
        self._transport.write(head)
        sent = 0
        while sent < len(body) and not response.decided:
            self._transport.write(body[sent : sent + PIECE_BYTES])
            sent += PIECE_BYTES
            while self._writing and not response.decided:
                await response.news()
        self._writing = sent < len(body)

    def _listen(self) -> None:
        """Fail when it has been silent for too long; else look again when it would be."""
        now_s = self._loop.time()
        due_s = (now_s if self._paused else self._heard_s) + self._silence_s
        if now_s >= due_s:
            self.fail(Silence(f"silent for {self._silence_s:g} s"))
        else:
            self._timer = self._loop.call_at(due_s, self._listen)

    def _end(self, failure: Exception | None) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._freed(self, failure is None and self._kept and not self._writing and self.usable)
        response.end(failure)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._descriptor: int = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked
            self._transport.abort()
            return
        self._heard_s = self._loop.time()
        self._overhead += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._kept = False
            if not self._whole:  # rubbish behind a whole answer costs the connection, not the answer
                self.fail(BrokenConnection("not HTTP"))
                return
        if self._whole:
            if not self._kept:
                self._transport.abort()
            elif self._paused:
                self.read_on()
            self._end(None)
        elif self._overhead > OVERHEAD_BYTES_MAX:
            self.fail(BrokenConnection("a head without end"))
        else:
            if response.crowded and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            response.tell()

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        by_its_end = exc is None and response is not None and response.status and not self._framed
        self._kept = False
        self._end(None if by_its_end else BrokenConnection("lost"))
        self._lost(self)

    def pause_writing(self) -> None:
        self._writing = True

    def resume_writing(self) -> None:
        self._writing, self._heard_s = False, self._loop.time()
        if self._response is not None:
            self._response.tell()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:  # a second answer to one request
            raise BrokenConnection

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        if response is not None and not response.status:  # not a trailer
            response.headers.setdefault(name.lower().decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        response, status = self._response, self._parser.get_status_code()
        assert response is not None
        self._interim = status < 200
        if self._interim:
            response.headers.clear()
            if status == 101:  # nobody asked to speak anything else
                raise BrokenConnection
            return
        coding = response.headers.get("transfer-encoding", "")
        self._framed = "content-length" in response.headers or coding.lower().endswith("chunked")
        response.status = status

    def on_body(self, body: bytes) -> None:
        assert self._response is not None
        self._overhead = 0
        self._response.add(body)

    def on_message_complete(self) -> None:
        if not self._interim:
            self._whole, self._kept = True, self._parser.should_keep_alive()
