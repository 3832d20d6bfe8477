"""Real entry points of real installed folders; a subprocess wherever an import must be fresh."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from router_gateway import registry
from router_gateway.core.errors import BadParameters, DuplicatePolicy, PolicyError, UnknownPolicy

MODULE = """
from dataclasses import dataclass, field
from typing import Annotated, Literal
from annotated_types import Ge, Lt, doc

@dataclass(kw_only=True)
class Whole:
    '''A policy that does nothing,
    in two lines.

    And more.
    '''

    mode: Literal["fast", "slow"]
    weights: tuple[float, ...] = (1.0,)
    share: Annotated[float, Ge(0), Lt(1), doc("how much")] = 0.5
    names: list[str] = field(default_factory=list)

    def __post_init__(self):
        if self.mode == "slow" and self.share > 0.9:
            raise ValueError("slow needs a share of at most 0.9")

    fit = partial_fit = score = save = load = lambda self: None

@dataclass(kw_only=True)
class Half:
    def fit(self): ...

class Plain:
    fit = partial_fit = score = save = load = lambda self: None
"""


def install(folder: Path, distribution: str, entry_points: dict[str, str]) -> None:
    """A distribution as pip leaves it: a .dist-info folder beside its module."""
    info = folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    lines = "\n".join(f"{name} = {value}" for name, value in entry_points.items())
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{lines}\n")


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """The module above, installed for this test alone."""
    (tmp_path / "registry_plugin.py").write_text(MODULE)
    (tmp_path / "registry_plugin_broken.py").write_text("raise RuntimeError('out of order')\n")
    install(
        tmp_path,
        "plugin-one",
        {
            "whole": "registry_plugin:Whole",
            "half": "registry_plugin:Half",
            "plain": "registry_plugin:Plain",
            "absent": "registry_plugin:Missing",
            "broken": "registry_plugin_broken:Anything",
        },
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("registry_plugin", None)


def in_a_fresh_process(code: str, path: Path | None = None) -> Any:
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_listing_imports_neither_policies_nor_pydantic():
    code = """
import json, sys
from router_gateway import registry
names = list(registry.available())
print(json.dumps([names, [m for m in ("policies", "policies.knn", "faiss", "pydantic") if m in sys.modules]]))
"""
    names, loaded = in_a_fresh_process(code)
    assert {"best_on_average", "cheapest", "knn", "random"} <= set(names)
    assert loaded == []


def test_a_policy_is_listed_with_its_distribution(plugin):
    info = registry.available()["whole"]
    assert (info.name, info.distribution, info.version) == ("whole", "plugin-one", "1.5")
    assert "registry_plugin" not in sys.modules
    assert registry.available()["knn"].distribution == "router-gateway"


def test_describe_gives_the_schema_a_form_can_be_drawn_from(plugin):
    info = registry.describe("whole")
    assert info.summary == "A policy that does nothing, in two lines."
    assert info.parameters["required"] == ["mode"]
    assert info.parameters["additionalProperties"] is False
    share = info.parameters["properties"]["share"]
    assert (share["minimum"], share["exclusiveMaximum"], share["default"]) == (0, 1, 0.5)
    assert share["description"] == "how much"
    assert info.parameters["properties"]["mode"]["enum"] == ["fast", "slow"]


def test_every_built_in_parameter_is_explained():
    for name in ("best_on_average", "cheapest", "knn", "random"):
        for field, schema in registry.describe(name).parameters["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


def test_create_reads_plain_values(plugin):
    policy = registry.create("whole", {"mode": "fast", "weights": [1, 2], "share": 0})
    assert (policy.mode, policy.weights, policy.share, policy.names) == ("fast", (1.0, 2.0), 0.0, [])
    assert registry.create("knn").k == registry.create("knn", {}).k


def test_parameters_are_json_and_build_a_twin(plugin):
    policy = registry.create("whole", {"mode": "slow", "weights": [0.1]})
    values = registry.parameters(policy)
    assert values == {"mode": "slow", "weights": [0.1], "share": 0.5, "names": []}
    assert registry.create("whole", json.loads(json.dumps(values))) == policy


def test_every_mistake_is_named_at_once_with_its_path(plugin):
    with pytest.raises(BadParameters) as caught:
        registry.create("whole", {"share": 1.0, "weights": [1, "many"], "extra": 1})
    problems = dict(line.split(": ", 1) for line in str(caught.value).splitlines())
    assert set(problems) == {"whole.mode", "whole.share", "whole.weights.1", "whole.extra"}
    assert problems["whole.extra"] == "no such parameter"
    assert caught.value.hint == "parameters of whole: mode, weights, share, names"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "nan", "inf"])
@pytest.mark.parametrize("where", ["prior_weight", "sharpness"])
def test_numbers_must_be_finite(value, where):
    with pytest.raises(BadParameters, match=rf"knn\.{where}"):
        registry.create("knn", {where: value})


@pytest.mark.parametrize("params", [{"k": 0}, {"k": 1.5}, {"prior_weight": -1}, {"rows_max": 0}, {"sharpness": None}])
def test_constraints_of_the_annotations_hold(params):
    with pytest.raises(BadParameters, match=rf"^knn\.{next(iter(params))}: "):
        registry.create("knn", params)


def test_a_rule_between_parameters_is_a_bad_parameter_too(plugin):
    with pytest.raises(BadParameters, match=r"whole: slow needs a share of at most 0\.9"):
        registry.create("whole", {"mode": "slow", "share": 0.95})


def test_an_unknown_name_suggests_close_ones():
    with pytest.raises(UnknownPolicy, match="'kn'") as caught:
        registry.create("kn")
    assert "did you mean 'knn'?" in caught.value.hint
    with pytest.raises(UnknownPolicy) as caught:
        registry.describe("zzzzzz")
    assert ", ".join(registry.available()) in caught.value.hint


def test_what_is_installed_is_looked_at_once(plugin, monkeypatch):
    asked, look = [], registry.entry_points
    monkeypatch.setattr(registry, "entry_points", lambda **group: asked.append(group) or look(**group))
    for _ in range(3):
        registry.available()
        registry.describe("whole")
    assert asked == [{"group": registry.GROUP}]


def test_two_distributions_with_one_name_are_both_named(tmp_path, plugin):
    install(tmp_path / "second", "plugin-two", {"whole": "elsewhere:Whole"})
    sys.path.insert(0, str(tmp_path / "second"))
    try:
        with pytest.raises(DuplicatePolicy) as caught:
            registry.available()
    finally:
        sys.path.remove(str(tmp_path / "second"))
    assert "'whole'" in str(caught.value)
    assert "plugin-one 1.5" in str(caught.value)
    assert "plugin-two 1.5" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("half", "lacks partial_fit, score, save, load"),
        ("plain", "is not a dataclass"),
        ("absent", "AttributeError"),
        ("broken", "RuntimeError: out of order"),
    ],
)
def test_what_cannot_be_a_policy_names_its_distribution(plugin, name, says):
    with pytest.raises(PolicyError, match=says) as caught:
        registry.create(name)
    assert "plugin-one 1.5" in str(caught.value)


def test_the_documented_example_installs_and_keeps_the_contract(tmp_path):
    example = Path(__file__).parents[1] / "docs" / "examples" / "router-gateway-longest"
    assert sorted(path.name for path in example.iterdir() if not path.name.startswith("__")) == [
        "pyproject.toml",
        "router_gateway_longest.py",
    ]
    target, source = tmp_path / "target", tmp_path / "source"
    source.mkdir()
    for path in example.glob("*.*"):
        (source / path.name).write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True, timeout=240)
    code = """
import json
from router_gateway import registry
from router_gateway.testing import check_policy
info = registry.describe("longest")
policy = registry.create("longest", {"tokens_long": 200})
check_policy(lambda: registry.create("longest", {"tokens_long": 200}))
print(json.dumps([info.distribution, info.version, registry.parameters(policy), type(policy).__module__]))
"""
    assert in_a_fresh_process(code, target) == [
        "router-gateway-longest",
        "0.1.0",
        {"tokens_long": 200},
        "router_gateway_longest",
    ]
