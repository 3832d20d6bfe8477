"""The chaos run in short: database stopped, a kill -9, a full disk; then all is counted. `make chaos` is longer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.postgres
def test_nothing_is_lost_or_counted_twice_whatever_breaks():
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not on the path: no cluster of our own to stop")
    run = [sys.executable, "-P", BENCHMARKS / "chaos.py", "--outage-s", "3", "--kills", "1", "--between-s", "1.5"]
    done = subprocess.run(
        [*run, "--full-s", "2.5", "--clients", "4"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert {name for name, holds in found["promises"].items() if not holds} == set(), found
    assert done.returncode == 0
    assert found["counted"]["answered whole"] > 20
