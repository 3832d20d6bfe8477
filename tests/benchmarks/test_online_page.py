"""The tables of benchmarks/online_page.py."""

import json
from pathlib import Path

import pytest
from rich.console import Console

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import online_page

    return online_page


def row(learner: str, seed: int, reward: float) -> dict[str, object]:
    return {
        "learner": learner,
        "budget": "tight",
        "known": True,
        "seed": seed,
        "reward": reward,
        "spend_of_budget": 1.0,
        "over_zero_at_spend": 0.01,
        "zero_at_budget": 0.5,
        "regret_to_oracle": 7.0,
        "decide_ms": 1.0,
        "learn_ms": 0.5,
    }


def test_learners_are_compared_seed_by_seed(page, tmp_path: Path):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    rows = [row("peer", 1, 0.6), row("gateway", 0, 0.7), row("peer", 0, 0.6), row("gateway", 1, 0.8)]
    (results / "online.json").write_text(json.dumps({"compared": rows}))
    (results.parent / "online.md").write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.write_page(results, Console(quiet=True))
    text = (results.parent / "online.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| gateway | 0.7500 ± 0.0980 | 1.000 (1.00 to 1.00) |" in text
    assert "| +0.1500 ± 0.0980 | 7 | 1.50 |" in text  # of the gateway over the peer
    assert "Zero router at the budget: 0.5000." in text


def test_learners_run_apart_are_compared_on_the_seeds_that_both_saw(page, tmp_path: Path):
    rows = [
        row("gateway", 0, 0.7),
        row("peer", 0, 0.6),
        row("peer", 1, 0.1),
        {**row("stranger", 2, 0.3), "known": False},
    ]
    (tmp_path / "online.json").write_text(json.dumps({"compared": rows}))
    console = Console(record=True, width=200)
    page.write_page(tmp_path, console)
    text = console.export_text()
    assert "| +0.1000 ± 0.0000 | 7 | 1.50 |" in text
    assert "| stranger | 0.3000 ± 0.0000 | 1.000 (1.00 to 1.00) | +0.0100 ± 0.0000 |  | 7 | 1.50 |" in text
    assert text.count("Zero router at the budget: 0.5000.") == 2


def test_an_event_nobody_recovers_from_is_never(page, tmp_path: Path):
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    facts = {"reward_next_200": 0.5, "reward_after": 0.5, "spend_of_budget_after": 1.0, "event": "failure"}
    events = [
        {"learner": "gateway", "seed": s, "recovered_after": t, **facts} for s, t in ((0, 60), (1, None), (2, None))
    ]
    (results / "online.json").write_text(json.dumps({"events": events}))
    console = Console(record=True, width=200)
    page.write_page(results, console)
    assert "| failure | gateway | never | 1 of 3 |" in console.export_text()
