import numpy as np
import pytest

from router_gateway import registry
from router_gateway.evaluation.selection import GRIDS, select
from router_gateway.evaluation.sitting import Spec


def learnable(prepared, rows):
    chosen = np.zeros(prepared.table.quality.shape, dtype=bool)
    chosen[rows] = True
    return chosen & np.isfinite(prepared.table.quality)


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_of_parameters_the_policy_has(name):
    for key, values in GRIDS[name].items():
        for value in values:
            registry.create(name, {key: value})


def test_it_picks_what_is_better_inside_train(prepared_of, world, monkeypatch):
    """1,000 neighbours are everybody and know no task; 10 are of the query's own."""
    monkeypatch.setitem(GRIDS, "knn", {"k": (1_000, 10), "sharpness": (0.0,)})
    prepared = prepared_of(world(150))
    chosen = select(Spec(name="knn", label="knn"), prepared, learnable(prepared, np.arange(100)), seed=0)
    assert chosen.params == {"k": 10, "sharpness": 0.0}
    assert chosen.label == "knn"


def test_the_test_part_plays_no_part(prepared_of, world):
    rows = world(150)
    turned = [row | {"score": 1 - row["score"]} if int(row["sample_id"][1:]) >= 100 else row for row in rows]
    spec = Spec(name="linear", label="linear")
    chosen = [
        select(spec, prepared, learnable(prepared, np.arange(100)), seed=0).params
        for prepared in (prepared_of(rows, "one"), prepared_of(turned, "other"))
    ]
    assert chosen[0] == chosen[1]


def test_what_the_caller_set_stays(prepared_of, world):
    prepared = prepared_of(world(30))
    mask = learnable(prepared, np.arange(20))
    fixed = Spec(name="knn", label="knn:k=3", params={"k": 3})
    assert select(fixed, prepared, mask, seed=0) is fixed
    plain = Spec(name="best_on_average", label="best_on_average")
    assert select(plain, prepared, mask, seed=0) is plain
