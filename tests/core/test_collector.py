"""In a process of its own: the collector is the whole process's."""

import subprocess
import sys

_PROGRAM = """
import gc
from router_gateway.core import collector

with collector.at_rest():
    assert not gc.isenabled()
    kept = [[] for _ in range(1_000)]
    collector.settle()
    assert gc.isenabled()
assert gc.isenabled()
assert gc.get_freeze_count() >= 1_000
assert gc.get_threshold() == (50_000, 20, 50)
class Cycle: pass
import weakref
cycle = Cycle(); cycle.itself = cycle; gone = weakref.ref(cycle); del cycle
more = [[] for _ in range(60_000)]
assert gone() is None, "what came after the start is collected"
"""


def test_it_rests_during_a_start_and_collects_only_what_comes_after():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
