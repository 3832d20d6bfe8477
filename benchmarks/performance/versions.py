"""What was measured, by version."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from performance import peers

_PACKAGES = ("router-gateway", "aiohttp", "fastapi", "httpx", "numpy", "onnxruntime", "starlette", "uvicorn", "uvloop")


def versions() -> dict[str, str | None]:
    """Packages of ours, pinned peers, the runtimes, and the commit with a "+" where files had been changed."""
    found: dict[str, str | None] = {name: version(name) for name in _PACKAGES}
    return found | {
        "litellm": peers.LITELLM,
        "portkey": peers.PORTKEY,
        "node": _said("node", "--version"),
        "compiler": (_said("cc", "--version") or "").partition("\n")[0] or None,
        "commit": _commit(),
    }


def _commit() -> str | None:
    commit = _said("git", "rev-parse", "--short", "HEAD")
    return commit and commit + ("+" if _said("git", "status", "--porcelain", "-uno") else "")


def _said(program: str, *arguments: str) -> str | None:
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() or None
