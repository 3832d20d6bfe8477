import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import UpstreamError, UpstreamRateLimited
from router_gateway.core.types import Usage
from router_gateway.dispatch.stream import EventSplitter, StreamTap, data_of

DONE = b"data: [DONE]\n\n"


def split(raw: bytes, cuts=(), **options) -> list[bytes]:
    splitter = EventSplitter(source="a", **options)
    edges = [0, *sorted(cuts), len(raw)]
    events = [event for i, j in itertools.pairwise(edges) for event in splitter.feed(raw[i:j])]
    return events + splitter.close()


EVENTS = [b'data: {"a": "\xe2\x82\xac"}', b"event: x\ndata: two\ndata: lines", b"data: [DONE]"]


@given(st.data(), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans())
def test_any_chunking_and_line_end_gives_the_same_events(data, line_end, bom):
    blocks = [EVENTS[0], b": a comment", EVENTS[1], b"", EVENTS[2]]
    raw = b"".join(block + b"\n\n" for block in blocks).replace(b"\n", line_end)
    raw = (b"\xef\xbb\xbf" if bom else b"") + raw
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=12))
    assert split(raw, cuts) == [event + b"\n\n" for event in EVENTS]


def test_byte_by_byte():
    raw = b"\xef\xbb\xbf" + b"".join(event + b"\r\n\r\n" for event in EVENTS)
    assert split(raw, range(len(raw))) == [event + b"\n\n" for event in EVENTS]


def test_a_last_event_without_its_blank_line_is_kept():
    assert split(b"data: 1\n\ndata: [DONE]\n") == [b"data: 1\n\n", DONE]
    assert split(b"data: 1\n\n: ping") == [b"data: 1\n\n"]


def test_an_event_is_bounded_whether_it_comes_whole_or_in_pieces():
    endless = b"data: " + b"x" * 1000
    for cuts in ((), range(0, 1000, 10)):
        with pytest.raises(UpstreamError, match="exceeds 500 bytes"):
            split(endless, cuts, event_bytes_max=500)
    assert len(split(b"data: 12345\n\n" * 1000, event_bytes_max=500)) == 1000


def test_data_lines_are_joined():
    assert data_of(b"event: x\ndata: two\ndata:  lines\n\n") == b"two\n lines"
    assert data_of(b'data:{"a":1}\n\n') == b'{"a":1}'


def event(payload) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def chunk(finish_reason=None, index=0, **delta):
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish_reason}]})


def tap(**options):
    return StreamTap(source="a", **{"wants_usage": False, **options})


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "x"},
        {"tool_calls": [{"index": 0}]},
        {"refusal": "no"},
        {"reasoning_content": "hm"},
        {"role": "assistant", "content": " "},
    ],
)
def test_content_is_anything_beyond_a_role(delta):
    reader = tap()
    reader.feed(chunk(role="assistant", content=""))
    reader.feed(event({"choices": [], "prompt_filter_results": []}))
    reader.feed(chunk(role="assistant", content=None, tool_calls=[]))
    assert not reader.has_content
    reader.feed(chunk(**delta))
    assert reader.has_content


def test_a_finish_without_text_is_an_answer():
    reader = tap()
    reader.feed(chunk("stop"))
    assert reader.has_content
    assert reader.close() == DONE


@pytest.mark.parametrize("wanted", [True, False])
def test_the_usage_chunk_reaches_only_who_asked(wanted):
    reader = tap(wants_usage=wanted)
    reader.feed(chunk(content="x"))
    last = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    assert reader.feed(last) == (last if wanted else None)
    assert reader.usage == Usage(tokens_input=3, tokens_output=2)


def test_usage_on_a_chunk_with_choices_stays():
    both = event({"choices": [{"index": 0, "delta": {"content": "x"}}], "usage": {"prompt_tokens": 3}})
    reader = tap()
    assert reader.feed(both) == both
    assert reader.usage == Usage(tokens_input=3)


def test_text_that_looks_like_usage_is_text():
    reader = tap()
    tricky = chunk(content='{"choices":[],"usage":{"prompt_tokens":1}} "error":{"code":"x"}')
    assert reader.feed(tricky) == tricky
    assert reader.feed(tricky) == tricky
    assert reader.usage is None


def test_an_in_band_error_fails_before_and_after_content():
    with pytest.raises(UpstreamError, match=r"\(server_error\)") as caught:
        tap().feed(event({"error": {"message": "about your secret", "code": "server_error"}}))
    assert "secret" not in str(caught.value)
    reader = tap()
    reader.feed(chunk(content="x"))
    with pytest.raises(UpstreamRateLimited):
        reader.feed(event({"error": {"message": "slow down", "code": 429}}))
    with pytest.raises(UpstreamError):
        tap().feed(event({"object": "error", "message": "old vllm", "code": 500}))


@pytest.mark.parametrize("data", [b"data: <html>\n\n", b"data: [1]\n\n", b"data: " + b"[" * 100_000 + b"\n\n"])
def test_what_is_no_chunk_fails(data):
    with pytest.raises(UpstreamError):
        tap().feed(data)


def test_an_end_without_done_needs_every_choice_finished():
    reader = tap(choices=2)
    reader.feed(chunk(content="x"))
    reader.feed(chunk("stop", index=0))
    with pytest.raises(UpstreamError, match="broke off"):
        reader.close()
    reader.feed(chunk("stop", index=1))
    assert reader.close() == DONE
    assert reader.close() is None


def test_streamed_text_is_counted_and_extrapolated():
    def count(chunks):
        reader = tap()
        for _ in range(chunks):
            reader.feed(chunk(content=" word"))
        return reader.tokens_output_estimate()

    assert count(0) == 0
    assert count(50) == 50
    assert count(5_000) == pytest.approx(5_000, rel=0.02)


def test_arguments_of_tool_calls_are_counted():
    reader = tap()
    function = {"name": "moons", "arguments": '{"of": "Jupiter"}'}
    reader.feed(chunk(tool_calls=[{"index": 0, "function": function}]))
    assert reader.tokens_output_estimate() >= 5


PASSING = [
    chunk(role="assistant", content=""),
    chunk(content="word"),
    chunk(content='a "usage": 5 and [DONE] in words'),
    b'data: {"choices":\ndata: [{"index":0,"delta":{"content":"lines"}}],\ndata: "usage": {"prompt_tokens": 7}}\n\n',
    chunk("stop"),
    event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
    event({"choices": [], "usage": None}),
    event({"error": {"message": "no", "code": "server_error"}}),
    b"event: x\ndata: {}\n\n",
    DONE,
]


@given(st.lists(st.lists(st.sampled_from(PASSING), min_size=1, max_size=8), max_size=6))
def test_events_that_are_skimmed_count_as_if_each_was_read(batches):
    def read(skims):
        reader, passed, failure = tap(), [], None
        try:
            for batch in batches:
                unread = reader.skim(batch) if skims else 0
                passed += batch[:unread]
                for each in batch[unread:]:
                    if not reader.done and (kept := reader.feed(each)):
                        passed.append(kept)
        except UpstreamError as error:
            failure = str(error)
        told = reader.usage, reader.has_content, reader.done, reader.tokens_output_estimate()
        return passed, failure, told

    assert read(True) == read(False)


def test_a_plain_batch_is_skimmed_whole_and_a_noteworthy_one_to_its_first_word_that_matters():
    reader, plain = tap(), [chunk(content="word")] * 3
    assert reader.skim(plain) == 0  # no content yet
    reader.feed(plain[0])
    assert reader.skim(plain) == 3
    assert reader.skim([*plain, chunk("stop"), *plain]) == 3
    assert reader.skim([*plain, DONE]) == 3
