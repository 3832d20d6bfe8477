"""What the folders promise: data is data, policies are registered, nothing of the checkout leaks onto the path."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from router_gateway.core.protocols import Policy

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "onnx", "onnxruntime", "sentence_transformers", "litellm", "faiss", "sqlalchemy", "fastapi")


def python(code: str) -> str:
    """What a fresh interpreter prints for `code`, started in the repository root but without it on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_datasets_holds_data_only():
    """An importable `datasets` would shadow Hugging Face's package of that name (docs/adr/0006)."""
    assert (ROOT / "datasets").is_dir()
    code = [path for path in (ROOT / "datasets").rglob("*") if path.suffix in {".py", ".pyc", ".pyi", ".so"}]
    assert code == []


def public_policies() -> set[str]:
    """`module:Class` of every policy class that a public module of policies/ defines, named without underscore."""
    found = set()
    for path in sorted((ROOT / "policies").glob("[!_]*.py")):
        module = importlib.import_module(f"policies.{path.stem}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == module.__name__ and issubclass(cls, Policy) and not name.startswith("_"):
                found.add(f"{module.__name__}:{name}")
    return found


def test_every_policy_has_an_entry_point_and_every_entry_point_a_policy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    registered = project["entry-points"]["router_gateway.policies"]
    assert set(registered.values()) == public_policies()
    assert len(set(registered.values())) == len(registered), "one name for each policy"


def test_the_cli_starts_light():
    """`router-gateway --help` must not wait for libraries that take seconds to import."""
    loaded = json.loads(python("import json, sys, router_gateway.cli; print(json.dumps(sorted(sys.modules)))"))
    assert "router_gateway.cli" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_what_only_fitting_needs_is_not_loaded_to_serve():
    """Naming a policy imports it; a gateway that finds its snapshot never fits. scikit-learn brings pandas along."""
    code = """
import json, sys
from importlib.metadata import entry_points
for policy in entry_points(group="router_gateway.policies"):
    policy.load()
import router_gateway.wiring
print(json.dumps(sorted(sys.modules)))
"""
    loaded = json.loads(python(code))
    assert "policies.clusters" in loaded
    assert [name for name in ("sklearn", "scipy", "pandas", "pyarrow", "joblib", "torch") if name in loaded] == []


@pytest.mark.parametrize("name", HEAVY)
def test_the_heavy_libraries_are_installed(name: str):
    """Otherwise the test above could not fail."""
    assert importlib.util.find_spec(name) is not None


def test_the_repository_root_is_not_on_the_path():
    """Two packages of the checkout can be imported and nothing else of it."""
    path = json.loads(python("import json, sys; print(json.dumps(sys.path))"))
    assert ROOT not in [Path(entry).resolve() for entry in path]
    names = sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir() and entry.name.isidentifier())
    assert {"datasets", "tests", "router_gateway", "policies"} <= set(names)
    code = f"""
import importlib.util, json
specs = {{name: importlib.util.find_spec(name) for name in {names!r}}}
places = {{name: [spec.origin or "", *(spec.submodule_search_locations or [])] for name, spec in specs.items() if spec}}
print(json.dumps(places))
"""
    places = json.loads(python(code))
    ours = {name for name, found in places.items() if any(_inside_checkout(place) for place in found)}
    assert ours <= {"router_gateway", "policies"}
    assert {"router_gateway", "policies"} <= set(places)


def _inside_checkout(place: str) -> bool:
    path = Path(place).resolve()
    return path.is_relative_to(ROOT) and "site-packages" not in path.parts
