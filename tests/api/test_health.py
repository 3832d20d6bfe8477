"""Probes and metrics, and what must never show in them, in logs, in errors or in the ledger."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, HARD, PROVIDER_KEYS, endpoint, error_of, running
from tests.dispatch.conftest import error

SECRET_PROMPT = "The launch code is swordfish-7731."


@pytest.mark.parametrize("path", ["/health/liveness", "/health/live", "/health/liveliness", "/livez"])
async def test_it_is_alive(site, path):
    response = await site.client.get(path, headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/health/readiness", "/health/ready", "/readyz"])
async def test_it_is_ready(site, path):
    response = await site.client.get(path, headers={"authorization": ""})
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    site.missing.append("policy")
    response = await site.client.get(path)
    assert (response.status_code, response.json()) == (503, {"status": "not_ready", "missing": ["policy"]})
    assert response.headers["retry-after"]


@pytest.mark.parametrize("path", ["/health", "/healthz"])
async def test_it_is_healthy(site, path):
    assert (await site.client.get(path)).json() == {"status": "healthy"}
    assert site.echo.calls == []


@contextmanager
def taken_away(directory: Path) -> Iterator[None]:
    """The database unreadable, as a volume that is not mounted is; then as it was."""
    kept = directory / "kept"
    kept.mkdir()
    names = [path.name for path in directory.glob("ledger.db*")]
    for name in names:
        (directory / name).rename(kept / name)
    (directory / "ledger.db").mkdir()
    try:
        yield
    finally:
        (directory / "ledger.db").rmdir()
        for name in names:
            (kept / name).rename(directory / name)


async def test_without_its_database_it_is_not_ready_but_alive_and_still_serves_whom_it_knows(site):
    assert (await site.chat(EASY)).status_code == 200
    assert await asyncio.to_thread(site.ledger.drain)
    site.ledger.engine.dispose()
    site.auth.remember_s = 0.0
    with taken_away(site.directory):
        response = await site.client.get("/health/ready")
        assert (response.status_code, response.json()["missing"]) == (503, ["ledger"])
        assert (await site.client.get("/health/live")).status_code == 200
        served = await site.chat(EASY)
        assert served.status_code == 200
        stranger = await site.chat(EASY, headers={"authorization": "Bearer rg-stranger"})
        assert error_of(stranger, 503)["code"] == "ledger_unavailable"
        path = f"/v1/routing/decisions/{served.headers['x-router-decision-id']}"
        assert error_of(await site.client.get(path), 503)["code"] == "ledger_unavailable"
    assert (await site.record_of(served)).answered_by == "small"  # the journal had kept it
    assert (await site.client.get("/health/ready")).status_code == 200


def samples(text):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_count_requests_attempts_tokens_and_money(start):
    site = await start(echoes={"large": Echo(failure="refused")})
    await site.chat(EASY)
    await site.chat(HARD, stream=True)
    decision_id = (await site.chat(EASY, model="mid")).headers["x-router-decision-id"]
    await site.client.post("/v1/feedback", json={"decision_id": decision_id, "score": 1})
    await site.chat(EASY, model="large")
    response = await site.client.get("/metrics", headers={"authorization": ""})
    assert response.status_code == 200
    found = samples(response.text)

    def count(name, **labels):
        return found[name, tuple(sorted(labels.items()))]

    asked = {"api": "chat", "provider": "maker"}
    routed = {**asked, "policy": "knn@1", "status_class": "2xx"}
    assert count("router_requests_total", model="small", stream="false", **routed) == 1
    assert count("router_requests_total", model="mid", stream="true", **routed) == 1
    pinned = {**asked, "policy": "none", "stream": "false"}
    assert count("router_requests_total", model="mid", status_class="2xx", **pinned) == 1
    assert count("router_requests_total", model="large", status_class="5xx", **pinned) == 1
    assert count("router_decisions_total", policy="knn@1", model="large", reason="scored") == 1
    assert count("router_decisions_total", policy="none", model="mid", reason="pinned") == 1
    assert count("router_upstream_attempts_total", provider="maker", model="large", outcome="upstream_error") == 2
    assert count("router_upstream_attempts_total", provider="maker", model="mid", outcome="ok") == 2
    assert count("router_tokens_total", model="mid", direction="input", cache="miss") == 20
    assert count("router_cost_usd_total", model="small") == pytest.approx(10 * 0.1e-6 + 0.4e-6)
    assert count("router_feedback_total", source="user") == 1
    assert count("router_overhead_seconds_count", stage="total") == 4


async def test_requested_models_that_do_not_exist_are_no_labels(site):
    await site.chat(EASY, model="auto", routing={"ignore": ["*"]})
    await site.chat(EASY, model="no-such-model")
    text = (await site.client.get("/metrics")).text
    assert "no-such-model" not in text
    assert 'model="other"' in text


@pytest.mark.parametrize("store_text", [False, True])
async def test_prompts_and_secrets_show_nowhere(tmp_path, serve, caplog, store_text):
    """Every path that could quote them: answers, refusals, failures, odd upstreams, wrong keys."""
    caplog.set_level(logging.DEBUG)

    async def quotes(exchange):
        told = f"cannot answer {SECRET_PROMPT} for {exchange.headers.get('authorization')}"
        await exchange.respond_json(error("no", told), status=500)

    async def answers(exchange):
        await exchange.respond_json({"choices": [{"message": {"content": "ok"}}], "usage": {"prompt_tokens": 3}})

    bad, good = await serve(quotes), await serve(answers)
    pool = [endpoint("small", base_url=bad.base_url), endpoint("large", base_url=good.base_url)]
    shown = []
    async with running(tmp_path, endpoints=pool, over_http=True, store_text=store_text) as site:
        keys = [site.key, site.keys.create("second", tenant="tenant-name-4411")]
        for key in keys:
            site.client.headers["authorization"] = f"Bearer {key}"
            shown.append(await site.chat(SECRET_PROMPT))
            shown.append(await site.chat(SECRET_PROMPT, stream=True))
            shown.append(await site.chat(SECRET_PROMPT, model="small"))
            shown.append(await site.chat(SECRET_PROMPT, routing={"explain": True}))
            shown.append(await site.chat(SECRET_PROMPT, routing={"ignore": ["*"]}))
            shown.append(await site.client.post("/v1/routing/decide", json={"input": SECRET_PROMPT}))
            decision_id = shown[0].headers["x-router-decision-id"]
            shown.append(await site.client.get(f"/v1/routing/decisions/{decision_id}"))
        assert [r.status_code for r in shown[:3]] == [200, 503, 502]
        shown.append(await site.chat(SECRET_PROMPT, headers={"authorization": "Bearer rg-wrong-key-5512"}))
        shown.append(await site.client.get("/metrics"))
        on_disk = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert await asyncio.to_thread(site.ledger.drain)
    on_disk += b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    said = "".join(f"{response.headers}{response.text}" for response in shown)
    ours = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "httpx", "asyncio")))
    secrets = [*keys, *PROVIDER_KEYS.values(), "rg-wrong-key-5512"]
    for secret in secrets:
        assert secret not in said + ours
        assert secret.encode() not in on_disk
    assert "swordfish" not in said + ours
    assert (b"swordfish" in on_disk) is store_text
    assert "tenant-name-4411" not in shown[-1].text
