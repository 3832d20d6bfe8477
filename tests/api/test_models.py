"""GET /v1/models in both shapes."""

from datetime import datetime

import pytest

from tests.api.building import error_of


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/openai/v1/models"])
async def test_endpoints_and_aliases_are_listed(site, path):
    body = (await site.client.get(path)).json()
    assert body["object"] == "list"
    assert [m["id"] for m in body["data"]] == ["auto", "knn", "best_on_average", "small", "mid", "large"]
    for model in body["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert isinstance(model["owned_by"], str)


async def test_an_endpoint_has_a_price_and_an_alias_a_range(site):
    models = {m["id"]: m for m in (await site.client.get("/v1/models")).json()["data"]}
    assert models["small"]["pricing"] == {"prompt": "0.0000001", "completion": "0.0000004"}
    assert models["large"]["architecture"]["input_modalities"] == ["text", "image"]
    assert models["mid"]["supported_parameters"] == ["tools", "response_format"]
    assert models["large"]["context_length"] == models["auto"]["context_length"] == 1_000_000
    assert models["auto"]["pricing"] == {
        "prompt_min": "0.0000001",
        "prompt_max": "0.0000025",
        "completion_min": "0.0000004",
        "completion_max": "0.00001",
    }


async def test_anthropic_clients_get_their_own_shape(site):
    body = (await site.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})).json()
    assert set(body) == {"data", "has_more", "first_id", "last_id"}
    assert (body["has_more"], body["first_id"], body["last_id"]) == (False, "auto", "large")
    assert {m["type"] for m in body["data"]} == {"model"}
    assert datetime.fromisoformat(body["data"][0]["created_at"]).tzinfo is not None


async def test_a_key_sees_what_it_may_use(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("limited", allows=["small"])
    models = {m["id"]: m for m in (await site.client.get("/v1/models")).json()["data"]}
    assert set(models) == {"auto", "knn", "best_on_average", "small"}
    assert models["auto"]["context_length"] == 8_000
    assert models["auto"]["pricing"]["prompt_max"] == "0.0000001"
    error_of(await site.client.get("/v1/models/large"), 404)


async def test_a_key_that_may_use_nothing_sees_nothing(site):
    site.client.headers["authorization"] = "Bearer " + site.keys.create("odd", allows=["nothing"])
    assert (await site.client.get("/v1/models")).json() == {"object": "list", "data": []}
    anthropic = await site.client.get("/v1/models", headers={"anthropic-version": "2023-06-01"})
    assert anthropic.json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


async def test_one_model_by_id(site):
    assert (await site.client.get("/v1/models/mid")).json()["id"] == "mid"
    assert (await site.client.get("/models/auto")).json()["owned_by"] == "router-gateway"
    error = error_of(await site.client.get("/v1/models/a/b"), 404)
    assert (error["param"], error["code"]) == ("model", "model_not_found")


async def test_models_need_a_key(site):
    del site.client.headers["authorization"]
    error_of(await site.client.get("/v1/models"), 401)
    error_of(await site.client.get("/v1/models/mid"), 401)
