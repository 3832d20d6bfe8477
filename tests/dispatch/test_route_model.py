"""The route model over real sockets: what it is asked, what is made of its answer, and that nobody waits for it."""

import asyncio
import json
import logging

import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.core.ids import uuid7
from router_gateway.core.route_question import OTHER, RouteQuestion
from router_gateway.dispatch.route_model import RouteModel, named
from tests.dispatch.conftest import PROMPT, SECRET

ROUTES = {"law": "contracts and clauses", "sums": "arithmetic"}
TALK = [
    {"role": "user", "content": PROMPT},
    {"role": "assistant", "content": "Here."},
    {"role": "user", "content": "{and} more"},
]


def question(base_url, **changes):
    told = {"model": "arch-router", "api_key_env": "ROUTE_KEY", "timeout_ms": 5_000.0, "descriptions": ROUTES}
    return RouteQuestion(base_url=base_url, **{**told, **changes})


def saying(text):
    async def handle(exchange):
        await exchange.respond_json({"choices": [{"message": {"role": "assistant", "content": text}}]})

    return handle


@pytest.fixture
async def asked(serve):
    """`await asked(handler)`: the server, the route model before it, and its answer about TALK."""
    models = []

    async def ask(handler, **changes):
        server = await serve(handler)
        model = RouteModel.hosted(question(server.base_url, **changes), {"ROUTE_KEY": SECRET})
        models.append(model)
        return server, model, await model.route(uuid7(), TALK)

    yield ask
    for model in models:
        await model.aclose()


async def test_the_model_is_shown_the_routes_and_the_conversation(asked):
    server, _, route = await asked(saying('{"route": "law"}'))
    assert route == "law"
    (exchange,) = server.exchanges
    assert exchange.path.endswith("/chat/completions")
    assert exchange.headers["authorization"] == f"Bearer {SECRET}"
    body = exchange.json
    assert (body["model"], body["temperature"]) == ("arch-router", 0)
    assert not body.get("stream")
    text = body["messages"][0]["content"]
    routes, talk = (text.split(f"<{tag}>\n")[1].split(f"\n</{tag}>")[0] for tag in ("routes", "conversation"))
    assert json.loads(routes) == [{"name": name, "description": said} for name, said in ROUTES.items()]
    assert json.loads(talk) == TALK


@pytest.mark.parametrize(
    ("answer", "route"),
    [
        ('{"route": "sums"}', "sums"),
        ("{'route': 'sums'}", "sums"),
        ('Sure!\n```json\n{ "route" : "sums" }\n```', "sums"),
        ('{"route": " sums "}', "sums"),
        ('{"route": "other"}', OTHER),
        ('{"route": ""}', OTHER),
        ('{"route": "cooking"}', None),
        ('{"route": null}', None),
        ("sums", None),
        ("", None),
    ],
)
def test_what_is_made_of_an_answer(answer, route):
    assert named(answer, ROUTES) == route


async def _error(exchange):
    await exchange.respond_json({"error": {"message": PROMPT}}, status=500)


async def _refusal(exchange):
    await exchange.respond_json({"error": {"message": PROMPT}}, status=400)


async def _no_completion(exchange):
    await exchange.respond_json({"choices": []})


async def _no_json(exchange):
    await exchange.respond(b"{")


async def _long(exchange):
    await exchange.respond_json({"choices": [{"message": {"content": '{"route": "law"}' + " " * 100_000}}]})


async def _drop(exchange):
    exchange.drop()


@pytest.mark.parametrize("handler", [_error, _refusal, _no_completion, _no_json, _long, _drop])
async def test_whatever_it_does_nothing_is_raised_and_nothing_quoted(asked, caplog, handler):
    with caplog.at_level(logging.DEBUG, logger="router_gateway"):
        _, _, route = await asked(handler)
    assert route is None
    assert "did not answer" in caplog.text
    assert PROMPT not in caplog.text
    assert SECRET not in caplog.text


async def test_a_silent_model_is_given_up_and_then_left_alone(asked):
    async def silent(exchange):
        await asyncio.sleep(60)

    server, model, route = await asked(silent, timeout_ms=500.0)
    assert route is None
    for _ in range(10):
        assert await model.route(uuid7(), TALK) is None
    assert len(server.exchanges) == 5, "after five failures in a row nobody waits for it"


async def test_a_client_that_goes_away_says_nothing_about_the_model(serve):
    arrived = asyncio.Event()

    async def slow(exchange):
        arrived.set()
        await asyncio.sleep(60)

    server = await serve(slow)
    model = RouteModel.hosted(question(server.base_url, timeout_ms=60_000.0), {"ROUTE_KEY": SECRET})
    waiting = asyncio.ensure_future(model.route(uuid7(), TALK))
    await arrived.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert model._circuit._failures == 0
    await model.aclose()


def test_a_key_that_is_not_set_is_told():
    with pytest.raises(ConfigError, match="ROUTE_KEY is not set"):
        RouteModel.hosted(question("http://localhost/v1"), {})
