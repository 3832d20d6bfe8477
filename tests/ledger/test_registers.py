from __future__ import annotations

import pytest
from sqlalchemy import Engine

from router_gateway.ledger.registers import Registers


@pytest.fixture
def registers(engine: Engine) -> Registers:
    return Registers(engine)


def test_the_highest_version_of_a_name_is_the_latest_snapshot(registers: Registers) -> None:
    added = {
        version: registers.add_snapshot(name="knn", version=version, path=f"knn/{version}", embedding_space="space")
        for version in (1, 10, 2)
    }
    registers.add_snapshot(name="bandit", version=99, path="bandit/99", embedding_space="space", note="gate passed")
    assert registers.latest_snapshot("knn") == added[10]
    assert [row.version for row in registers.snapshots("knn")] == [10, 2, 1]
    assert registers.latest_snapshot("unknown") is None


def test_a_version_is_given_once(registers: Registers) -> None:
    registers.add_snapshot(name="knn", version=1, path="here", embedding_space="space")
    with pytest.raises(ValueError, match="knn@1 exists"):
        registers.add_snapshot(name="knn", version=1, path="there", embedding_space="space")
    latest = registers.latest_snapshot("knn")
    assert latest is not None
    assert latest.path == "here"
