"""Small rooms: a file or function past these bounds has a second job, or a reason written down here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60

REASONS: dict[str, str] = {}
"""`path` or `path:function` to the reason why it may be longer."""

FILES = sorted(path for package in ("router_gateway", "policies") for path in (ROOT / package).rglob("*.py"))


def too_long(name: str, text: str) -> dict[str, int]:
    """What exceeds its bound in one file, with its length in lines."""
    found = {}
    if (lines := len(text.splitlines())) > FILE_LINES_MAX:
        found[name] = lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                found[f"{name}:{node.name}"] = lines
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path: Path):
    name = path.relative_to(ROOT).as_posix()
    assert {k: v for k, v in too_long(name, path.read_text(encoding="utf-8")).items() if k not in REASONS} == {}


def test_every_exception_is_still_needed():
    needed = {key for path in FILES for key in too_long(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))}
    assert set(REASONS) <= needed
    assert all(len(reason) > 20 for reason in REASONS.values())


def test_the_ruler_measures():
    long_function = "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX
    assert too_long("m.py", long_function) == {"m.py:f": FUNCTION_LINES_MAX + 1}
    assert too_long("m.py", "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)) == {}
    assert too_long("m.py", "x = 1\n" * (FILE_LINES_MAX + 1)) == {"m.py": FILE_LINES_MAX + 1}
