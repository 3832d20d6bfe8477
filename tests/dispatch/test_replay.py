import asyncio
import socket
import threading
import time

import httpx
import openai
import pytest
import uvicorn

from router_gateway.core.types import Usage
from router_gateway.dispatch.replay import Recording, RecordingTable, create_replay_app, prompt_digest
from tests.dispatch.conftest import call, collect, endpoint, text_of

PROMPT = "How many moons has Jupiter?"
RECORDING = Recording(text="It has ninety-five known moons.", tokens_input=12, tokens_output=9, latency_ms=400.0)


@pytest.fixture
def hit_log(tmp_path):
    return tmp_path / "hits"


@pytest.fixture
def replay(hit_log):
    """`replay(speed)`: the address of a replay server in its own thread."""
    running = []

    def start(speed=0.0):
        table = RecordingTable(["small", "large"])
        table.add("small", PROMPT, RECORDING)
        app = create_replay_app(table, hit_log=hit_log, speed=speed)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    yield start
    for server, thread, listener in running:
        server.should_exit = True
        thread.join(10)
        listener.close()


def ask(url, **members):
    payload = {"model": "small", "messages": [{"role": "user", "content": PROMPT}], **members}
    return httpx.post(f"{url}/chat/completions", json=payload, headers={"x-client-request-id": "q-1"})


def test_a_recorded_outcome_with_its_marker_and_tokens(replay, hit_log):
    answer = ask(replay()).json()
    assert answer["choices"][0]["message"]["content"] == "[replay of small] It has ninety-five known moons."
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == (12, 9)
    assert hit_log.read_text() == "q-1\n"


def test_an_unknown_prompt_gets_a_marked_placeholder(replay):
    answer = ask(replay(), messages=[{"role": "user", "content": "Something new?"}]).json()
    assert answer["choices"][0]["message"]["content"].startswith("[replay of small] No outcome")
    assert answer["usage"]["prompt_tokens"] > 4
    assert answer["usage"]["completion_tokens"] > 10


def test_the_newest_user_text_is_looked_up_in_parts_too(replay):
    turns = [
        {"role": "user", "content": "before"},
        {"role": "user", "content": [{"type": "text", "text": f" {PROMPT}\n"}]},
        {"role": "assistant", "content": "hm"},
    ]
    assert ask(replay(), messages=turns).json()["usage"]["completion_tokens"] == 9


def test_the_official_client_reads_both_forms(replay):
    client = openai.OpenAI(base_url=replay(), api_key="none")
    messages = [{"role": "user", "content": PROMPT}]
    with client:
        assert [model.id for model in client.models.list()] == ["small", "large"]
        whole = client.chat.completions.create(model="small", messages=messages)
        stream = client.chat.completions.create(
            model="small", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        == whole.choices[0].message.content
    )
    assert chunks[-1].usage.completion_tokens == 9
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_usage_is_streamed_only_on_request(replay):
    assert '"usage"' not in ask(replay(), stream=True).text


@pytest.mark.parametrize(
    ("members", "status", "param", "code"),
    [
        ({"model": "huge"}, 404, "model", "model_not_found"),
        ({"model": 7}, 400, "model", "invalid_request"),
        ({"messages": []}, 400, "messages", "invalid_request"),
    ],
)
def test_errors_are_openais(replay, members, status, param, code):
    answer = ask(replay(), **members)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (set(error), error["param"], error["code"]) == ({"message", "type", "param", "code"}, param, code)


def test_a_body_that_is_no_json(replay, hit_log):
    answer = httpx.post(f"{replay()}/chat/completions", content=b"{")
    assert answer.status_code == 400
    assert hit_log.read_text() == "-\n"


@pytest.mark.parametrize("stream", [False, True])
def test_pacing_takes_the_recorded_time(replay, stream):
    url = replay(0.5)
    started = time.monotonic()
    ask(url, stream=stream)
    assert time.monotonic() - started >= 0.2


def test_speed_is_checked():
    with pytest.raises(ValueError, match="speed"):
        create_replay_app(RecordingTable([]), speed=-1)


def test_digests_ignore_outer_space_and_take_any_text():
    assert prompt_digest(" a\n") == prompt_digest("a") != prompt_digest("b")
    assert prompt_digest("\ud800")


async def test_the_dispatcher_reads_a_replayed_stream(replay, dispatch):
    url = await asyncio.to_thread(replay)
    attempts = []
    sent = call(stream=True, messages=[{"role": "user", "content": PROMPT}])
    answer = await dispatch(endpoint(url, model="small")).send(["a"], sent, attempts.append)
    assert text_of(await collect(answer)) == "[replay of small] It has ninety-five known moons."
    assert attempts[0].usage == Usage(tokens_input=12, tokens_output=9)
