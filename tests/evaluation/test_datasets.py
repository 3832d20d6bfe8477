"""The manifest and the schema's documentation say what the code does."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from router_gateway.evaluation.outcomes import COLUMNS
from router_gateway.evaluation.starter import ACTIONS, DIFFICULTIES

DATASETS = Path(__file__).parents[2] / "datasets"
MANIFEST = tomllib.loads((DATASETS / "manifest.toml").read_text(encoding="utf-8"))["dataset"]
README = (DATASETS / "README.md").read_text(encoding="utf-8")
REQUIRED = {"name", "what", "address", "verified", "licence", "size", "converter"}


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_an_entry_says_all_it_must(entry):
    assert entry.keys() >= REQUIRED
    assert entry.keys() <= REQUIRED | {"code", "paper", "files"}
    assert isinstance(entry["verified"], bool)
    for link in ("address", "code", "paper"):
        assert entry.get(link, "https://").startswith("https://")
    for file in entry.get("files", ()):
        assert file.keys() == {"name", "sha256", "seen"}
        assert re.fullmatch("[0-9a-f]{64}", file["sha256"])


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["name"])
def test_every_named_converter_exists(entry):
    if entry["converter"] == "none yet":
        return
    module, _, function = entry["converter"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_names_differ_and_some_converter_is_named():
    names = [entry["name"] for entry in MANIFEST]
    assert len(set(names)) == len(names)
    assert sum(entry["converter"] != "none yet" for entry in MANIFEST) >= 2


def test_recorded_sums_are_those_of_the_installed_package():
    from hashlib import sha256

    from router_gateway.core.errors import ConfigError
    from router_gateway.evaluation.packaged import data_folder

    try:
        folder = data_folder()
    except ConfigError:
        pytest.skip("needs the demo extra")
    entry = next(entry for entry in MANIFEST if entry["name"] == "paretobandit")
    for file in entry["files"]:
        assert sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]


def test_readme_documents_every_column_and_label():
    for column in COLUMNS:
        row = next(line for line in README.splitlines() if line.startswith("|") and f"`{column.name}`" in line)
        assert ("may be missing" in row) == column.nullable, column.name
    for label in (*ACTIONS, *DIFFICULTIES):
        assert f"`{label}`" in README
