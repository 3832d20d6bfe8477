"""A policy that reads conversations gets what was said before; the others pay nothing for it."""

import json

import pytest

from router_gateway.core.errors import BadParameters
from router_gateway.core.protocols import AsksRouteModel
from router_gateway.core.route_question import RouteQuestion
from router_gateway.core.types import NamedPolicy, Queries
from router_gateway.dispatch.route_model import RouteModel
from router_gateway.embedding.conversation import earlier_turns
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.registry import create, parameters
from tests.api.building import experience

LAW = "Review the indemnity clause and the liability clause of this contract."
SUMS = "What is the sum of two and three and the product of four?"
VAGUE = "And what about the next clause, the sum of it?"


def user(content):
    return {"role": "user", "content": content}


def assistant(content="Here you are."):
    return {"role": "assistant", "content": content}


ROUTES = [
    {"name": "law", "description": LAW, "examples": [f"{LAW} Please."], "endpoints": ["large"]},
    {"name": "sums", "description": SUMS, "examples": [f"{SUMS} Please."], "endpoints": ["small"]},
]


class Noting:
    """An encoder that keeps what it was asked to embed."""

    def __init__(self):
        self.encoder, self.texts = HashingEmbedder(), []
        self.space, self.width = self.encoder.space, self.encoder.width

    def embed(self, texts):
        self.texts += texts
        return self.encoder.embed(texts)


@pytest.fixture
def encoder():
    return Noting()


@pytest.fixture
async def site(start, encoder):
    """The routes have seen no outcome, so their rankings decide."""
    learned = experience(encoder)
    routes = create("routes", {"routes": ROUTES, "similarity_min": 0.1, "margin_min": 0.0})
    texts = routes.texts
    tokens = learned.queries.tokens_input[: len(texts)]
    routes.learn_texts(Queries(text=texts, embedding=encoder.embed(texts), tokens_input=tokens, space=encoder.space))
    policies = {
        "routes": NamedPolicy(name="routes", version=1, policy=routes.fit(learned.select(slice(0)))),
        "knn": NamedPolicy(name="knn", version=1, policy=create("knn", {"k": 3}).fit(learned)),
    }
    encoder.texts.clear()
    return await start(policies=policies, embedder=encoder)


def qualities(response):
    return {each["endpoint"]: each["quality"] for each in response.json()["candidates"]}


async def decide(site, *messages, model="auto"):
    body = {"model": model, "messages": list(messages)}
    return qualities(await site.client.post("/v1/routing/decide", json=body))


async def test_what_was_said_before_decides_where_the_newest_turn_is_vague(site):
    after_law = await decide(site, user(LAW), assistant(), user(VAGUE))
    after_sums = await decide(site, user(SUMS), assistant(), user(VAGUE))
    assert after_law["large"] > after_law["small"]
    assert after_sums["small"] > after_law["small"]


async def test_a_change_of_subject_is_followed(site):
    changed = await decide(site, user(LAW), assistant(), user(SUMS), assistant(), user(SUMS))
    assert changed["small"] > changed["large"]


async def test_only_a_policy_that_reads_earlier_turns_has_them_embedded(site, encoder):
    talk = [user(LAW), assistant(), user(SUMS), assistant(), user(VAGUE)]
    await decide(site, *talk, model="knn")
    assert encoder.texts == [VAGUE]
    encoder.texts.clear()
    await decide(site, *talk, model="routes")
    assert sorted(encoder.texts) == sorted([LAW, SUMS, VAGUE])


async def test_a_long_conversation_is_read_from_its_end(site, encoder):
    talk = [message for n in range(40) for message in (user(f"{SUMS} For the {n}th time!"), assistant())]
    await decide(site, *talk, user(VAGUE))
    assert len(encoder.texts) == site.live["routes"].current().policy.turns_max == 6


class TestEarlierTurns:
    def test_oldest_first_without_the_newest(self):
        messages = [user("one " * 9), assistant(), user("two " * 9), assistant(), user("three " * 9)]
        assert earlier_turns(messages, turns_max=5) == (("one " * 9).strip(), ("two " * 9).strip())
        assert earlier_turns(messages, turns_max=1) == (("two " * 9).strip(),)

    def test_each_is_the_text_that_was_embedded_in_its_day(self):
        messages = [user("Explain the indemnity clause"), assistant(), user("go on"), assistant(), user(SUMS)]
        assert earlier_turns(messages, turns_max=5) == (
            "Explain the indemnity clause",
            "Explain the indemnity clause\ngo on",
        )

    def test_tool_loops_and_messages_in_a_row_are_one_turn(self):
        messages = [
            {"role": "system", "content": "Be brief."},
            user("What is the weather like in Paris?"),
            assistant(None),
            {"role": "tool", "content": "Rain"},
            assistant("It rains."),
            user("Now something else entirely:"),
            user("what is the capital of France?"),
        ]
        assert earlier_turns(messages, turns_max=5) == ("What is the weather like in Paris?",)

    @pytest.mark.parametrize(
        "messages", [[], [user(SUMS)], [assistant(), user(SUMS)], [None], [user(None)], "text", None]
    )
    def test_nothing_said_before(self, messages):
        assert earlier_turns(messages, turns_max=5) == ()


class TestHostedModel:
    """The route that a language model names, over real sockets."""

    @pytest.fixture
    async def asked(self, site, serve):
        """`await asked(answer)`: from now on the route model says so; returns the exchanges with it."""
        models = []

        async def ask(answer):
            async def handle(exchange):
                await exchange.respond_json({"choices": [{"message": {"content": answer}}]})

            server = await serve(handle)
            question = RouteQuestion(
                base_url=server.base_url,
                model="arch-router",
                api_key_env=None,
                timeout_ms=5_000.0,
                descriptions={route["name"]: route["description"] for route in ROUTES},
            )
            models.append(RouteModel.hosted(question, {}))
            site.gateway.route_models = {"routes": models[-1]}
            return server.exchanges

        yield ask
        for model in models:
            await model.aclose()

    async def test_its_word_counts_for_more_than_the_vectors(self, site, asked):
        alone = await decide(site, user(SUMS))
        assert alone["small"] > alone["large"]
        await asked('{"route": "law"}')
        named = await decide(site, user(SUMS))
        assert named["large"] > named["small"]
        chat = await site.chat(SUMS, routing={"worth_usd": 1e6})
        assert chat.headers["x-router-model"] == "large"

    async def test_other_is_the_mean_of_all(self, site, asked):
        await asked('{"route": "other"}')
        other = await decide(site, user(SUMS))
        assert other["small"] == other["large"]

    @pytest.mark.parametrize("answer", ['{"route": "cooking"}', "I would rather not."])
    async def test_an_answer_that_is_none_leaves_it_to_the_vectors(self, site, asked, answer):
        alone = await decide(site, user(SUMS))
        exchanges = await asked(answer)
        assert await decide(site, user(SUMS)) == alone
        assert len(exchanges) == 1

    async def test_it_is_asked_only_by_its_policy_and_shown_nothing_that_must_not_leave(self, site, asked):
        exchanges = await asked('{"route": "law"}')
        await decide(site, user(SUMS), model="knn")
        await site.chat(SUMS, model="large")
        await site.chat(SUMS, routing={"data_collection": "deny"})
        await site.chat(SUMS, routing={"region": "eu"})
        assert exchanges == []

    async def test_both_sides_are_shown_and_nobody_else(self, site, asked):
        exchanges = await asked('{"route": "law"}')
        system, long = {"role": "system", "content": "A secret."}, user("long " * 5_000)
        await decide(site, system, long, assistant("Yes."), user(VAGUE))
        (exchange,) = exchanges
        text = exchange.json["messages"][0]["content"]
        talk = json.loads(text.split("<conversation>\n")[1].split("\n</conversation>")[0])
        assert talk == [assistant("Yes."), user(VAGUE)], "the oldest message is too long, the system's is not for it"


def test_the_policy_says_whom_to_ask():
    asks = {"base_url": "http://localhost:8001/v1", "model": "arch-router", "timeout_ms": 200}
    policy = create("routes", {"routes": ROUTES, "asks": asks})
    assert isinstance(policy, AsksRouteModel)
    question = policy.question
    assert (question.base_url, question.model, question.timeout_ms) == (asks["base_url"], "arch-router", 200.0)
    assert list(question.descriptions) == ["law", "sums"]
    assert create("routes", parameters(policy)) == policy
    assert create("routes", {"asks": asks}).question is None, "without routes there is nothing to choose"
    assert create("routes", {"routes": ROUTES}).question is None


@pytest.mark.parametrize("base_url", ["localhost:8001/v1", "http://me:secret@host/v1"])
def test_a_url_that_will_not_do_is_told(base_url):
    with pytest.raises(BadParameters, match="base_url must start"):
        create("routes", {"routes": ROUTES, "asks": {"base_url": base_url, "model": "m"}})
