"""A gateway as its user starts it: the installed console script, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("router-gateway")
_START_S_MAX = 800.0


@dataclass(kw_only=True)
class GatewayProcess:
    """`lines` is what it printed up to its last word, "Ctrl-C stops everything."."""

    process: subprocess.Popen[str]
    stderr: Path
    lines: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return self._printed(r"Router Gateway is ready: (http://\S+)")

    @property
    def key(self) -> str:
        return self._printed(r"API key: (rg-\S+)")

    def errors(self) -> str:
        return self.stderr.read_text()

    def children(self) -> list[int]:
        listed = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 40.0) -> int:
        """Its exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """Ctrl-C."""
        self.signal(signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def _printed(self, pattern: str) -> str:
        found = re.search(pattern, "\n".join(self.lines))
        assert found is not None, self.lines
        return found.group(1)


def start(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None, usual_priority: bool = False
) -> GatewayProcess:
    """`router-gateway serve ARGUMENTS` with `directory` as its working directory, once it says that it is ready.

    usual_priority : 0, even if the tests run at a low one, where the system lets us raise it
    """
    raised = ["nice", "-n", str(-os.getpriority(os.PRIO_PROCESS, 0))] if usual_priority else []
    stderr = directory / "gateway.stderr"
    with stderr.open("a") as errors:
        process = subprocess.Popen(
            [*raised, PROGRAM, "serve", *arguments],
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    gateway = GatewayProcess(process=process, stderr=stderr)
    deadline = threading.Timer(_START_S_MAX, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                gateway.lines.append(line.rstrip("\n"))
                if line.startswith("Ctrl-C stops"):
                    return gateway
    finally:
        deadline.cancel()
    process.wait()
    raise AssertionError(f"the gateway did not start: {gateway.errors()[-3000:]}")


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1] not in ("", "Z")
