"""The admin API's playground: decisions that are only shown, and answers side by side with a person's verdict."""

import asyncio
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from router_gateway.dispatch.echo import Echo
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.connections import reading
from router_gateway.ledger.learnable import comparisons_past, experience_of
from router_gateway.ledger.tables import attempts, comparisons, decisions, feedback
from tests.api.building import EASY, HARD, error_of


def rows_of(site, table):
    assert site.ledger.drain()
    with reading(site.ledger.engine) as connection:
        return connection.execute(select(table)).all()


async def compared(site, office, **changes):
    site.echo.echoes |= {"small": Echo(text="from small"), "large": Echo(text="from large")}
    body = {"prompt": EASY, "endpoints": ["small", "large"], **changes}
    answer = await office.post("/compare", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_decision_is_explained_and_nothing_is_called_or_written(site, office):
    found = (await office.post("/decide", json={"prompt": HARD, "worth_usd": 0.5})).json()
    assert (found["endpoint"], found["worth_usd"], found["policy"]) == ("large", 0.5, "knn@1")
    for row in found["candidates"]:
        assert row["quality_low"] <= row["quality"] <= row["quality_high"]
        assert row["value"] == pytest.approx(row["quality"] - row["cost_usd"] / 0.5)
        assert row["barred_by"] == []
    best = max(found["candidates"], key=lambda row: row["value"])
    assert best["endpoint"] == found["endpoint"]
    assert found["neighbours"]
    assert site.echo.calls == []
    assert set((await site.rows()).values()) == {0}


async def test_a_decision_tells_who_is_barred_by_what(site, office):
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": EASY}, *picture]}]}
    found = (await office.post("/decide", json=body)).json()
    assert {row["endpoint"]: row["barred_by"] for row in found["candidates"]} == {
        "small": ["capability"],
        "mid": ["capability"],
        "large": [],
    }


async def test_a_decision_of_another_policy_and_of_a_pinned_model(site, office):
    other = (await office.post("/decide", json={"prompt": EASY, "policy": "best_on_average"})).json()
    assert other["policy"] == "best_on_average@1"
    pinned = (await office.post("/decide", json={"prompt": EASY, "model": "small"})).json()
    assert (pinned["endpoint"], pinned["reason"], pinned["propensity"]) == ("small", "pinned", 0.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"prompt": "", "policy": "knn"}, "prompt"),
        ({"prompt": "x", "messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"prompt": "x", "policy": "no-such"}, "policy"),
        ({"prompt": "x", "model": "no-such"}, "model"),
        ({"prompt": "x", "worth_usd": 0}, "worth_usd"),
        ({"prompt": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "x", "temperature": 1}, "temperature"),
    ],
)
async def test_what_is_wrong_with_a_decision_is_named(office, body, param):
    answer = await office.post("/decide", json=body)
    assert error_of(answer, answer.status_code)["param"] == param
    assert answer.status_code in (400, 404)


async def test_two_answers_come_without_names_and_are_booked_like_any_other(site, office):
    found = await compared(site, office, max_tokens=77)
    assert found["endpoints"] == ["large", "small"]
    assert [each["position"] for each in found["answers"]] == ["A", "B"]
    assert {each["text"] for each in found["answers"]} == {"from small", "from large"}
    assert all("endpoint" not in each and each["error"] is None for each in found["answers"])
    assert all(call.body["max_tokens"] == 77 for _, call in site.echo.calls)
    rows = rows_of(site, decisions)
    assert {(row.endpoint, row.reason, row.propensity, row.requested_model) for row in rows} == {
        ("small", "pinned", 0.0, "compare"),
        ("large", "pinned", 0.0, "compare"),
    }
    assert all(row.embedding is not None and row.tenant == "default" for row in rows)
    tried = rows_of(site, attempts)
    assert sorted(row.cost_nusd for row in tried) == sorted(each["cost_nusd"] for each in found["answers"])
    assert all(row.cost_nusd > 0 for row in tried)


async def test_the_order_is_drawn(site, office):
    firsts = set()
    for _ in range(40):  # all alike by chance: once in 2^39
        firsts.add((await compared(site, office))["answers"][0]["text"])
        if len(firsts) == 2:
            break
    assert firsts == {"from small", "from large"}


@pytest.mark.parametrize("verdict", ["A", "B"])
async def test_a_verdict_is_a_comparison_that_is_learned_from(site, office, verdict):
    found = await compared(site, office)
    texts = {each["position"]: each["text"].removeprefix("from ") for each in found["answers"]}
    told = (await office.post(f"/compare/{found['id']}/verdict", json={"verdict": verdict})).json()
    assert (told["status"], told["verdict"], told["endpoints"]) == ("recorded", verdict, texts)
    (row,) = rows_of(site, comparisons)
    assert (row.better, row.worse) == (texts[verdict], texts["B" if verdict == "A" else "A"])
    assert (row.source, row.tenant, str(row.id)) == ("user", "default", told["feedback_ids"][0])
    with reading(site.ledger.engine) as connection:
        said = connection.execute(comparisons_past(0, 10)).all()
    learned = experience_of([], said, site.gateway.router(None).space)
    ((_, better, worse),) = learned.comparisons.tolist()
    assert (learned.endpoints[better], learned.endpoints[worse]) == (row.better, row.worse)
    assert rows_of(site, feedback) == []


async def test_a_tie_counts_once_each_way(site, office):
    found = await compared(site, office)
    await office.post(f"/compare/{found['id']}/verdict", json={"verdict": "tie"})
    assert {(row.better, row.worse) for row in rows_of(site, comparisons)} == {("small", "large"), ("large", "small")}


async def test_both_bad_is_a_score_for_both(site, office):
    found = await compared(site, office)
    await office.post(f"/compare/{found['id']}/verdict", json={"verdict": "both_bad"})
    assert rows_of(site, comparisons) == []
    said = rows_of(site, feedback)
    assert {row.query_id for row in said} == {row.query_id for row in rows_of(site, decisions)}
    assert [(row.quality, row.source) for row in said] == [(0.0, "user")] * 2


async def test_a_verdict_is_given_once_and_can_be_taken_back(site, office):
    found = await compared(site, office)
    path = f"/compare/{found['id']}/verdict"
    first, again = await asyncio.gather(*(office.post(path, json={"verdict": "A"}) for _ in range(2)))
    assert first.json() == again.json()
    assert len(rows_of(site, comparisons)) == 1
    assert error_of(await office.post(path, json={"verdict": "B"}), 409)["param"] == "verdict"
    taken_back = await site.client.delete(f"/v1/feedback/{first.json()['feedback_ids'][0]}")
    assert taken_back.status_code == 200
    assert site.ledger.drain()
    assert error_of(await office.post(path, json={"verdict": "A"}), 409)["param"] == "verdict"
    assert (await office.post(path, json={"verdict": "B"})).status_code == 200
    assert len(rows_of(site, comparisons)) == 2


async def test_where_one_fails_there_is_nothing_to_compare(site, office):
    site.echo.echoes["large"] = Echo(failure="refused")
    found = (await office.post("/compare", json={"prompt": EASY, "endpoints": ["small", "large"]})).json()
    failed = [each for each in found["answers"] if each["error"]]
    assert [each["text"] for each in failed] == [None]
    assert error_of(await office.post(f"/compare/{found['id']}/verdict", json={"verdict": "A"}), 409)["param"] == "id"
    site.echo.echoes["small"] = Echo(failure="refused")
    both = await office.post("/compare", json={"prompt": EASY, "endpoints": ["small", "large"]})
    assert error_of(both, 502)


async def test_budgets_bind_comparisons(site, office):
    Budgets(site.ledger.engine).set("tenant", "default", "day", 1)
    await asyncio.to_thread(site.gateway.budgets.refresh)
    answer = await office.post("/compare", json={"prompt": EASY, "endpoints": ["small", "large"]})
    assert error_of(answer, 402)["code"] == "budget_exceeded"
    assert site.echo.calls == []
    with reading(site.ledger.engine) as connection:
        assert connection.execute(select(func.count()).select_from(attempts)).scalar_one() == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": "x"}, "endpoints"),
        ({"prompt": "x", "endpoints": ["small"]}, "endpoints"),
        ({"prompt": "x", "endpoints": ["small", "nobody"]}, "endpoints.1"),
        ({"prompt": "x", "endpoints": ["small", "small"]}, "endpoints.1"),
        ({"endpoints": ["small", "large"]}, "messages"),
        ({"prompt": "x", "endpoints": ["small", "large"], "max_tokens": 10**6}, "max_tokens"),
    ],
)
async def test_what_is_wrong_with_a_comparison_is_named(office, body, param):
    assert error_of(await office.post("/compare", json=body), 400)["param"] == param


async def test_what_is_wrong_with_a_verdict_is_named(site, office):
    assert error_of(await office.post("/compare/no-id/verdict", json={"verdict": "A"}), 400)["param"] == "id"
    assert error_of(await office.post(f"/compare/{uuid4()}/verdict", json={"verdict": "A"}), 404)["param"] == "id"
    found = await compared(site, office)
    answer = await office.post(f"/compare/{found['id']}/verdict", json={"verdict": "C"})
    assert error_of(answer, 400)["param"] == "verdict"
