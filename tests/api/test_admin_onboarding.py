"""The admin API's onboardings: an endpoint is asked its probes in the background while its estimate narrows."""

import asyncio
import time
from contextlib import nullcontext
from uuid import UUID, uuid4

import httpx
import pytest
import yaml
from sqlalchemy import select

from router_gateway import config as configuration
from router_gateway.dispatch.endpoints import EndpointSettings
from router_gateway.ledger.connections import reading
from router_gateway.ledger.leases import Lease
from router_gateway.ledger.onboarding_rows import OnboardingRows, Step
from router_gateway.ledger.tables import attempts, decisions, feedback
from router_gateway.wiring import build
from tests.api.building import EASY, endpoint, error_of, serving
from tests.e2e import quiz, world

PRICES = {"price_input_usd_per_mtok": "0.5", "price_output_usd_per_mtok": "2.0", "context_tokens_max": 8_000}


@pytest.fixture
def pupil():
    with quiz.taking(0.5) as taking:
        yield taking


@pytest.fixture
async def asked_site(start, pupil):
    """A gateway whose `small` answers half of the probes rightly."""
    pool = [endpoint("small", base_url=pupil.base_url), endpoint("mid")]
    return await start(endpoints=pool, over_http=True)


@pytest.fixture
async def asked_office(asked_site, office_of):
    return await office_of(asked_site)


async def over(office, onboarding_id):
    """The onboarding once it is over."""
    async with asyncio.timeout(90):
        while True:
            found = (await office.get(f"/onboardings/{onboarding_id}")).json()
            if found["ended_at"] is not None:
                return found
            await asyncio.sleep(0.05)


async def begun(office, **changes):
    answer = await office.post("/onboardings", json={"endpoint": "small", "probes": 12, "max_tokens": 50, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows_of(site, table):
    assert site.ledger.drain()
    with reading(site.ledger.engine) as connection:
        return connection.execute(select(table)).all()


async def test_the_estimate_narrows_with_every_batch_and_the_ledger_has_it_all(asked_site, asked_office, pupil):
    first = await begun(asked_office)
    assert (first["state"], first["probes"], first["budget_usd"]) == ("running", 12, 1.0)
    found = await over(asked_office, first["id"])
    assert (found["state"], found["graded"], found["answered"], found["failed"], found["why"]) == (
        "done",
        12,
        12,
        0,
        None,
    )
    widths = [each["interval"]["high"] - each["interval"]["low"] for each in found["steps"] if each["interval"]]
    assert len(widths) >= 3
    assert widths[-1] < widths[0]
    assert [each["answered"] for each in found["steps"]] == sorted(each["answered"] for each in found["steps"])
    right = sum(prompt in pupil.right for prompt in pupil.asked)
    assert next(each for each in found["standings"] if each["endpoint"] == "small")["right"] == right
    tried = rows_of(asked_site, attempts)
    assert found["spent_nusd"] == sum(row.cost_nusd for row in tried) > 0
    assert {(row.requested_model, row.reason, row.propensity) for row in rows_of(asked_site, decisions)} == {
        ("onboard", "pinned", 0.0)
    }
    assert {row.source for row in rows_of(asked_site, feedback)} == {"verifier"}
    (event,) = (await asked_office.get("/events", params={"action": "onboarding"})).json()["data"]
    assert (event["action"], event["subject"], event["detail"]["id"]) == ("onboarding.start", "small", first["id"])
    (listed,) = (await asked_office.get("/onboardings")).json()["data"]
    assert listed == {name: found[name] for name in listed}


async def test_a_second_run_asks_only_what_is_new(asked_office, pupil):
    await over(asked_office, (await begun(asked_office, probes=4))["id"])
    found = await over(asked_office, (await begun(asked_office, probes=6))["id"])
    assert (found["graded"], found["answered"]) == (2, 6)
    assert len(pupil.asked) == 6


async def test_who_reads_that_one_is_over_can_begin_the_next(asked_office, monkeypatch):
    release = Lease.release

    def slowly(lease):
        time.sleep(0.3)  # the database has other things to do
        release(lease)

    monkeypatch.setattr(Lease, "release", slowly)
    await over(asked_office, (await begun(asked_office, probes=1))["id"])
    begun_at_once = await asyncio.gather(
        *(asked_office.post("/onboardings", json={"endpoint": "small", "probes": 2}) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in begun_at_once) == [200, 409]


async def test_money_is_a_limit(asked_site, asked_office):
    found = await over(asked_office, (await begun(asked_office, budget_usd=0.00005))["id"])
    assert found["state"] == "incomplete"
    assert "`budget_usd`" in found["why"]
    assert found["spent_nusd"] <= 50_000
    assert found["graded"] < 12


async def test_an_endpoint_that_fails_ends_it(asked_office, pupil):
    pupil.refuses = True
    found = await over(asked_office, (await begun(asked_office))["id"])
    assert (found["state"], found["graded"], found["interval"]) == ("incomplete", 0, None)
    assert "in a row failed" in found["why"]


async def test_it_can_be_stopped_and_only_one_runs(asked_office, pupil):
    pupil.pause_s = 0.2
    first = await begun(asked_office, probes=60)
    second = await asked_office.post("/onboardings", json={"endpoint": "small"})
    assert error_of(second, 409)["param"] == "endpoint"
    stopping = (await asked_office.delete(f"/onboardings/{first['id']}")).json()
    assert stopping["state"] in ("stopping", "stopped")
    found = await over(asked_office, first["id"])
    assert (found["state"], found["why"]) == ("stopped", "somebody stopped it")
    assert found["graded"] < 60
    pupil.pause_s = 0.0
    again = (await asked_office.delete(f"/onboardings/{first['id']}")).json()
    assert again["state"] == "stopped"
    assert (await over(asked_office, (await begun(asked_office, probes=1))["id"]))["state"] == "done"


async def test_one_that_nobody_goes_on_with_is_called_interrupted(asked_site, asked_office):
    rows = OnboardingRows(asked_site.ledger.engine)
    lost, wish = uuid4(), {"probes": 3, "budget_nusd": 10**9, "max_tokens": 50}
    rows.append(Step(onboarding_id=lost, number=0, endpoint="small", state="running", author="me", found=wish))
    assert (await asked_office.get(f"/onboardings/{lost}")).json()["state"] == "interrupted"
    elsewhere = Lease(asked_site.ledger.engine, "onboarding")
    assert elsewhere.take(60)
    assert (await asked_office.get(f"/onboardings/{lost}")).json()["state"] == "running"
    assert error_of(await asked_office.post("/onboardings", json={"endpoint": "small"}), 409)
    elsewhere.release()


async def test_the_gateway_stops_in_the_midst_of_it(start, office_of, pupil):
    pupil.pause_s = 0.5
    site = await start(endpoints=[endpoint("small", base_url=pupil.base_url), endpoint("mid")], over_http=True)
    office = await office_of(site)
    begun_id = (await begun(office, probes=60))["id"]
    onboarder = site.app.state.parts.onboarder
    await onboarder.aclose()
    state, steps = await asyncio.to_thread(onboarder.steps, UUID(begun_id))
    assert (state, steps[-1].found["stopped"]) == ("interrupted", "the gateway stopped")
    assert not Lease(site.ledger.engine, "onboarding").is_held()


async def test_the_learner_takes_the_answers_in(tmp_path, pupil):
    pool = [world.endpoint("newcomer", pupil.base_url)]
    named = {"default_endpoint": "newcomer", "training": {"outcomes": None}, "policy": {"name": "bandit"}}
    config = world.write_config(tmp_path, pool, embedder={"kind": "hashing"}, **named)
    built = await asyncio.to_thread(
        build, configuration.load(config), replay_url=None, progress=lambda _: nullcontext(lambda *_: None)
    )
    async with serving(built.app) as url:
        headers = {"authorization": f"Bearer {built.keys.create('operator', admin=True)}"}
        base = f"{url}/admin/api"
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False) as office:
            found = await over(office, (await begun(office, endpoint="newcomer"))["id"])
    assert found["state"] == "done"
    assert found["taught"]["bandit"] == "learned"
    (standing,) = found["standings"]
    assert standing["asked"] == 12
    assert 0 <= standing["expected"] <= 1


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "endpoint"),
        ({"endpoint": "nobody"}, 404, "endpoint"),
        ({"endpoint": "small", "probes": 0}, 400, "probes"),
        ({"endpoint": "small", "budget_usd": 0}, 400, "budget_usd"),
        ({"endpoint": "small", "max_tokens": 0}, 400, "max_tokens"),
        ({"endpoint": "small", "speed": 1}, 400, "speed"),
    ],
)
async def test_what_is_wrong_is_named(office, body, status, param):
    assert error_of(await office.post("/onboardings", json=body), status)["param"] == param


async def test_ids_are_checked_and_replays_refused(start, office_of):
    site = await start(endpoints=[endpoint("small", provider="replay"), endpoint("mid")])
    office = await office_of(site)
    assert error_of(await office.post("/onboardings", json={"endpoint": "small"}), 400)["param"] == "endpoint"
    for method in ("get", "delete"):
        assert error_of(await getattr(office, method)("/onboardings/no-id"), 400)["param"] == "id"
        assert error_of(await getattr(office, method)(f"/onboardings/{uuid4()}"), 404)["param"] == "id"


async def test_a_new_endpoint_is_checked_as_the_configuration_would_and_comes_back_as_yaml(site, office, monkeypatch):
    monkeypatch.setenv("NEW_KEY", "sk-very-secret")
    new = {"name": "fresh", "model": "maker/fresh", "base_url": "https://maker.example/v1", "api_key_env": "NEW_KEY"}
    answer = await office.post("/endpoints", json={**new, **PRICES})
    found = answer.json()
    assert (found["name"], found["api_key_is_set"], found["needs_restart"]) == ("fresh", True, True)
    assert "sk-very-secret" not in answer.text
    (read,) = yaml.safe_load(found["yaml"])["endpoints"]
    assert EndpointSettings.model_validate(read) == EndpointSettings.model_validate({**new, **PRICES})
    unset = (await office.post("/endpoints", json={**new, **PRICES, "api_key_env": "NO_SUCH_KEY"})).json()
    assert unset["api_key_is_set"] is False
    assert (await site.chat(EASY, model="fresh")).status_code == 404  # nothing was added


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": "small"}, "name"),
        ({"name": "knn"}, "name"),
        ({"name": "auto"}, "name"),
        ({"name": "no spaces"}, "name"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "replay"}, "base_url"),
        ({"api_key_env": "sk-this-is-a-key"}, "api_key_env"),
        ({"api_key": "sk-key"}, "api_key"),
        ({"price_input_usd_per_mtok": "-1"}, "price_input_usd_per_mtok"),
        ({"context_tokens_max": 0}, "context_tokens_max"),
    ],
)
async def test_what_is_wrong_with_a_new_endpoint_is_named(office, changes, param):
    body = {"name": "fresh", "model": "maker/fresh", **PRICES, **changes}
    answer = await office.post("/endpoints", json=body)
    assert error_of(answer, 400)["param"] == param
    assert "sk-" not in answer.text
