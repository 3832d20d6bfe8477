from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def performance(monkeypatch: pytest.MonkeyPatch) -> None:
    """`import performance` works: the benchmark's folder is on the path only where it is asked for."""
    monkeypatch.syspath_prepend(BENCHMARKS)
