import pytest
from starlette.datastructures import Headers
from starlette.responses import Response

from router_gateway.api.quick import QuickHeaders, QuickRequest, WholeAnswer

RAW = [(b"x-a", b"1"), (b"x-a", b"2"), (b"authorization", b"Bearer \xe9"), (b"content-length", b"3")]


@pytest.mark.parametrize("name", ["x-a", "X-A", "authorization", "content-length", "missing"])
def test_headers_are_found_as_starlette_finds_them(name):
    ours, theirs = QuickHeaders({"type": "http", "headers": RAW}), Headers(raw=RAW)
    assert ours.get(name) == theirs.get(name)
    assert ours.get(name, "none") == theirs.get(name, "none")
    assert (name in ours) is (name in theirs)
    if name in theirs:
        assert ours[name] == theirs[name]
    else:
        with pytest.raises(KeyError):
            ours[name]
    assert ours == theirs
    assert ours.getlist("x-a") == ["1", "2"]


def test_a_request_reads_its_headers_once():
    request = QuickRequest({"type": "http", "headers": RAW})
    assert request.headers is request.headers
    assert request.headers["x-a"] == "1"


def test_a_whole_answer_is_what_starlette_would_send():
    headers = {"x-router-model": "a", "x-router-note": "\xe9"}
    ours = WholeAnswer(b"{}", status=201, headers=headers)
    theirs = Response(b"{}", status_code=201, headers=headers, media_type="application/json")
    assert (ours.status_code, ours.body, sorted(ours.raw_headers)) == (201, b"{}", sorted(theirs.raw_headers))
