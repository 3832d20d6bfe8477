"""What /metrics says of counts that are kept elsewhere, and of time."""

from contextlib import AsyncExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router_gateway.api.metrics import PrometheusMeter
from router_gateway.dispatch.echo import Echo
from tests.api.building import EASY, endpoint, running


def read(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counts_are_read_when_they_are_scraped_and_end_in_total():
    meter, lost = PrometheusMeter([]), {(): 0.0}
    meter.watch_counts("router_ledger_dropped", "rows", (), lambda: lost)
    assert read(meter.text().decode())[("router_ledger_dropped_total",)] == 0
    lost[()] = 3.0
    assert read(meter.text().decode())[("router_ledger_dropped_total",)] == 3


def test_counts_carry_their_labels():
    meter = PrometheusMeter([])
    meter.watch_counts("router_cache_requests", "look-ups", ("kind", "outcome"), lambda: {("embedding", "hit"): 5})
    assert 'router_cache_requests_total{kind="embedding",outcome="hit"} 5.0' in meter.text().decode()


def test_all_circuits_are_read_with_one_question():
    questions = 0

    def states():
        nonlocal questions
        questions += 1
        return {"a": 0, "b": 2}

    meter = PrometheusMeter([endpoint("a"), endpoint("b")])
    meter.watch_circuits(states)
    before = questions
    found = read(meter.text().decode())
    assert found[("router_circuit_state", "a")] == 0
    assert found[("router_circuit_state", "b")] == 2
    assert questions == before + 1


@pytest.fixture
async def site(tmp_path):
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running(tmp_path, echoes={"large": Echo(latency_s=0.3)}))


async def test_requests_are_timed_to_their_last_byte_refusals_included(site):
    await site.chat(EASY, model="large")
    await site.chat(EASY, model="large", stream=True)
    await site.chat(EASY, headers={"authorization": "Bearer wrong"})
    await site.client.get("/v1/models")
    found = read((await site.client.get("/metrics")).text)
    assert found["router_request_duration_seconds_count", "2xx", "chat"] == 2
    assert found["router_request_duration_seconds_sum", "2xx", "chat"] >= 0.6
    assert found["router_request_duration_seconds_count", "4xx", "chat"] == 1
