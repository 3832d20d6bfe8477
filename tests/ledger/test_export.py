"""What a ledger exports, on both databases, through the command line."""

from __future__ import annotations

import csv
import json
import stat
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from router_gateway import cli
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Decision, Feedback, Query, Usage
from router_gateway.ledger import outcome_rows
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.outcome_rows import COLUMNS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
VECTOR = np.array([0.6, 0.8, 0.0]).astype(np.float16).astype(np.float32)
CONFIG = """
state_dir: {state}
ledger: {{url: "{url}"}}
embedder: {{kind: hashing}}
default_endpoint: a
endpoints:
  - {{name: a, model: m-a, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
"""


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal", store_text=True)
    yield ledger
    ledger.close()


def decide(ledger: Ledger, *, at: datetime = NOON, tenant: str = "default", policy: str = "knn@3") -> UUID:
    query = Query(id=uuid7(), text='a "quoted",\nline: ü', tokens_input=7, tenant=tenant, session="a" * 32)
    decision = Decision(
        query_id=query.id,
        at=at,
        endpoint="a",
        order=("a", "c"),
        propensity=0.75,
        endpoints=("a", "b", "c"),
        quality=(0.5, 0.5, 0.5),
        stddev=(0.1, 0.1, 0.1),
        cost_usd=(1e-6, 2e-6, 3e-6),
        probability=(0.75, 0.0, 0.25),
        eligible=(True, False, True),
        policy=policy,
        rule="epsilon_greedy",
        worth_usd=0.02,
        embedding_space="space",
        reason="scored",
    )
    ledger.record_decision(query, decision, requested_model="auto", embedding=VECTOR)
    return query.id


def answer(ledger: Ledger, query_id: UUID, endpoint: str = "a", number: int = 1, **changes: Any) -> None:
    usage = Usage(tokens_input=1, tokens_cached_input=2, tokens_cache_write=3, tokens_output=4, tokens_reasoning=5)
    values: dict[str, Any] = {"status": 200, "usage": usage, "cost_nusd": 2_500, "latency_ms": 1.5} | changes
    ledger.record_attempt(Attempt(query_id=query_id, number=number, at=NOON, endpoint=endpoint, **values))


def rate(ledger: Ledger, query_id: UUID, quality: float, source: Any = "user") -> None:
    said = Feedback(id=uuid7(), query_id=query_id, at=NOON, quality=quality, source=source, comment="secret words")
    ledger.record_feedback(said)


@pytest.fixture
def export(
    ledger: Ledger, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Runs `router-gateway ledger export` and reads the file back."""
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(state=tmp_path / "state", url=database_url))

    def run(*options: str, kind: str = "jsonl") -> list[dict[str, Any]]:
        assert ledger.drain()
        out = tmp_path / f"out.{kind}"
        command = ["router-gateway", "ledger", "export", "--out", str(out), "--config", str(config), *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert [path.name for path in tmp_path.glob(".*.tmp")] == []
        return read(out)

    return run


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]


def _cell(name: str, text: str) -> Any:
    if not text:
        return None
    return text if COLUMNS[name] == "text" else json.loads(text)


def test_one_row_per_attempt_with_everything_an_estimate_needs(ledger: Ledger, export: Any) -> None:
    query_id = decide(ledger)
    answer(ledger, query_id, "a", 1, status=503, usage=None, cost_nusd=0)
    answer(ledger, query_id, "c", 2)
    rate(ledger, query_id, 0.0)
    rate(ledger, query_id, 0.5)  # the same person's second word
    rate(ledger, query_id, 1.0, source="judge")
    failed, answered = export()
    assert list(answered) == list(COLUMNS)
    session = answered.pop("session")
    assert session != "a" * 32
    assert len(session) == 24
    assert answered == {
        "dataset": "ledger", "task": "auto", "sample_id": str(query_id), "prompt": 'a "quoted",\nline: ü',
        "model": "c", "score": 0.75, "cost_usd": 2.5e-6, "input_tokens": 6, "output_tokens": 9, "latency_ms": 1.5,
        "decision_id": str(query_id), "at": NOON.isoformat(), "attempt": 2, "status": 200, "policy": "knn@3",
        "rule": "epsilon_greedy", "worth_usd": 0.02, "drawn": "a", "propensity": 0.0, "candidates": ["a", "c"],
        "probability": [0.75, 0.25], "expected_cost_usd": [1e-6, 3e-6], "request_tokens": 7, "space": "space",
        "vector": VECTOR.tolist(), "arm": None, "experiment": None, "arm_share": None,
    }  # fmt: skip
    differing = {name for name in COLUMNS if name != "session" and failed[name] != answered[name]}
    assert differing >= {"model", "score", "attempt", "status", "propensity", "input_tokens"}
    assert (failed["model"], failed["score"], failed["propensity"], failed["input_tokens"]) == ("a", None, 0.75, None)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_every_format_says_the_same(ledger: Ledger, export: Any, kind: str) -> None:
    for rated in (True, False):
        query_id = decide(ledger)
        answer(ledger, query_id, usage=None)
        if rated:
            rate(ledger, query_id, 0.25)
    assert export(kind=kind) == export(kind="jsonl")


def test_filters(ledger: Ledger, export: Any) -> None:
    ids = {}
    for name, changes in {
        "early": {"at": NOON - timedelta(days=1)},
        "acme": {"tenant": "acme"},
        "other": {"policy": "knn_2@1"},
        "old": {"policy": "knn@2"},
    }.items():
        ids[name] = str(decide(ledger, **changes))  # type: ignore[arg-type]
        answer(ledger, UUID(ids[name]))

    def named(*options: str) -> set[str]:
        found = {row["decision_id"] for row in export(*options)}
        return {name for name, own in ids.items() if own in found}

    assert named() == {"early", "acme", "other", "old"}
    assert named("--tenant", "acme") == {"acme"}
    assert named("--policy", "knn") == {"early", "acme", "old"}
    assert named("--policy", "knn@2") == {"old"}
    assert named("--until", "2026-03-01T12:00:00") == {"early"}
    assert named("--since", "2026-03-01T12:00:00") == {"acme", "other", "old"}
    assert named("--since", "2027-01-01") == set()


def test_pages_lose_and_repeat_nothing(ledger: Ledger, export: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions of one instant are told apart by their ids."""
    monkeypatch.setattr(outcome_rows, "PAGE_DECISIONS", 3)
    ids = [decide(ledger, at=NOON + timedelta(seconds=i // 4)) for i in range(14)]
    for query_id in ids:
        answer(ledger, query_id)
    assert sorted(row["decision_id"] for row in export()) == sorted(map(str, ids))


def test_nothing_secret_leaves(ledger: Ledger, export: Any, tmp_path: Path) -> None:
    query_id = decide(ledger, tenant="acme-corporation")
    answer(ledger, query_id, error="upstream said sk-secret")
    rate(ledger, query_id, 1.0)
    assert len(export()) == 1
    written = (tmp_path / "out.jsonl").read_text()
    assert [word for word in ("acme-corporation", "sk-secret", "secret words", "a" * 32) if word in written] == []


def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(state=tmp_path / "state", url=f"sqlite:///{tmp_path}/none.db"))
    for out, message in (("out.xlsx", "cannot write"), ("out.csv", "there is no ledger yet")):
        command = ["router-gateway", "ledger", "export", "--out", str(tmp_path / out), "--config", str(config)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()
