"""The preset `bandit` with a budget, in the real process: spend follows the budget while feedback teaches it."""

from datetime import UTC, datetime

import httpx
import pytest

from router_gateway.ledger.tables import attempts, decisions
from tests.e2e import process, world
from tests.e2e.test_lifecycle import HASHING, eventually
from tests.loopback import http

USD = 0.0004  # between the medium and the large model's price of a call


@pytest.fixture
def config(tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    return world.write_config(
        tmp_path,
        pool,
        preset="bandit",
        server={"port": 0, "routing_deadline_ms": 30_000},  # a busy machine must not decide
        policy={"name": "bandit"},
        pacing={"usd": USD, "per": "request", "refresh_s": 0.1},
        learning={"interval_s": 0.1, "rows_min": 1, "settle_s": 0, "held_out_share": 0},
        **HASHING,
    )


def serve(gateway, rounds, worth):
    """Ask every prompt so often, and say what each answer was worth."""
    headers = {"authorization": f"Bearer {gateway.key}"}
    with httpx.Client(base_url=gateway.base_url, headers=headers, timeout=30, trust_env=False) as client:
        for each in world.recorded() * rounds:
            question = [{"role": "user", "content": each.prompt}]
            answer = client.post("/chat/completions", json={"model": "auto", "messages": question})
            assert answer.status_code == 200
            score = worth(each, answer.headers["x-router-model"])
            said = {"decision_id": answer.headers["x-router-decision-id"], "score": score}
            assert client.post("/feedback", json=said).status_code == 200


def as_recorded(each, model):
    return world._SCORES[each.difficulty][list(world.PRICES).index(model)]


def without_medium(each, model):
    return 0.05 if model == "medium" else as_recorded(each, model)


def metric(gateway, name):
    text = http.get(f"{gateway.base_url.removesuffix('/v1')}/metrics", timeout=30).text
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def rows(directory):
    """Decisions in order, each with what its tries came to in USD."""
    ledger = world.LedgerRows(f"sqlite:///{directory}/state/ledger.db")
    cost = {row["query_id"]: row["cost_nusd"] / 1e9 for row in ledger.all(attempts)}
    made = sorted(ledger.all(decisions), key=lambda row: row["at"])
    return [(row, cost.get(row["query_id"], 0.0)) for row in made]


def share(found, model):
    return sum(row["endpoint"] == model for row, _ in found) / len(found)


@pytest.fixture
def started(tmp_path, config):
    """`started()`: a gateway, stopped at the latest when the test ends."""
    running = []

    def start(**options):
        running.append(process.start(tmp_path, "--config", str(config), **options))
        return running[-1]

    yield start
    for gateway in running:
        if gateway.process.poll() is None:
            gateway.kill()


def test_spend_follows_the_budget_while_feedback_teaches_and_over_a_kill(tmp_path, started):
    gateway = started()
    serve(gateway, 2, as_recorded)
    assert eventually(lambda: metric(gateway, "router_pacing_spent_usd") > 0, within_s=30)
    dial = metric(gateway, "router_pacing_worth_usd")
    gateway.kill()
    first = rows(tmp_path)
    assert {row["rule"] for row, _ in first} == {"inverse_gap"}
    assert len({row["worth_usd"] for row, _ in first}) >= 3, "the dial moves, and the rows say where it stood"
    assert all(row["propensity"] == row["probability"][row["endpoints"].index(row["endpoint"])] for row, _ in first)
    assert sum(cost for _, cost in first) / len(first) == pytest.approx(USD, rel=0.25)

    again = started()
    assert metric(again, "router_pacing_worth_usd") == pytest.approx(dial, rel=1.0), "not where the file says: 0.02"

    def noticed():
        """How soon depends on how often medium is drawn, which is by chance."""
        serve(again, 1, without_medium)
        return "answers of medium are no longer what they were" in again.errors()

    assert any(noticed() for _ in range(5))
    serve(again, 2, without_medium)
    second = rows(tmp_path)[len(first) :]
    assert share(second[-60:], "medium") < 0.5 * share(first[-60:], "medium")
    late = second[-60:]  # by then it knows what the large one is good for, and pays back what finding out took
    assert 0.4 * USD < sum(cost for _, cost in late) / len(late) < 1.5 * USD
    assert metric(again, 'router_endpoint_changes_total{model="medium",policy="bandit"}') >= 1
    assert again.stop() == 0
    assert "Traceback" not in again.errors()


def test_a_budget_per_hour_is_shared_through_the_ledger(tmp_path, started):
    environment = {"ROUTER_GATEWAY__PACING__PER": "hour", "ROUTER_GATEWAY__PACING__USD": "1.0"}
    one, other = (started(environment=environment) for _ in range(2))
    serve(one, 1, as_recorded)

    def spent_by_both():
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        ledger = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
        return sum(row["cost_nusd"] for row in ledger.all(attempts) if row["at"] >= hour) / 1e9

    for gateway in (one, other):
        assert eventually(
            lambda gateway=gateway: (
                metric(gateway, "router_pacing_spent_usd") == pytest.approx(spent_by_both(), rel=1e-6, abs=1e-9)
            ),
            within_s=30,
        )
    assert one.stop() == other.stop() == 0
