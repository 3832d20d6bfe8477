"""The peers: pinned, installed from their registries into the cache, started as their documentation says.

They are not part of this project. One that cannot be installed or started is left out, with the reason in the results.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from performance.machine import Cores, free_port
from performance.native import cache
from performance.problems import BenchmarkError
from performance.server import Server, start

LITELLM = "1.106.2"
PORTKEY = "1.15.2"
_INSTALL_S_MAX = 900


def litellm(upstream_port: int, cores: Cores, directory: Path) -> tuple[Server, str, dict[str, str]]:
    """LiteLLM's proxy: one model, a master key, no database, quiet; returns server, model and headers."""
    program = _installed_litellm()
    key, port = f"sk-{secrets.token_hex(16)}", free_port()
    settings = {
        "model_list": [
            {
                "model_name": "bench",
                "litellm_params": {
                    "model": "openai/stub",
                    "api_base": f"http://127.0.0.1:{upstream_port}/v1",
                    "api_key": "none",
                },
            }
        ],
        "general_settings": {"master_key": key},
    }
    config = directory / "litellm.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    headers = {"Authorization": f"Bearer {key}"}
    server = start(
        "litellm",
        [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"],
        port=port,
        model="bench",
        headers=headers,
        cores=cores,
        directory=directory,
        environment={"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    return server, "bench", headers


def portkey(upstream_port: int, cores: Cores, directory: Path) -> tuple[Server, str, dict[str, str]]:
    """Portkey's gateway on node, sent to the upstream by its own headers; returns server, model and headers."""
    program, port = _installed_portkey(), free_port()
    headers = {
        "Authorization": "Bearer none",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1",
    }
    node = shutil.which("node")
    assert node is not None  # npm, which installed it, is node
    server = start(
        "portkey",
        [node, str(program), f"--port={port}", "--headless"],
        port=port,
        model="stub",
        headers=headers,
        cores=cores,
        directory=directory,
        environment={"NODE_ENV": "production"},
    )
    return server, "stub", headers


def _installed_litellm() -> Path:
    folder = cache() / f"litellm-{LITELLM}"
    program = folder / "bin" / "litellm"
    if not (folder / "installed").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "-q", f"litellm[proxy]=={LITELLM}"])
        (folder / "installed").touch()
    return program


def _installed_portkey() -> Path:
    folder = cache() / f"portkey-{PORTKEY}"
    if not (folder / "installed").exists():
        npm = shutil.which("npm")
        if npm is None:
            raise BenchmarkError("Portkey needs node and npm, which are not installed")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        _run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), f"@portkey-ai/gateway@{PORTKEY}"])
        (folder / "installed").touch()
    return folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}")
