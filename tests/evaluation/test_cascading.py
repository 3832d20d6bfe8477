import json

import numpy as np
import pytest
from typer.testing import CliRunner

from router_gateway.cli import app
from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.cascading import COINS, cascade_figures, table
from router_gateway.evaluation.command import Options, evaluate
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


def test_the_command_offers_them_beside_the_main_table(world, outcome_file, tmp_path):
    quick = ("--embedder", "hashing", "--backend", "threads", "--seeds", "2", "--protocols", "pooled")
    source, out = str(outcome_file(world(120))), tmp_path / "out"
    where = ("--out", str(out), "--cache", str(tmp_path / "cache"))
    asked = ("--policies", "best_on_average", "--cascades", "2", "--judge-error", "0.1")
    result = CliRunner().invoke(app, ["evaluate", source, *where, *quick, *asked], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "cascades offered, judge wrong in 10%" in result.output
    written = json.loads((out / "cascades.json").read_text())["made"]
    main = json.loads((out / "evaluation.json").read_text())["made"]
    assert written["zero"] == pytest.approx(main["zero"])
    assert written["oracle"] == pytest.approx(main["oracle"])
    assert written["rows"]["best_on_average"]["aiq"] == pytest.approx(main["policies"]["best_on_average"]["aiq"])


@pytest.mark.parametrize("options", [{"cascades": -1}, {"judge_error": 0.7}])
def test_options_that_make_no_sense_are_refused(options, tmp_path):
    with pytest.raises(ConfigError) as caught:
        evaluate([], Options(**options), out=tmp_path, progress=lambda _label: None)
    assert "--judge-error lie in [0, 0.5]" in str(caught.value.problems)
