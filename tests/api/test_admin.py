"""The admin API: who gets in, and what is read and changed there."""

import httpx
import pytest

from router_gateway import registry
from router_gateway.api import admin, admin_policies
from router_gateway.ledger.budgets import Budgets
from tests.api.building import EASY, error_of

OF_ONE = {"/budgets/history"}
"""Of one budget, which a question has to name: test_admin_budgets.py asks it."""

PATHS = sorted({path for method, path, _ in admin.ROUTES if method == "GET" and "{" not in path} - OF_ONE)


@pytest.mark.parametrize(("method", "path"), sorted({(m, p) for m, p, _ in admin.ROUTES}))
async def test_every_route_is_closed_to_strangers_and_to_ordinary_keys(site, method, path):
    url = f"/admin/api{path}".replace("{", "x").replace("}", "x")
    assert error_of(await site.client.request(method, url, json={}), 403)["code"] == "admin_key_required"
    assert error_of(await site.client.request(method, url, headers={"authorization": "Bearer rg-no"}), 401)
    async with httpx.AsyncClient(base_url=site.url, trust_env=False) as stranger:
        assert error_of(await stranger.request(method, url), 401)["code"] == "missing_api_key"


@pytest.mark.parametrize(("method", "path"), sorted({(m, p) for m, p, _ in admin.ROUTES if m != "GET"}))
async def test_a_viewer_changes_nothing(visitor, method, path):
    refused = error_of(await visitor.request(method, path.replace("{", "x").replace("}", "x"), json={}), 403)
    assert refused["code"] == "read_only_role"
    assert "role viewer" in refused["message"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_list_answers_an_admin(office, path):
    answer = await office.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_viewer_reads_what_an_admin_reads(visitor):
    for path in sorted(set(PATHS) - {"/audit", "/forecast"}):  # these two take a process and seconds each
        assert (await visitor.get(path)).status_code == 200, path


async def test_an_admins_key_is_an_ordinary_key_as_well(site, office):
    answer = await site.chat(EASY, headers=dict(office.headers))
    assert answer.status_code == 200


async def test_reports_say_what_was_spent(site, office):
    for _ in range(3):
        await site.chat(EASY)
    assert site.ledger.drain()
    for by in ("endpoint", "day", "tenant"):
        (row,) = (await office.get(f"/reports/{by}")).json()["data"]
        assert (row["requests"], row["attempts"], row["errors"]) == (3, 3, 0)
        assert row["cost_nusd"] > 0
        assert row["cost_usd"] == row["cost_nusd"] / 1e9
    assert (await office.get("/reports/tenant", params={"since": "2999-01-01"})).json()["data"] == []
    assert len((await office.get("/reports/day", params={"until": "2999-01-01T00:00:00Z"})).json()["data"]) == 1
    assert error_of(await office.get("/reports/month"), 400)["param"] == "by"
    assert error_of(await office.get("/reports/day", params={"since": "yesterday"}), 400)["param"] == "since"


async def test_endpoints_come_with_their_circuits_and_policies_with_what_serves(office):
    endpoints = (await office.get("/endpoints")).json()["data"]
    assert [(e["name"], e["circuit"], e["default"]) for e in endpoints] == [
        ("small", "closed", False),
        ("mid", "closed", True),
        ("large", "closed", False),
    ]
    policies = (await office.get("/policies")).json()["data"]
    assert [(p["name"], p["serving"], p["default"]) for p in policies] == [
        ("knn", "knn@1", True),
        ("best_on_average", "best_on_average@1", False),
    ]


async def test_policies_are_shown_with_the_parameters_that_they_run_with(office):
    (knn, _) = (await office.get("/policies")).json()["data"]
    assert knn["params"]["k"] == 3
    assert knn["guard"] == {"z": 0.0, "novelty_stddev_max": None}


async def test_kinds_of_policies_come_with_what_a_form_is_drawn_from(office):
    kinds = {row["name"]: row for row in (await office.get("/policies/kinds")).json()["data"]}
    assert set(kinds) == set(registry.available())
    knn = kinds["knn"]
    assert knn["parameters"]["properties"]["k"]["minimum"] == 1
    assert knn["defaults"] == registry.parameters(registry.create("knn"))
    assert knn["summary"].startswith("Quality of the nearest past queries")
    assert all(row["error"] is None for row in kinds.values())
    for name, row in kinds.items():  # what is said to be the default is one that the registry takes
        assert registry.parameters(registry.create(name, row["defaults"])) == registry.parameters(registry.create(name))


async def test_a_policy_that_cannot_be_imported_hides_no_other(office, monkeypatch, tmp_path):
    facts = tmp_path / "broken-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{registry.GROUP}]\nbroken = nowhere:Nothing\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    admin_policies._kinds.cache_clear()
    kinds = {row["name"]: row for row in (await office.get("/policies/kinds")).json()["data"]}
    admin_policies._kinds.cache_clear()
    assert "cannot be imported" in kinds["broken"]["error"]
    assert kinds["knn"]["error"] is None


async def test_budgets_are_listed_with_what_is_left(site, office):
    Budgets(site.ledger.engine).set("tenant", "acme", "day", 2_000_000_000)
    (row,) = (await office.get("/budgets")).json()["data"]
    assert (row["scope"], row["subject"], row["period"], row["limit_usd"]) == ("tenant", "acme", "day", 2.0)
    assert row["remaining_ratio"] == 1.0
