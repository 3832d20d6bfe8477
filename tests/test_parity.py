"""One implementation: the same queries through HTTP and through an offline replay get the same decisions."""

import asyncio
from dataclasses import fields

import numpy as np

from router_gateway.core.types import Decision
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.replay import query_of, route_offline
from router_gateway.routing.rules import InverseGap
from tests.api.building import running

NAMES = ("small", "mid", "large")
QUERIES = 200
TOPICS = ("sum of", "capital of", "colour of", "indemnity clause", "warranty clause", "notice clause", "melody of")
THINGS = (
    "this contract",
    "a river",
    "the old house",
    "two and three",
    "a très long chapitre",
    "東京",
    "😀 ok",
)


def prompts() -> tuple[str, ...]:
    """Distinct questions, near the policy's memory and far from it, some longer than what is embedded."""
    return tuple(
        f"{'Please consider. ' * (400 if i % 50 == 0 else i % 13)}"
        f"What of the {TOPICS[i % len(TOPICS)]} of {THINGS[i % len(THINGS)]}, case {i}?"
        for i in range(QUERIES)
    )


def table(texts: tuple[str, ...]) -> Benchmark:
    shape = (len(texts), len(NAMES))
    return Benchmark(
        prompts=texts,
        sample_ids=tuple(map(str, range(len(texts)))),
        datasets=("parity",) * len(texts),
        tasks=("parity",) * len(texts),
        splits=(None,) * len(texts),
        endpoints=NAMES,
        quality=np.zeros(shape, dtype=np.float32),
        cost_usd=np.zeros(shape),
        tokens_input=np.full(shape, np.nan),
        tokens_output=np.full(shape, np.nan),
        latency_ms=np.full(shape, np.nan),
    )


async def test_http_and_replay_decide_alike_field_by_field(tmp_path):
    texts = prompts()
    async with running(tmp_path, rule=InverseGap(gamma=50.0)) as site:
        at_once = asyncio.Semaphore(8)  # so that queries meet in the encoder's batches

        async def ask(index, text):
            async with at_once:
                return await site.chat(text, stream=index % 2 == 1)

        responses = await asyncio.gather(*(ask(i, text) for i, text in enumerate(texts)))
        assert {response.status_code for response in responses} == {200}
        live = [(await site.record_of(response)).decision for response in responses]
        router = site.gateway.router(None)
        ids = [decision.query_id for decision in live]
        embedding = HashingEmbedder().embed([query_of(text, id_).text for text, id_ in zip(texts, ids, strict=True)])
        offline = route_offline(router, table(texts), embedding, ids=ids)
    names = [field.name for field in fields(Decision) if field.name != "at"]
    for one, other in zip(live, offline.decisions, strict=True):
        for name in names:
            assert getattr(one, name) == getattr(other, name), name
    # The comparison is worth something only if there was something to decide.
    assert {decision.endpoint for decision in live} == set(NAMES)
    assert {decision.reason for decision in live} == {"scored", "explored"}
    assert len({decision.propensity for decision in live}) > 50
