import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from router_gateway.core.process import is_gone, process_name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")

SAYS_ITS_NAME = "from router_gateway.core.process import process_name; print(process_name())"
ENDS_WITH_ITS_PARENT = """
import sys, time
from router_gateway.core.process import end_with_parent
end_with_parent()
print("up", flush=True)
time.sleep(float(sys.argv[1]))
"""


def one_with_a_parent(lives_s: float) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", ENDS_WITH_ITS_PARENT, str(lives_s)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def of_one_that_ended() -> str:
    command = [sys.executable, "-P", "-c", SAYS_ITS_NAME]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_one_that_runs_is_not_gone() -> None:
    assert process_name()
    assert not is_gone(process_name())


def test_one_that_ended_is_gone() -> None:
    assert is_gone(of_one_that_ended())


def test_one_whose_number_was_given_again_is_gone() -> None:
    place, pid, begun = process_name().rsplit("/", 2)
    assert pid == str(os.getpid())
    assert is_gone(f"{place}/{pid}/{int(begun) - 1}")


@pytest.mark.parametrize("place", ["", "another boot"])
def test_nothing_is_known_of_one_elsewhere(place: str) -> None:
    assert not is_gone(f"{place}/{'/'.join(of_one_that_ended().rsplit('/', 2)[1:])}")


@pytest.mark.parametrize("name", ["", "/", "//", "0123456789abcdef", "a/b/c"])
def test_words_that_name_no_process_prove_nothing(name: str) -> None:
    assert not is_gone(name)


def test_the_first_process_is_there_whoever_looks() -> None:
    place = process_name().rsplit("/", 2)[0]
    begun = Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]
    assert not is_gone(f"{place}/1/{begun}")


def test_it_ends_with_its_parent() -> None:
    with one_with_a_parent(lives_s=600) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"up\n"
        child.stdin.close()
        assert child.wait(60) == -signal.SIGTERM


def test_it_may_end_before_its_parent() -> None:
    with one_with_a_parent(lives_s=0) as child:
        assert child.stderr is not None
        assert (child.wait(60), child.stderr.read()) == (0, b"")
