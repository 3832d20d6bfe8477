"""A candidate's life over HTTP: who gets it, what its rows say, when it goes on and when it comes back."""

import asyncio

import httpx
import pytest

from router_gateway import registry
from router_gateway.core.types import NamedPolicy
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.snapshots import Snapshots
from router_gateway.lifecycle.settings import Lifecycle, Margins
from tests.api.building import EASY, HARD, error_of, experience

QUICK = Lifecycle(
    shares=(0.5,),
    blocks_min=5,
    window_blocks=10,
    margins=Margins(quality=0.05, errors=None, cost=None, first_token=None),
)
NEXT_TO_NOTHING = {"worth_usd": 1e-9}
"""A dial at which price alone decides: hard questions go to `small`, which cannot answer them."""


def quality_of(answer):
    return 0.9 if answer.headers["x-router-model"] == "large" else 0.1


@pytest.fixture
async def office(start):
    """A gateway that moves candidates fast, and a client with an admin's key."""
    site = await start(lifecycle=QUICK)
    headers = {"authorization": f"Bearer {site.keys.create('operator', admin=True)}"}
    url = f"{site.url}/admin/api/lifecycle"
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        yield site, client


async def draft(client, name="thrifty", **body):
    answer = await client.post("/candidates", json={"name": name, "changes": NEXT_TO_NOTHING, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def move(client, verb, name="thrifty", **body):
    answer = await client.post(f"/candidates/{name}/{verb}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def converse(site, sessions, *, text=HARD, rate=quality_of):
    """One rated question in each session."""
    answers = []
    for session in sessions:
        answer = await site.chat(text, headers={"x-session-id": session})
        body = {"decision_id": answer.headers["x-router-decision-id"], "score": rate(answer)}
        assert (await site.client.post("/v1/feedback", json=body)).status_code == 200
        answers.append(answer)
    assert await asyncio.to_thread(site.ledger.drain)
    return answers


async def test_a_bad_canary_is_taken_back_with_its_evidence_on_record(office):
    site, client = office
    assert (await draft(client, note="cheaper"))["state"] == "draft"
    assert (await move(client, "canary"))["share"] == 0.5
    answers = await converse(site, [f"s{i}" for i in range(160)])
    by_candidate = [answer.headers.get("x-router-candidate") for answer in answers]
    assert 40 < by_candidate.count("thrifty") < 120
    for answer in answers:
        tried = answer.headers.get("x-router-candidate") == "thrifty"
        assert answer.headers["x-router-model"] == ("small" if tried else "large")
    shown = (await client.get("/candidates/thrifty/evidence")).json()["canary"]
    (quality,) = shown["measures"]
    assert quality["finding"] == "worse"
    assert quality["lower"] > 0.05
    (moved,) = await asyncio.to_thread(site.rollout.judge.step)
    assert (moved.state, moved.author, moved.reason) == ("rolled_back", "gateway", "worse:quality")
    await asyncio.to_thread(site.rollout.refresh)
    after = await converse(site, [f"s{i}" for i in range(20)])
    assert {answer.headers["x-router-model"] for answer in after} == {"large"}
    trail = (await client.get("/transitions", params={"candidate": "thrifty"})).json()["data"]
    assert [(row["before"], row["state"]) for row in trail] == [
        ("canary", "rolled_back"),
        ("draft", "canary"),
        ("none", "draft"),
    ]
    assert trail[0]["evidence"]["measures"][0]["lower"] == pytest.approx(quality["lower"])
    assert trail[2]["author"].startswith("operator (rg-")
    assert trail[2]["note"] == "cheaper"
    one = (await client.get("/candidates/thrifty")).json()
    assert (one["state"], one["reason"], len(one["transitions"])) == ("rolled_back", "worse:quality", 3)


async def test_the_rows_of_both_sides_say_what_off_policy_estimates_need(office):
    site, client = office
    await draft(client)
    await move(client, "canary", share=0.2)
    answers = await converse(site, [f"s{i}" for i in range(40)])
    sides = {}
    for answer in answers:
        decision = (await site.record_of(answer)).decision
        assert decision.propensity == 1.0, "the rule's own, given the side: greedy"
        assert decision.experiment == "thrifty"
        assert (decision.candidate, decision.arm_share) in (("thrifty", 0.2), (None, 0.8))
        sides.setdefault(decision.candidate, set()).add(decision.arm_unit)
    assert set(sides) == {"thrifty", None}
    assert not sides["thrifty"] & sides[None]
    same = await converse(site, ["s0", "s0", "s0"])
    assert len({answer.headers.get("x-router-candidate") for answer in same}) == 1
    explained = (await site.client.get(f"/v1/routing/decisions/{answers[0].headers['x-router-decision-id']}")).json()
    assert explained["experiment"] == "thrifty"


async def test_outside_of_an_experiment_rows_say_nothing_of_it(office):
    site, client = office
    await draft(client)
    plain = (await site.record_of(await site.chat(HARD))).decision
    await move(client, "canary", share=0.999)
    pinned = (await site.record_of(await site.chat(HARD, model="large"))).decision
    versioned = (await site.record_of(await site.chat(HARD, model="knn@1"))).decision
    for decision in (plain, pinned, versioned):
        assert (decision.candidate, decision.experiment, decision.arm_share) == (None, None, None)


async def test_a_good_canary_goes_live_and_a_rollback_brings_back_what_was_before(office):
    site, client = office
    await draft(client, "first", changes={"worth_usd": 5.0})
    await move(client, "canary", "first")
    await converse(site, [f"s{i}" for i in range(160)], rate=lambda a: float("x-router-candidate" in a.headers))
    (moved,) = await asyncio.to_thread(site.rollout.judge.step)
    assert (moved.state, moved.reason) == ("live", "no_worse")
    await asyncio.to_thread(site.rollout.refresh)
    (answer,) = await converse(site, ["anybody"])
    assert answer.headers["x-router-candidate"] == "first"
    record = await site.record_of(answer)
    assert (record.decision.candidate, record.decision.experiment) == ("first", None)
    assert record.decision.worth_usd == 5.0

    second = await draft(client, "second", changes={"optimism": 0.0})
    assert (second["base"], second["changes"]) == ("first", {"worth_usd": 5.0, "optimism": 0.0})
    await move(client, "canary", "second")
    await move(client, "promote", "second", note="we know better")
    states = {row["name"]: row["state"] for row in (await client.get("/candidates")).json()["data"]}
    assert states == {"first": "retired", "second": "live"}
    await move(client, "rollback", "second")
    states = {row["name"]: (row["state"], row["reason"]) for row in (await client.get("/candidates")).json()["data"]}
    assert states == {"first": ("live", "restored"), "second": ("rolled_back", "asked")}
    await move(client, "rollback", "first")
    (answer,) = await converse(site, ["anybody"])
    assert "x-router-candidate" not in answer.headers


async def test_a_snapshot_is_pinned_when_it_is_drafted(office):
    site, client = office
    learned = experience(HashingEmbedder())
    average = registry.create("best_on_average").fit(learned)
    folder = Snapshots(site.directory / "snapshots")
    provenance = Provenance.of(learned, created=learned_at())
    folder.save(NamedPolicy(name="best_on_average", version=3, policy=average), provenance)
    drafted = await draft(client, "average", snapshot="best_on_average", changes={})
    assert drafted["snapshot"] == "best_on_average@3"
    for path in sorted((site.directory / "snapshots" / "best_on_average").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    await move(client, "canary", "average", share=0.999)
    answers = await converse(site, [f"s{i}" for i in range(5)])
    assert {answer.headers["x-router-policy"] for answer in answers} == {"best_on_average@3"}
    assert {(await site.record_of(answer)).decision.candidate for answer in answers} == {"average"}


def learned_at():
    from datetime import UTC, datetime

    return datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_candidate_that_cannot_be_loaded_is_passed_over_and_told(office):
    site, client = office
    learned = experience(HashingEmbedder())
    named = NamedPolicy(name="best_on_average", version=1, policy=registry.create("best_on_average").fit(learned))
    Snapshots(site.directory / "snapshots").save(named, Provenance.of(learned, created=learned_at()))
    await draft(client, "lost", snapshot="best_on_average@1", changes={})
    for path in sorted((site.directory / "snapshots" / ".candidates").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    await move(client, "canary", "lost", share=0.999)
    (row,) = (await client.get("/candidates")).json()["data"]
    assert "no snapshot" in row["failing"]
    answers = await converse(site, [f"s{i}" for i in range(3)])
    assert {answer.headers["x-router-policy"] for answer in answers} == {"knn@1"}


async def test_a_shadow_decides_everything_and_serves_nothing(office):
    site, client = office
    await draft(client)
    await move(client, "shadow")
    answers = await converse(site, ["a", "b", "c"]) + await converse(site, ["d"], text=EASY)
    assert {answer.headers["x-router-model"] for answer in answers[:3]} == {"large"}
    assert await asyncio.to_thread(site.rollout.shadowing.drain) == 4
    shown = (await client.get("/candidates/thrifty/evidence")).json()
    assert (shown["state"], shown["canary"]) == ("shadow", None)
    shadow = shown["shadow"]
    assert (shadow["decisions"], shadow["failed"], shadow["agreed"]) == (4, 0, 0.25)
    assert shadow["expected_cost_usd"] < shadow["live_expected_cost_usd"]
    assert shadow["expected_quality"] < shadow["live_expected_quality"]
    await site.client.post(
        "/v1/routing/decide", json={"model": "auto", "messages": [{"role": "user", "content": HARD}]}
    )
    assert await asyncio.to_thread(site.rollout.shadowing.drain) == 0, "nothing was served"


async def test_a_draft_that_failed_leaves_nothing_that_the_next_one_could_mistake_for_its_own(office):
    site, client = office
    learned = experience(HashingEmbedder())
    for version in (1, 2):
        named = NamedPolicy(
            name="best_on_average", version=version, policy=registry.create("best_on_average").fit(learned)
        )
        Snapshots(site.directory / "snapshots").save(named, Provenance.of(learned, created=learned_at()))
    site.rollout.desk.homes.adopt("average", "best_on_average@1")
    assert (await draft(client, "average", snapshot="best_on_average@2", changes={}))["snapshot"] == "best_on_average@2"
    assert site.rollout.desk.homes.of("average").newest("best_on_average") == 2
    assert len(site.rollout.desk.homes.of("average").list()) == 1


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"name": "no spaces", "changes": NEXT_TO_NOTHING}, 400, "name"),
        ({"name": "x"}, 400, "snapshot"),
        ({"name": "x", "snapshot": "knn@x"}, 400, "snapshot"),
        ({"name": "x", "policy": "nobody", "changes": NEXT_TO_NOTHING}, 400, "policy"),
        ({"name": "x", "changes": NEXT_TO_NOTHING, "margins": {"speed": 1}}, 400, "margins.speed"),
        ({"name": "x", "changes": NEXT_TO_NOTHING, "author": "somebody else"}, 400, "author"),
        ({}, 400, "name"),
    ],
)
async def test_a_wrong_draft_is_refused_by_its_field(office, body, status, param):
    _, client = office
    assert error_of(await client.post("/candidates", json=body), status)["param"] == param
    assert (await client.get("/candidates")).json()["data"] == []


async def test_moves_that_do_not_fit_are_refused(office):
    _, client = office
    await draft(client)
    await draft(client, "other")

    async def refused(verb, name="thrifty", status=409, **body):
        return error_of(await client.post(f"/candidates/{name}/{verb}", json=body), status)

    assert error_of(await client.post("/candidates", json={"name": "thrifty", "changes": NEXT_TO_NOTHING}), 409)
    assert "only a canary is promoted" in (await refused("promote"))["message"]
    assert "may become" in (await refused("rollback"))["message"]
    assert (await refused("canary", share=2, status=400))["param"] == "share"
    assert (await refused("shadow", share=0.1, status=400))["param"] == "share"
    assert (await refused("vanish", status=404))["param"] == "move"
    assert (await refused("canary", "nobody", status=404))["param"] == "name"
    await move(client, "canary")
    assert "already" in (await refused("canary"))["message"]
    assert "one at a time" in (await refused("canary", "other"))["message"]
    await move(client, "promote", to_live=True)
    assert "roll it back" in (await refused("retire"))["message"]
    assert (await move(client, "retire", "other"))["state"] == "retired"
    assert "may become" in (await refused("shadow", "other"))["message"]
