"""`routing.verify`: checks that a request asks for, run on its answer and written down as feedback."""

import asyncio
import json
import threading

import pytest

from router_gateway.dispatch.echo import Echo
from router_gateway.grading.verifier import Verifier
from tests.api.building import EASY, endpoint, error_of
from tests.dispatch.conftest import DONE, ROLE, delta, good_stream, good_whole, sse, whole

HELLO = {"kind": "exact", "answer": "hello"}
LETTERS = {"kind": "regex", "pattern": "^[a-zA-Z]+$"}
NUMBER = {"kind": "number", "answer": 5}


def one(upstream):
    return [endpoint("small", base_url=upstream.base_url)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("verify", "quality", "comment"),
    [
        (HELLO, 1.0, "exact passed"),
        (NUMBER, 0.0, "number failed"),
        ([LETTERS, NUMBER], 0.5, "regex passed; number failed"),
    ],
)
async def test_the_result_is_feedback_of_the_decision(start, serve, stream, verify, quality, comment):
    upstream = await serve(good_stream if stream else good_whole)
    site = await start(endpoints=one(upstream), over_http=True)
    response = await site.chat(EASY, stream=stream, routing={"verify": verify})
    assert response.status_code == 200
    [feedback] = (await site.record_of(response)).feedback
    assert (feedback.source, feedback.quality, feedback.comment) == ("verifier", quality, comment)
    assert feedback.tenant == "default"
    [exchange] = upstream.exchanges
    assert "routing" not in exchange.json
    assert b"verify" not in exchange.body


async def test_an_explained_answer_names_the_feedback_to_come(site):
    response = await site.chat(EASY, routing={"verify": [HELLO, NUMBER], "explain": True})
    told = response.json()["routing"]["verify"]
    assert told["checks"] == ["exact", "number"]
    [feedback] = (await site.record_of(response)).feedback
    assert str(feedback.id) == told["feedback_id"]
    assert "verify" not in (await site.chat(EASY, routing={"explain": True})).json()["routing"]


@pytest.mark.parametrize(
    ("verify", "param"),
    [
        ({"kind": "exact"}, "routing.verify.answer"),
        ({"kind": "regex", "pattern": "(a"}, "routing.verify.pattern"),
        ([HELLO, {"kind": "vibes"}], "routing.verify[1].kind"),
        ({"kind": "json_schema", "schema": {"type": 1}}, "routing.verify.schema"),
        ("exact", "routing.verify"),
    ],
)
async def test_a_wrong_check_is_a_400_and_nothing_is_sent(site, verify, param):
    response = await site.chat(EASY, routing={"verify": verify})
    assert error_of(response, 400)["param"] == param
    assert site.echo.calls == []


async def test_only_the_first_choice_counts_and_a_call_of_a_tool_is_no_answer(start, serve):
    tool = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

    async def two_choices(exchange):
        answer = whole("hello")
        if "tool" in exchange.body.decode():
            answer["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": [tool]}
        answer["choices"].append({"index": 1, "message": {"role": "assistant", "content": "bye"}})
        await exchange.respond_json(answer)

    site = await start(endpoints=one(await serve(two_choices)), over_http=True)
    response = await site.chat(EASY, routing={"verify": HELLO})
    assert [f.quality for f in (await site.record_of(response)).feedback] == [1.0]
    response = await site.chat("use the tool", routing={"verify": HELLO})
    assert (await site.record_of(response)).feedback == ()
    assert site.grader.verifier.counts() == {("passed",): 1, ("undecided",): 1}


async def test_a_stream_that_breaks_off_is_not_checked(start, serve):
    async def breaks(exchange):
        await exchange.start_stream()
        await exchange.chunk(sse(ROLE, delta(content="hello")))
        exchange.drop()

    site = await start(endpoints=one(await serve(breaks)), over_http=True)
    response = await site.chat(EASY, stream=True, routing={"verify": HELLO})
    assert '"error"' in response.text
    assert (await site.record_of(response)).feedback == ()
    assert site.grader.verifier.counts() == {}


async def test_the_pieces_of_a_stream_are_one_text(start, serve):
    async def in_pieces(exchange):
        letters = sse(ROLE, *(delta(content=letter) for letter in "hel"))
        await exchange.stream(letters, sse(delta(content="lo"), delta("stop")) + DONE)

    site = await start(endpoints=one(await serve(in_pieces)), over_http=True)
    response = await site.chat(EASY, stream=True, routing={"verify": HELLO})
    assert [f.quality for f in (await site.record_of(response)).feedback] == [1.0]


async def test_checks_delay_no_answer_and_a_full_queue_drops_them(start):
    """Two checks are held up for as long as we like: the answers come all the same."""
    site = await start(echoes={"small": Echo(text="hello")})
    gate = threading.Event()

    def slowly(feedback):
        gate.wait(30)
        site.gateway.feedback(feedback)

    object.__setattr__(site.grader, "verifier", Verifier(slowly, waiting_max=2))
    responses = [await site.chat(EASY, routing={"verify": HELLO}) for _ in range(4)]
    assert [response.status_code for response in responses] == [200] * 4
    assert site.grader.verifier.counts() == {("dropped",): 2}
    gate.set()
    await asyncio.to_thread(site.grader.verifier.drain)
    assert [len((await site.record_of(response)).feedback) for response in responses] == [1, 1, 0, 0]


async def test_feedback_that_cannot_be_written_is_counted(start):
    site = await start(echoes={"small": Echo(text="hello")})

    def fails(feedback):
        raise OSError("the disk is gone")

    object.__setattr__(site.grader, "verifier", Verifier(fails))
    assert (await site.chat(EASY, routing={"verify": HELLO})).status_code == 200
    await asyncio.to_thread(site.grader.verifier.drain)
    assert site.grader.verifier.counts() == {("error",): 1}


async def test_without_a_check_nobody_listens(site):
    response = await site.chat(EASY)
    assert (await site.record_of(response)).feedback == ()
    assert site.grader.verifier.counts() == {}


async def test_deciding_alone_takes_checks_and_runs_none(site):
    body = {"messages": [{"role": "user", "content": EASY}], "routing": {"verify": HELLO}}
    assert (await site.client.post("/v1/routing/decide", json=body)).status_code == 200
    assert site.grader.verifier.counts() == {}


@pytest.mark.parametrize(
    "verify",
    [
        r'{"kind": "exact", "\ud800": 1, "answer": "a"}',
        r'{"kind": "regex", "pattern": "\ud800"}',
        r'{"kind": "json_schema", "schema": {"type": "\ud800"}}',
        r'{"kind": "json_schema", "schema": {"items": {"pattern": "\udfff"}}}',
        r'{"kind": "\ud800"}',
    ],
)
async def test_what_no_text_can_hold_is_a_400_too(site, verify):
    body = f'{{"model": "auto", "messages": [{{"role": "user", "content": "x"}}], "routing": {{"verify": {verify}}}}}'
    assert error_of(await site.post(body.encode()), 400)["param"].startswith("routing.verify.")


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "regex", "pattern": "^a"},
        {"kind": "json_schema", "schema": {"pattern": "^a", "uniqueItems": True}},
        {"kind": "exact", "answer": "\ud800"},
        {"kind": "number", "answer": 1},
        {"kind": "choice", "answer": "A"},
    ],
)
async def test_answers_that_no_text_can_hold_are_checked_all_the_same(start, check):
    site = await start(echoes={name: Echo(text='"a\ud800"') for name in ("small", "mid", "large")})
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": EASY}], "routing": {"verify": check}})
    response = await site.post(body.encode())
    assert response.status_code == 200
    await asyncio.to_thread(site.grader.verifier.drain)
    assert not site.grader.verifier.counts().keys() & {("error",)}
