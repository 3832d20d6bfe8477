"""What goes wrong arrives as the SDK's own exception, and is on the books when somebody was asked."""

import openai
import pytest

from tests.e2e.test_sdk import TOOLS, user


def test_a_wrong_key(site):
    with site.client(api_key="rg-wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model="auto", messages=user("hello"))
    assert raised.value.code == "invalid_api_key"
    assert raised.value.request_id


def test_an_unknown_model(client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="gpt-none", messages=user("hello"))
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-none")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "hello"}]}, "messages[0].role"),
        ({"messages": user("hello"), "max_tokens": -1}, "max_tokens"),
        ({"messages": user("hello"), "extra_body": {"routing": {"worth_usd": "much"}}}, "routing.worth_usd"),
        ({"messages": user("hello"), "extra_body": {"routing": {"colour": "blue"}}}, "routing.colour"),
    ],
)
def test_a_bad_request_names_its_field(client, body, param):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="auto", **body)
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"


def test_what_no_endpoint_offers(client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="small", messages=user("hello"), tools=TOOLS)
    assert raised.value.code == "unsupported_parameter"


def test_a_provider_that_refuses_the_request_itself(site, client):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="refusing", messages=user("hello"), temperature=2)
    assert (raised.value.param, raised.value.code) == ("temperature", "too_hot")
    _, (attempt,) = site.ledger.decision(raised.value.response.headers["x-router-decision-id"])
    assert (attempt["status"], attempt["error"], attempt["cost_nusd"]) == (400, "too_hot", 0)
    assert not attempt["cost_estimated"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_rate_limit(site, client, stream):
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="limited", messages=user("hello"), stream=stream)
    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.response.headers["retry-after"] == "7"
    _, (attempt,) = site.ledger.decision(raised.value.response.headers["x-router-decision-id"])
    assert (attempt["status"], attempt["error"], attempt["cost_nusd"]) == (429, "rate_limit_exceeded", 0)


def test_a_page_instead_of_an_answer_is_not_retried(site):
    """The SDK's own two retries would only repeat what our fallbacks have tried already."""
    before = len(site.provider.bodies["html"])
    with site.client(max_retries=2) as client, pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="html", messages=user("hello"))
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_error")
    assert "login page" not in str(raised.value)
    assert len(site.provider.bodies["html"]) == before + 1
    _, (attempt,) = site.ledger.decision(raised.value.response.headers["x-router-decision-id"])
    assert (attempt["status"], attempt["error"], attempt["cost_nusd"]) == (200, "upstream_error", 0)


def test_a_failing_endpoint_falls_back(site, client):
    """`html` is worth more than `small` here; when it fails, `small` answers, and both tries are on the books."""
    hard = site.of("hard")
    wishes = {"routing": {"allowed_models": ["html", "small"]}}
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=user(hard.prompt), stream=True, extra_body=wishes
    )
    text = "".join(choice.delta.content or "" for chunk in raw.parse() for choice in chunk.choices)
    assert text.endswith(hard.response("small"))
    assert raw.headers["x-router-model"] == "small"
    assert raw.headers["x-router-attempts"] == "2"
    decision, attempts = site.ledger.decision(raw.headers["x-router-decision-id"], attempts_min=2)
    assert decision["order"] == ["html", "small"]
    assert [(a["number"], a["endpoint"], a["error"]) for a in attempts] == [
        (1, "html", "upstream_error"),
        (2, "small", None),
    ]
    assert [a["cost_nusd"] for a in attempts] == [0, hard.cost_nusd("small")]
