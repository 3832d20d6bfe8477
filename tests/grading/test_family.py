import pytest

from router_gateway.grading.family import akin, family
from tests.dispatch.conftest import endpoint


@pytest.mark.parametrize(
    ("model", "maker"),
    [
        ("openai/gpt-4o-mini", "openai"),
        ("o3-mini", "openai"),
        ("azure/chatgpt-5", "openai"),
        ("anthropic/claude-sonnet-4-5", "anthropic"),
        ("bedrock/us.anthropic.claude-3-5-sonnet-20240620-v1:0", "anthropic"),
        ("vertex_ai/gemini-2.5-pro", "google"),
        ("together_ai/meta-llama/Llama-3.3-70B-Instruct", "meta"),
        ("mistral-large-2512", "mistral"),
        ("Qwen/Qwen2.5-7B", "alibaba"),
        ("maker/small-model", "small"),
        ("42", "42"),
    ],
)
def test_the_maker_is_read_off_the_name(model, maker):
    assert family(model) == maker


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        ("openai/gpt-4o", "azure/gpt-4.1-mini", True),
        ("bedrock/anthropic.claude-3-haiku", "bedrock/meta.llama3-70b", False),
        ("llama-3.1-8b", "groq/llama-3.3-70b", True),
        ("mistral-7b", "qwen2-7b", False),
    ],
)
def test_kin_are_models_of_one_maker_whoever_hosts_them(one, other, related):
    assert akin(endpoint(name="a", model=one), endpoint(name="b", model=other)) is related
    assert akin(endpoint(name="b", model=other), endpoint(name="a", model=one)) is related
