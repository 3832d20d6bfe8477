"""The client's pool: connections that are kept, waited for, given up and closed, under both event loops that serve."""

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from router_gateway.dispatch import connections as client
from router_gateway.dispatch.connections import Connections, NotConnected, NotConnectedInTime
from router_gateway.dispatch.http1 import BrokenConnection, Silence
from tests.dispatch.spoken import HEAD, WHOLE, content_of, post, says


async def test_what_comes_on_an_idle_connection_is_never_taken_for_an_answer(serve, connections):
    async def script(exchange):
        await exchange.send(WHOLE)
        await asyncio.sleep(0.05)
        await exchange.send(HEAD + b"content-length: 5\r\n\r\nwrong")

    server = await serve(script)
    await content_of(await post(connections, server))
    await asyncio.sleep(0.15)
    assert await content_of(await post(connections, server)) == b"ok"
    assert server.connections == 2


async def test_an_idle_connection_that_the_server_closed_fails_nobody(serve, connections):
    server = await serve(says(WHOLE, close=True))
    for _ in range(3):
        assert await content_of(await post(connections, server)) == b"ok"
        await server.exchanges[-1].writer.wait_closed()  # and our loop has not heard of it
    assert server.connections == len(server.exchanges) == 3


async def test_a_request_is_not_sent_again_when_its_connection_breaks(serve, connections):
    async def script(exchange):
        if len(server.exchanges) == 2:
            exchange.drop()
        else:
            await exchange.send(WHOLE)

    server = await serve(script)
    await content_of(await post(connections, server))
    with pytest.raises(BrokenConnection):
        await post(connections, server)
    assert len(server.exchanges) == 2


async def test_cancelling_hangs_up_and_closing_twice_is_harmless(serve, connections):
    server = await serve(says())
    posting = asyncio.ensure_future(post(connections, server))
    while not server.exchanges:
        await asyncio.sleep(0.01)
    posting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await posting
    await asyncio.wait_for(server.hung_up.wait(), 5)
    server = await serve(says(HEAD + b"content-length: 3\r\n\r\nok"))
    answer = await post(connections, server)
    for _ in range(2):
        answer.close()
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_whoever_finds_all_connections_in_use_waits_as_for_a_new_one(serve, connections, monkeypatch):
    monkeypatch.setattr(connections, "_slots", asyncio.Semaphore(1))
    server = await serve(says(HEAD + b"content-length: 2\r\n\r\no", b"k"))
    first = await post(connections, server)
    with pytest.raises(NotConnectedInTime):
        await post(connections, server, connect_timeout_s=0.001)
    waiting = asyncio.ensure_future(post(connections, server))
    assert await content_of(first) == b"ok"
    assert await content_of(await waiting) == b"ok"
    assert server.connections == 1


async def test_idle_connections_are_given_up_in_time(serve, connections, monkeypatch):
    monkeypatch.setattr(client, "_KEEPALIVE_S", 0.05)
    server = await serve(says(WHOLE))
    await content_of(await post(connections, server))
    await asyncio.wait_for(server.hung_up.wait(), 5)


async def test_a_closed_client_takes_no_more(serve):
    connections = Connections()
    server = await serve(says(WHOLE))
    await content_of(await post(connections, server))
    await connections.aclose()
    await connections.aclose()
    await asyncio.wait_for(server.hung_up.wait(), 5)
    with pytest.raises(NotConnected):
        await post(connections, server)


async def test_tls_with_a_certificate_that_is_trusted_and_one_that_is_not(connections, tmp_path, monkeypatch):
    certificate = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    async def answer(reader, writer):
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n{}"):
                writer.write(WHOLE)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = URL(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    with pytest.raises(NotConnected, match="SSLCertVerificationError"):
        await connections.post(url, b"{}", {}, connect_timeout_s=5, read_timeout_s=5)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    trusting = Connections()
    for _ in range(2):
        assert await content_of(await trusting.post(url, b"{}", {}, connect_timeout_s=5, read_timeout_s=5)) == b"ok"
    await trusting.aclose()
    server.close()


def _certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "both.pem"
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path


def test_the_loop_that_serves_behaves_as_the_one_that_tests():
    async def connection(reader, writer):
        answers = [WHOLE, HEAD + b"\r\nok", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", b""]
        while head := await reader.readuntil(b"\r\n\r\n"):
            kind = int(head.split()[1].rsplit(b"/")[-1])
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.write(answers[kind])
            if kind in (1, 2):
                writer.close()
                return

    async def scenario():
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        connections = Connections()

        async def ask(kind, body=b"{}"):
            url = URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{kind}")
            answer = await connections.post(url, body, {}, connect_timeout_s=5, read_timeout_s=0.3)
            return await content_of(answer)

        assert await ask(0) == await ask(0, bytes(8 << 20)) == await ask(1) == await ask(0) == b"ok"
        with pytest.raises(BrokenConnection):
            await ask(2)
        with pytest.raises(Silence):
            await ask(3)
        assert await ask(0) == b"ok"
        await connections.aclose()
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
