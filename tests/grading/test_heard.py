"""Hearing an answer as it passes: whole, streamed, broken off, too long."""

import json

import pytest

from router_gateway.dispatch.stream import DONE
from router_gateway.grading import heard
from router_gateway.grading.heard import Listener
from tests.dispatch.conftest import ROLE, delta, sse, whole


class Ear:
    def __init__(self):
        self.said = []

    def __call__(self, said):
        self.said.append(said)


def events(*payloads):
    return [b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads]


def test_a_whole_answer_is_its_first_choice():
    ear, answer = Ear(), whole("hello")
    answer["choices"].append({"index": 1, "message": {"content": "bye"}})
    Listener(ear).whole(answer, 100)
    [said] = ear.said
    assert (said.text(), said.bytes_held) == ("hello", 100)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": "", "tool_calls": [{}]}, None),
        ({"content": "see", "tool_calls": [{}]}, "see"),
        ({"content": None, "function_call": {"name": "f"}}, None),
        ({"content": None}, ""),
        ("nonsense", ""),
    ],
)
def test_what_counts_as_words(message, text):
    assert heard.text_of({"choices": [{"message": message}]}) == text


def test_odd_payloads_hold_no_words():
    assert heard.text_of({}) == ""
    assert heard.text_of({"choices": "x"}) == ""
    assert heard.streamed_text_of([b"data: {\n\n", b"data: []\n\n"]) == ""


def test_a_stream_is_whole_with_done_and_only_then():
    ear = Ear()
    listener = Listener(ear)
    listener.events(events(ROLE, delta(content="he")))
    assert ear.said == []
    listener.events([*events(delta(content="llo"), delta("stop")), DONE])
    [said] = ear.said
    assert said.text() == "hello"
    assert said.bytes_held == len(sse(ROLE, delta(content="he"), delta(content="llo"), delta("stop"))) + len(DONE)


def test_what_is_too_long_is_forgotten(monkeypatch):
    monkeypatch.setattr(heard, "_BYTES_MAX", 300)
    ear = Ear()
    listener = Listener(ear)
    for _ in range(10):
        listener.events(events(delta(content="x" * 50)))
    listener.events([DONE])
    listener.whole(whole("x"), 301)
    assert ear.said == []
    assert listener._events == []


def test_who_cannot_take_the_answer_spoils_nothing():
    def fails(said):
        raise RuntimeError("no room")

    Listener(fails).whole(whole("x"), 10)
