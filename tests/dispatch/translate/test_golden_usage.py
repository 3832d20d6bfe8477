"""One call as four providers report it: 30 fresh prompt tokens, 60 read from a cache, 10 written, 20 + 30 generated.

The shapes are those of the providers' API references. What is not OpenAI's is turned into it by litellm, as on
the way of a real answer, and then read by us.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from types import SimpleNamespace

import pytest

from router_gateway.core.money import cost_nusd
from router_gateway.core.types import Usage
from router_gateway.dispatch.stream import StreamTap
from router_gateway.dispatch.translate import StreamReply
from router_gateway.dispatch.usage import parse_usage
from tests.api.building import endpoint

# litellm's pydantic models, built on first use
pytestmark = pytest.mark.filterwarnings("ignore:.*is using the `ReadOnly` qualifier:UserWarning")

OPENAI = {  # the cached tokens inside prompt_tokens, the reasoning inside completion_tokens
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 60, "audio_tokens": 0, "cache_write_tokens": 10},
    "completion_tokens_details": {
        "reasoning_tokens": 30,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
ANTHROPIC = {  # the cached tokens outside input_tokens
    "input_tokens": 30,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 60,
    "output_tokens": 50,
    "service_tier": "standard",
}
GEMINI = {  # the cached tokens inside promptTokenCount, the thoughts outside candidatesTokenCount
    "promptTokenCount": 100,
    "cachedContentTokenCount": 60,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 150,
}
BEDROCK = {  # the cached tokens outside inputTokens
    "inputTokens": 30,
    "cacheReadInputTokens": 60,
    "cacheWriteInputTokens": 10,
    "outputTokens": 50,
    "totalTokens": 150,
}
PROMPT = {"tokens_input": 30, "tokens_cached_input": 60, "tokens_cache_write": 10}


@pytest.fixture(autouse=True)
def _no_download_of_a_price_list(monkeypatch):
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # read when litellm is imported


def from_openai():
    return OPENAI


def from_anthropic():
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig

    return AnthropicConfig().calculate_usage(ANTHROPIC, None).model_dump()


def from_gemini():
    from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig

    return VertexGeminiConfig._calculate_usage({"usageMetadata": GEMINI}).model_dump()


def from_bedrock():
    from litellm.llms.bedrock.chat.converse_transformation import AmazonConverseConfig

    return AmazonConverseConfig().transform_usage(BEDROCK).model_dump()


@pytest.mark.parametrize(
    ("reported", "usage"),
    [  # who does not tell reasoning or cache writes apart gets the same price here, since those cost the same
        (from_openai, Usage(**PROMPT, tokens_output=20, tokens_reasoning=30)),
        (from_anthropic, Usage(**PROMPT, tokens_output=50)),
        (from_gemini, Usage(tokens_input=40, tokens_cached_input=60, tokens_output=20, tokens_reasoning=30)),
        (from_bedrock, Usage(**PROMPT, tokens_output=50)),
    ],
    ids=["openai", "anthropic", "gemini", "bedrock"],
)
def test_each_shape_becomes_disjoint_classes_of_one_price(reported, usage):
    read = parse_usage(reported())
    assert read == usage
    check_price(read)


def check_price(read):
    assert (read.tokens_prompt, read.tokens_completion) == (100, 50)
    priced = endpoint(
        "x",
        price_input_usd_per_mtok=Decimal("2.5"),
        price_cached_input_usd_per_mtok=Decimal("0.25"),
        price_cache_write_usd_per_mtok=Decimal("2.5"),
        price_output_usd_per_mtok=Decimal(10),
    )
    assert cost_nusd(read, priced) == 40 * 2_500 + 60 * 250 + 50 * 10_000


def anthropic_pieces():
    """The prompt's counts come with the first event, the answer's with the last but one."""
    from litellm.llms.anthropic.chat.handler import ModelResponseIterator

    message = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude"}
    parse = ModelResponseIterator(None, sync_stream=False).chunk_parser
    yield parse({"type": "message_start", "message": {**message, "usage": {**ANTHROPIC, "output_tokens": 1}}})
    yield parse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}})
    yield parse(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {**ANTHROPIC, "output_tokens": 50}}
    )


def gemini_pieces():
    """Every event has the counts so far: the last ones count."""
    from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator

    logging = SimpleNamespace(optional_params={})
    parse = ModelResponseIterator(None, sync_stream=False, logging_obj=logging).chunk_parser
    said = {"content": {"role": "model", "parts": [{"text": "Hi"}]}, "index": 0}
    early = {**GEMINI, "candidatesTokenCount": 1, "thoughtsTokenCount": 30, "totalTokenCount": 131}
    yield parse({"responseId": "r", "modelVersion": "gemini", "candidates": [said], "usageMetadata": early})
    last = {**said, "finishReason": "STOP"}
    yield parse({"responseId": "r", "modelVersion": "gemini", "candidates": [last], "usageMetadata": GEMINI})


def bedrock_pieces():
    """The counts come in an event of their own, after the answer."""
    from litellm.llms.bedrock.chat.invoke_handler import AWSEventStreamDecoder

    decoder = object.__new__(AWSEventStreamDecoder)  # its constructor wants botocore, for the frames around the events
    decoder.__dict__ |= {"model": "nova", "content_blocks": [], "tool_calls_index": None, "response_id": "r"}
    decoder.__dict__ |= {"json_mode": None, "_current_tool_name": None}
    decoder.__dict__ |= {"_thinking_ran": False, "_provider_reasoning_tokens": None}
    yield decoder.converse_chunk_parser({"contentBlockIndex": 0, "delta": {"text": "Hi"}})
    yield decoder.converse_chunk_parser({"stopReason": "end_turn"})
    yield decoder.converse_chunk_parser({"usage": BEDROCK})


class Streamed:
    """litellm's stream of parsed pieces."""

    received_finish_reason = "stop"

    def __init__(self, pieces):
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator:
        for piece in self._pieces:
            yield piece

    async def aclose(self):
        """Nothing to hang up."""


@pytest.mark.parametrize(
    ("pieces", "usage"),
    [
        (anthropic_pieces, Usage(**PROMPT, tokens_output=50)),
        (gemini_pieces, Usage(tokens_input=40, tokens_cached_input=60, tokens_output=20, tokens_reasoning=30)),
        (bedrock_pieces, Usage(**PROMPT, tokens_output=50)),
    ],
    ids=["anthropic", "gemini", "bedrock"],
)
async def test_each_shape_streamed_says_the_same(pieces, usage):
    reply = StreamReply(Streamed(pieces()), endpoint("x"), headers={}, wants_usage=True, secret=None)
    tap = StreamTap(source="x", wants_usage=True)
    async for batch in reply.batches():
        for event in batch:
            tap.feed(event)
    assert tap.done
    assert tap.usage == usage
    check_price(tap.usage)


@pytest.mark.parametrize(
    "said", [{"cost": 0.00123}, {"cost": {"total_cost": 0.00123}}, {"cost_in_usd_ticks": 12_300_000}]
)
def test_openai_streamed_with_what_the_upstream_says_it_costs(said):
    tap = StreamTap(source="x", wants_usage=True)
    for choices, usage in (([{"index": 0, "delta": {"content": "Hi"}}], None), ([], {**OPENAI, **said})):
        chunk = {"object": "chat.completion.chunk", "choices": choices, "usage": usage}
        tap.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    check_price(tap.usage)
    assert tap.provider_cost_nusd == 1_230_000
