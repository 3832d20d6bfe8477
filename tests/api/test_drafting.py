"""Candidates fitted with parameters of their own, over HTTP: fitting, draft or failed, and what is refused."""

import asyncio

import httpx
import pytest

from router_gateway.learning.snapshots import Snapshots
from tests.api.building import EASY, HARD, error_of


@pytest.fixture
async def office(start):
    """(site, admin's client)."""
    site = await start()
    headers = {"authorization": f"Bearer {site.keys.create('operator', admin=True)}"}
    url = f"{site.url}/admin/api/lifecycle"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
        yield site, client


async def rated(site, count=12):
    for number in range(count):
        answer = await site.chat((EASY, HARD)[number % 2])
        said = {"decision_id": answer.headers["x-router-decision-id"], "score": (0.9, 0.2)[number % 2]}
        assert (await site.client.post("/v1/feedback", json=said)).status_code == 200
    await site.rows()


async def settled(client, name):
    """The candidate once it is no longer fitting."""
    for _ in range(1200):
        one = (await client.get(f"/candidates/{name}")).json()
        if one["state"] != "fitting":
            return one
        await asyncio.sleep(0.1)
    raise AssertionError("it is fitting still")


async def test_a_policy_with_parameters_is_fitted_apart_becomes_a_draft_and_serves(office):
    site, client = office
    await rated(site)
    body = {"name": "k2", "params": {"k": 2}, "changes": {"worth_usd": 0.5}, "note": "fewer votes"}
    begun = (await client.post("/candidates", json=body)).json()
    assert (begun["state"], begun["snapshot"]) == ("fitting", "knn")
    refused = await client.post("/candidates", json={"name": "k3", "params": {"k": 3}})
    assert "another candidate is being fitted: 'k2'" in error_of(refused, 503)["message"]
    assert error_of(await client.post("/candidates/k2/canary", json={}), 409)
    assert (await site.chat(EASY)).status_code == 200, "requests go on"
    one = await settled(client, "k2")
    assert (one["state"], one["reason"], one["kind"], one["params"]["k"]) == ("draft", "fitted", "knn", 2)
    assert [(row["before"], row["state"], row["author"].split()[0]) for row in one["transitions"]] == [
        ("fitting", "draft", "gateway"),
        ("none", "fitting", "operator"),
    ]
    assert one["transitions"][1]["evidence"] == {"kind": "knn", "params": {"k": 2}}
    (manifest,) = Snapshots(site.directory / "snapshots" / ".candidates" / "k2").list()
    assert manifest.params["k"] == 2
    assert 0 < manifest.provenance.observations <= 12, "some are held out"
    assert (await client.post("/candidates/k2/canary", json={"share": 0.999})).status_code == 200
    answer = await site.chat(HARD)
    assert answer.headers["x-router-candidate"] == "k2"
    assert (await client.get("/candidates/k2/evidence")).json()["last_move_on_evidence"] is None


async def test_a_fit_that_fails_says_why_and_can_be_put_away(office):
    site, client = office
    begun = await client.post("/candidates", json={"name": "early", "kind": "linear", "params": {}})
    assert begun.json()["state"] == "fitting"
    one = await settled(client, "early")
    assert (one["state"], one["kind"]) == ("failed", "linear")
    assert "nothing to fit on" in one["transitions"][0]["note"]
    assert not (site.directory / "snapshots" / ".candidates" / "early").exists()
    assert error_of(await client.post("/candidates/early/canary", json={}), 409)
    assert (await client.post("/candidates/early/retire", json={})).json()["state"] == "retired"


async def test_a_fit_whose_process_is_gone_stands_in_nobodys_way_for_ever(office):
    site, client = office
    desk = site.rollout.desk
    begin = {"policy": "knn", "kind": "knn", "params": {}, "author": "another process"}
    await asyncio.to_thread(lambda: desk.begin_fit("lost", limit_s=60.0, **begin))
    assert error_of(await client.post("/candidates", json={"name": "next", "params": {}}), 503)
    await asyncio.to_thread(lambda: desk.begin_fit("next", limit_s=0.0, **begin))
    lost = (await client.get("/candidates/lost")).json()
    assert (lost["state"], lost["transitions"][0]["note"]) == ("failed", "its process ended before it was fitted")


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({"params": {"k": 0}}, "params.k", "greater than or equal to 1"),
        ({"params": {"j": 1}}, "params.j", "no such parameter"),
        ({"kind": "nobody"}, "kind", "no installed distribution"),
        ({"params": [1]}, "params", "dictionary"),
        ({"params": {}, "snapshot": "knn@1"}, "snapshot", "not both"),
        ({"params": {}, "kind": "knn", "policy": "nobody"}, "policy", "not configured here"),
        ({"params": {}, "margins": {"speed": 1}}, "margins.speed", ""),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_registered(office, body, param, said):
    _, client = office
    error = error_of(await client.post("/candidates", json={"name": "x", **body}), 400)
    assert error["param"] == param
    assert said in error["message"]
    assert (await client.get("/candidates")).json()["data"] == []
