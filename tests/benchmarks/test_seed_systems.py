"""The table of systems names policies that exist, and says of each what evaluation.json holds."""

import importlib.util
import json
from pathlib import Path

import pytest

from router_gateway import registry

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("seed_systems", ROOT / "benchmarks" / "seed_systems.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_row_is_of_an_installed_policy(script):
    named = {policy.partition(":")[0].partition("@")[0] for _, _, policy in script.SYSTEMS}
    for name in named:
        registry.policy_class(name)


def test_the_page_says_what_the_results_say(script):
    results = json.loads((ROOT / "docs" / "results" / "evaluation.json").read_text())
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    said = page.partition(script.BEGIN)[2].partition(script.END)[0].strip().splitlines()
    assert said == list(script.rows(results))


@pytest.mark.parametrize(("gain", "bold"), [(0.021, True), (0.019, False)])
def test_only_what_is_above_two_deviations_is_bold(script, gain, bold):
    figures = {"gap_closed": -0.012, "gap_closed_sd": 0.03, "gain": gain, "gain_sd": 0.01}
    assert script._closed(figures) == ("**−1.2 ± 3.0 %**" if bold else "−1.2 ± 3.0 %")
