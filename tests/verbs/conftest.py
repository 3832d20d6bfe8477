"""The console script on a small installation of its own."""

import os
import sys

import pytest

from router_gateway import cli

CONFIG = """
state_dir: {state}
embedder: {{kind: hashing}}
default_endpoint: small
endpoints:
  - {{name: small, model: m-small, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
"""


@pytest.fixture
def console(monkeypatch, capsys, tmp_path):
    """`console(*arguments)`: (exit code, stdout, stderr) of the console script, in the empty folder `tmp_path`."""
    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["router-gateway", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def command(console, tmp_path):
    """The same with CONFIG in that folder, and its state in `tmp_path`/state."""
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(state=tmp_path / "state"))
    return console
