"""The verbs of candidates, on a small installation of its own."""

import json
from functools import partial

import pytest

from router_gateway.core.errors import RequestError
from router_gateway.learning.snapshots import Snapshots
from router_gateway.verbs.releasing import _margin
from tests.e2e import world


@pytest.fixture
def run(command):
    """`run(*arguments)`: what `router-gateway lifecycle` did."""
    return partial(command, "lifecycle")


def test_a_candidate_goes_all_the_way_by_hand(run):
    rule = '{"name": "epsilon_greedy", "epsilon": 0.1}'
    code, said, _ = run("draft", "bold", "--rule", rule, "--optimism", "1", "--margin", "cost=none", "--author", "ada")
    assert code == 0
    assert "bold: draft, for clusters, of the configured policy with" in said
    for verb, state in (
        (("shadow",), "shadow"),
        (("canary", "--share", "0.05"), "canary of 5% of the traffic"),
        (("promote", "--note", "looks good"), "canary of 25% of the traffic"),
        (("promote",), "live"),
        (("rollback",), "rolled back"),
        (("retire",), "retired"),
    ):
        name, *options = verb
        assert run(name, "bold", *options)[1].startswith(f"bold: {state};")
    trail = json.loads(run("trail", "bold", "--json")[1])
    assert [row["state"] for row in trail] == ["retired", "rolled_back", "live", "canary", "canary", "shadow", "draft"]
    assert (trail[-1]["author"], trail[3]["note"]) == ("ada", "looks good")
    (row,) = json.loads(run("list", "--json")[1])
    assert row["changes"] == {"rule": {"name": "epsilon_greedy", "epsilon": 0.1}, "optimism": 1.0}
    assert (row["margins"], row["state"]) == ({"cost": None}, "retired")
    for words in ("bold", "clusters", "retired"):
        assert words in run("list")[1]
        assert words in run("trail")[1]
    assert "bold is retired" in run("evidence", "bold")[1]


def test_a_canary_without_traffic_has_no_evidence_yet(run):
    run("draft", "bold", "--worth-usd", "1")
    run("canary", "bold")
    shown = run("evidence", "bold")[1]
    assert "quality has 0 of 50 blocks" in shown
    found = json.loads(run("evidence", "bold", "--json")[1])
    assert found["canary"]["verdict"]["action"] == "wait"
    assert [each["finding"] for each in found["canary"]["measures"]] == ["open"] * 4


def test_another_policy_with_parameters_of_its_own_is_fitted(run, tmp_path):
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    with (tmp_path / "gateway.yaml").open("a") as file:
        file.write(f"training: {{outcomes: '{tmp_path}/outcomes.jsonl:train'}}\n")
    code, said, told = run("draft", "wide", "--kind", "knn", "--params", '{"k": 7}')
    assert (code, said) == (0, "wide: draft, for clusters, of knn@2\n"), told
    home = Snapshots(tmp_path / "state" / "snapshots" / ".candidates" / "wide")
    assert [(each.name, each.version, each.params["k"]) for each in home.list()] == [("knn", 1, 7), ("knn", 2, 7)]
    assert not (tmp_path / "state" / "snapshots" / "knn").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["draft", "x"], "needs a snapshot or a change"),
        (["draft", "x", "--worth-usd", "-1"], "changes.worth_usd"),
        (["draft", "x", "--rule", "greedy"], "--rule is no JSON"),
        (["draft", "x", "--rule", '{"name": "thompson"}'], "changes.rule"),
        (["draft", "x", "--worth-usd", "1", "--margin", "speed=1"], "margins.speed"),
        (["draft", "x", "--worth-usd", "1", "--policy", "nobody"], "'nobody' is not configured here"),
        (["draft", "x", "--snapshot", "clusters@7"], "no snapshot of 'clusters' with version 7"),
        (["draft", "x", "--params", "[]"], "--params must be a JSON object"),
        (["draft", "x", "--params", '{"clusters": 0}'], "clusters.clusters"),
        (["draft", "x", "--kind", "nobody"], "no installed distribution registers a policy 'nobody'"),
        (["draft", "x", "--kind", "knn"], "nothing to fit on"),
        (["draft", "x", "--kind", "knn", "--snapshot", "knn"], "not both"),
        (["canary", "x"], "no candidate 'x'"),
        (["evidence", "x"], "no candidate 'x'"),
    ],
)
def test_mistakes_are_told(run, arguments, told):
    code, _, errors = run(*arguments)
    assert code == 1
    assert told in errors


def test_margins_are_numbers_or_none():
    assert _margin("cost=0.2") == ("cost", 0.2)
    assert _margin("cost=none") == ("cost", None)
    with pytest.raises(RequestError, match=r"quality=0\.05"):
        _margin("cost")
