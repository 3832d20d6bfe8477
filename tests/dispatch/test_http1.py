"""What a server says on one connection, however badly, and what becomes of it."""

import asyncio
import zlib

import pytest
from yarl import URL

from router_gateway.dispatch import http1
from router_gateway.dispatch.http1 import BrokenConnection, Silence
from tests.dispatch.spoken import HEAD, WHOLE, content_of, post, says


@pytest.mark.parametrize(
    "pieces",
    [
        (WHOLE,),
        tuple(WHOLE[i : i + 1] for i in range(len(WHOLE))),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\no\r\n", b"1;note=x\r\nk\r\n0\r\ntrailer: x\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\nx: 1\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + WHOLE),
    ],
)
async def test_an_answer_is_the_same_however_it_is_cut_and_leaves_its_connection_usable(serve, connections, pieces):
    server = await serve(says(*pieces))
    for _ in range(2):
        answer = await post(connections, server)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert not {"x", "link", "trailer"} & set(answer.headers)
        assert await content_of(answer) == b"ok"
    assert server.connections == 1


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"\r\no", b"k"),  # the body ends where the connection does
        (HEAD + b"connection: close\r\ncontent-length: 2\r\n\r\nok",),
        (b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\nok",),
    ],
)
async def test_what_cannot_be_kept_is_not(serve, connections, pieces):
    server = await serve(says(*pieces, close=True))
    for _ in range(2):
        assert await content_of(await post(connections, server)) == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\x01\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-ty",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * (http1.OVERHEAD_BYTES_MAX + 70_000),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)
async def test_no_head_that_makes_sense(serve, connections, raw):
    server = await serve(says(raw, close=True))
    with pytest.raises(BrokenConnection):
        await post(connections, server)


@pytest.mark.parametrize(
    "raw",
    [
        HEAD + b"content-length: 3\r\n\r\nok",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: " + b"x" * (http1.OVERHEAD_BYTES_MAX + 70_000),
    ],
)
async def test_a_body_that_breaks_off_is_no_answer(serve, connections, raw):
    server = await serve(says(raw, close=True))
    answer = await post(connections, server)
    with pytest.raises(BrokenConnection):
        await content_of(answer)


@pytest.mark.parametrize("rubbish", [WHOLE, b"HTTP", b"\x00\x01"])
async def test_more_than_was_asked_for_costs_the_connection_and_not_the_answer(serve, connections, rubbish):
    server = await serve(says(WHOLE + rubbish))
    assert await content_of(await post(connections, server)) == b"ok"
    assert await content_of(await post(connections, server)) == b"ok"
    assert server.connections == 2


async def test_silence_is_bounded_before_the_head_and_within_the_body(serve, connections):
    server = await serve(says())
    with pytest.raises(Silence):
        await post(connections, server, read_timeout_s=0.1)
    server = await serve(says(HEAD + b"content-length: 3\r\n\r\nok"))
    answer = await post(connections, server, read_timeout_s=0.2)
    with pytest.raises(Silence):
        await content_of(answer)


async def test_a_slow_answer_that_goes_on_is_no_silence(serve, connections):
    async def script(exchange):
        await exchange.send(HEAD + b"content-length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.05)
            await exchange.send(b"x")

    answer = await post(connections, await serve(script), read_timeout_s=0.4)
    assert await content_of(answer) == b"x" * 10


async def test_an_answer_that_nobody_reads_waits_in_the_socket_and_is_no_silence(serve, connections):
    size = 64 << 20
    sent = 0

    async def script(exchange):
        nonlocal sent
        await exchange.send(HEAD + f"content-length: {size}\r\n\r\n".encode())
        while sent < size:
            await exchange.send(bytes(1 << 20))
            sent += 1 << 20

    answer = await post(connections, await serve(script), read_timeout_s=0.3)
    await asyncio.sleep(0.8)
    assert sent < size  # it had to wait for us
    received = 0
    while piece := await answer.readany():
        received += len(piece)
    assert received == size


async def test_a_long_body_arrives_whole(serve, connections):
    async def script(exchange):
        answer = str(zlib.crc32(exchange.body)).encode()
        await exchange.respond(answer)

    body = bytes(range(256)) * 40_000
    assert int(await content_of(await post(connections, await serve(script), body))) == zlib.crc32(body)


async def test_an_answer_that_comes_before_the_body_was_sent_counts(connections):
    read, gone = asyncio.Event(), asyncio.Event()

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno")
        await read.wait()
        writer.transport.abort()
        gone.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        answer = await connections.post(url, bytes(64 << 20), {}, connect_timeout_s=5, read_timeout_s=5)
        assert (answer.status, await content_of(answer)) == (413, b"no")
        read.set()
        await gone.wait()


async def test_the_request_is_what_the_url_says(serve, connections):
    server = await serve(says(WHOLE))
    host = server.base_url.removeprefix("http://").removesuffix("/v1")
    url = URL(f"http://someone:s%3Acret@{host}/a%20b/chat?x=1")
    await content_of(await connections.post(url, b"{}", {"x": "y"}, connect_timeout_s=5, read_timeout_s=5))
    exchange = server.exchanges[0]
    assert exchange.path == "/a%20b/chat?x=1"
    assert exchange.headers == {
        "host": host,
        "authorization": "Basic c29tZW9uZTpzOmNyZXQ=",
        "x": "y",
        "content-length": "2",
    }


async def test_no_header_makes_another(serve, connections):
    server = await serve(says(WHOLE))
    with pytest.raises(ValueError, match="line break"):
        await post(connections, server, traceparent="x\r\nevil: 1")
    assert await content_of(await post(connections, server)) == b"ok"


@pytest.mark.parametrize(("coding", "bits"), [("gzip", 31), ("deflate", 15)])
async def test_a_compressed_answer_is_read_a_piece_at_a_time(serve, connections, coding, bits):
    packer = zlib.compressobj(wbits=bits)
    packed = packer.compress(bytes(20 << 20)) + packer.flush()
    head = HEAD + f"content-encoding: {coding}\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    answer = await post(connections, await serve(says(head + packed)))
    sizes = []
    while piece := await answer.readany():
        sizes.append(len(piece))
    assert sum(sizes) == 20 << 20
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize("packed", [b"not packed at all", zlib.compress(b"x" * 1000)[:9]])
async def test_a_body_that_is_not_compressed_as_it_says(serve, connections, packed):
    head = HEAD + f"content-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    answer = await post(connections, await serve(says(head + packed)))
    with pytest.raises(ConnectionError):
        await content_of(answer)
