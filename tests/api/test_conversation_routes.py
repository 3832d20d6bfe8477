"""A policy that reads conversations gets what was said before; the others pay nothing for it."""

import pytest

from router_gateway.core.types import NamedPolicy, Queries
from router_gateway.embedding.conversation import earlier_turns
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.registry import create
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
