import numpy as np
import pytest

from router_gateway.evaluation.cascading import COINS, cascade_figures, table
from router_gateway.evaluation.sitting import Spec, sit

SPECS = (Spec(name="linear", label="linear"), Spec(name="best_on_average", label="average"))


@pytest.fixture
def figures(world, prepared_of):
    prepared = prepared_of(world(240))

    def build(error, **more):
        found = cascade_figures(
            {"made": prepared}, more.pop("specs", SPECS), seeds=(0, 1), count=3, error=error, backend="threads", **more
        )
        return prepared, found["made"]

    return build


def test_zero_router_oracle_and_plain_policies_are_those_of_the_main_table(figures):
    prepared, found = figures(0.0)
    records = [sit(SPECS[0], prepared, protocol="pooled", seed=seed, variants={}) for seed in (0, 1)]
    parts = [record["parts"][""] for record in records]
    for key in ("zero", "oracle"):
        assert found[key] == pytest.approx(np.mean([part[key] for part in parts]))
    row = found["rows"]["linear"]
    assert row["aiq"] == pytest.approx(np.mean([part["aiq"] for part in parts]))
    assert row["gap_closed"] == pytest.approx(np.mean([part["gap_closed"] for part in parts]))


def test_a_perfect_judge_helps_and_never_past_the_oracle(figures):
    _, found = figures(0.0)
    assert found["offered"]
    assert all(">" in name and "@judge=perfect" in name for name in found["offered"])
    for row in found["rows"].values():
        assert row["difference"] > 0.02
        assert row["gap_closed_with"] <= 1.0
        assert row["aiq_with"] <= found["oracle"]
    assert found["rows"][COINS]["gap_closed"] == pytest.approx(0.0, abs=1e-12)


def test_a_worse_judge_helps_less(figures):
    _, perfect = figures(0.0)
    _, poor = figures(0.3)
    assert poor["rows"][COINS]["difference"] < perfect["rows"][COINS]["difference"]


def test_a_policy_that_raises_leaves_a_gap_in_the_table(figures):
    broken = Spec(name="linear", label="broken", params={"penalty": -1.0})
    _, found = figures(0.1, specs=(broken,))
    assert found["rows"]["broken"]["difference"] is None
    drawn = table("made", found)
    assert drawn.row_count == 2
    assert "judge wrong in 10%" in str(drawn.title)
