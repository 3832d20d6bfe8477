"""The benchmark's own instruments: what its load generator counts, what its upstream says, what its page holds."""

import http.client
import json
import shutil
import socket
from contextlib import closing

import pytest

pytestmark = [
    pytest.mark.usefixtures("performance"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
]


@pytest.fixture
def upstream_port():
    from performance import machine, server

    with server.upstream(machine.two_cores()) as port:
        yield port


@pytest.fixture
def send(upstream_port, tmp_path):
    """One run of the load generator against the upstream itself."""
    from performance import load, machine, wire

    def run(*, stream: bool, connections: int = 3, **how):
        texts = [f"Text number {i} — with “signs”." for i in range(10)]
        path = wire.write_requests(
            tmp_path / "requests", texts, port=upstream_port, model="m", headers={"x-a": "b"}, stream=stream
        )
        return load.run(path, port=upstream_port, connections=connections, cores=machine.two_cores(), **how)

    return run


def asked(port: int, method: str, body: bytes = b"") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, "/v1/chat/completions", body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_upstream_answers_as_a_provider_does(upstream_port):
    from performance import wire

    status, answer = asked(upstream_port, "POST", wire.body("m", "Hello"))
    assert status == 200
    assert 500 < len(answer) < 1000
    assert json.loads(answer)["usage"]["total_tokens"] == 150
    _, stream = asked(upstream_port, "POST", wire.body("m", "Hello", stream=True))
    events = [line.removeprefix("data: ") for line in stream.decode().split("\n\n") if line]
    assert len(events) == 52
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks[:50]).split()[-1] == "word49"
    assert chunks[50]["usage"]["completion_tokens"] == 50


def test_the_upstream_takes_requests_in_a_row_and_cut_anywhere(upstream_port):
    from performance import wire

    whole = wire.request(upstream_port, wire.body("m", "Hello"), {})
    with socket.create_connection(("127.0.0.1", upstream_port), timeout=10) as connection:
        connection.sendall(whole + whole + whole[:100])
        connection.sendall(whole[100:])
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 3 or not received.endswith(b"}"):
            received += connection.recv(65536)
    assert json.loads(asked(upstream_port, "GET")[1]) == {"completions": 3}


def test_a_request_without_a_length_is_refused(upstream_port):
    with socket.create_connection(("127.0.0.1", upstream_port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize("stream", [False, True])
def test_the_load_generator_counts_what_the_upstream_served(send, upstream_port, stream):
    measured = send(stream=stream, seconds=30, requests_max=200, warmup_requests=20)
    assert measured.requests >= 200
    assert measured.warm >= 20
    served = json.loads(asked(upstream_port, "GET")[1])["completions"]
    assert measured.answered <= served <= measured.answered + 3  # the last of each connection may not be whole
    if stream:
        assert abs(measured.events - 52 * measured.requests) <= 52 * 3
    else:
        assert measured.events == 0
    assert 0 < measured.min_us <= measured.p50_us <= measured.p90_us <= measured.p99_us


def test_texts_go_on_where_the_last_run_stopped(send):
    first = send(stream=False, connections=1, seconds=30, requests_max=13)
    assert first.next == (first.answered + 1) % 10  # one more was under way
    assert send(stream=False, connections=1, seconds=30, requests_max=2, first=first.next).requests >= 2


def test_other_answers_than_200_do_not_count(upstream_port, tmp_path):
    from performance import load, machine
    from performance.problems import BenchmarkError

    request = b"POST / HTTP/1.1\r\n\r\n"
    (tmp_path / "requests").write_bytes(b"%d\n%s" % (len(request), request))
    with pytest.raises(BenchmarkError):
        load.run(tmp_path / "requests", port=upstream_port, connections=1, cores=machine.two_cores(), seconds=0.2)
