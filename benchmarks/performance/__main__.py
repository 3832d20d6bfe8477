"""`make bench`: starts everyone, measures in turn, writes docs/results/performance.json and docs/performance.md.

Everything takes about eight minutes; `make bench ARGS="--only http --rounds 2 --seconds 1"` looks quickly, and
`make bench ARGS="--contenders direct,floor,routed,pinned"` leaves the peers out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from performance import contenders, machine, ours, parts, scripts, traffic
from performance.page import write_page
from performance.problems import BenchmarkError
from performance.server import upstream
from performance.versions import versions

SECTIONS = ("http", "sequential", "added", "parts", "decision")
_SLOW_SECTIONS = ("scale",)  # only where they are named
_WITHOUT_TRAFFIC = {"parts", "decision", "scale"}


def main() -> int:
    arguments = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    if not sys.platform.startswith("linux"):
        raise BenchmarkError("the benchmark needs Linux: it pins processes to cores and reads /proc")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends us as Ctrl-C does: nobody is left running
    cores = machine.two_cores()
    console.print(cores.said)
    started = time.perf_counter()
    results: dict[str, Any] = {
        "command": _command(arguments),
        "made": datetime.now(UTC).strftime("%Y-%m-%d"),
        "pinning": cores.said,
        "machine": machine.described(),
        "rounds": arguments.rounds,
        "seconds_per_run": arguments.seconds,
    }
    if "parts" in arguments.only:
        results["parts"] = parts.measure(cores, postgres=arguments.postgres, say=console.print)
    if "decision" in arguments.only:
        results["decision"] = scripts.decision(cores)
    if "scale" in arguments.only:
        results["scale"] = scripts.scale(cores)
    if set(arguments.only) - _WITHOUT_TRAFFIC:
        results |= _with_traffic(arguments, cores, console)
    results["versions"] = versions()
    results["took_s"] = round(time.perf_counter() - started)
    if arguments.to:
        arguments.to.parent.mkdir(parents=True, exist_ok=True)
        arguments.to.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        write_page(results, arguments.page)
    console.print(f"{results['took_s']} s")
    return 0


def _with_traffic(arguments: argparse.Namespace, cores: machine.Cores, console: Console) -> dict[str, Any]:
    choice = ours.Choice(embedder=arguments.embedder, policy=arguments.policy, rows=arguments.training_rows)
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="router-gateway-bench-")))
        port = stack.enter_context(upstream(cores))
        console.print("starting the contenders (a first time installs the peers, a few minutes)")
        opened, notes = contenders.open_all(
            arguments.contenders, upstream_port=port, cores=cores, directory=directory, choice=choice, stack=stack
        )
        for name, why in notes["left_out"].items():
            console.print(f"left out: {name}: {why}")
        found |= notes
        found["start"] = parts.started(opened)
        traffic.prepare(opened)
        if "http" in arguments.only:
            found["http"] = traffic.throughput(
                opened, rounds=arguments.rounds, seconds=arguments.seconds, say=console.print
            )
        if "sequential" in arguments.only:
            found["sequential"] = traffic.sequential(opened)
        if "added" in arguments.only:
            found["added_by_routing"] = traffic.added_by_routing(opened, rounds=arguments.rounds, say=console.print)
        found["decisions"] = traffic.decisions(opened)
    return found


def _names(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in allowed]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(allowed)}")
        return chosen

    return parse


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--only",
        type=_names(SECTIONS + _SLOW_SECTIONS),
        default=list(SECTIONS),
        help=", ".join(SECTIONS + _SLOW_SECTIONS),
    )
    parser.add_argument("--contenders", type=_names(contenders.ALL), default=list(contenders.ALL))
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run of the load generator")
    parser.add_argument("--embedder", help="kind; default: the gateway's default")
    parser.add_argument("--policy", help="default: the gateway's default")
    parser.add_argument("--training-rows", type=_positive, help="prompts that the policy learns from")
    parser.add_argument(
        "--postgres",
        default=os.environ.get("ROUTER_GATEWAY_TEST_POSTGRES_URL"),
        help="URL of a server on which a database may be made, for the ledger's writer",
    )
    parser.add_argument("--to", type=Path, help="JSON file")
    parser.add_argument("--page", type=Path, help="Markdown page; its pictures go to images/ beside it")
    return parser.parse_args()


def _command(arguments: argparse.Namespace) -> str:
    """What to type for the same run; where results go and a database's URL, which may hold a password, are left out."""
    said = {"only": ",".join(arguments.only), "contenders": ",".join(arguments.contenders)}
    for name in ("rounds", "seconds", "embedder", "policy", "training_rows"):
        said[name] = str(getattr(arguments, name))
    usual = {"only": ",".join(SECTIONS), "contenders": ",".join(contenders.ALL), "rounds": "5", "seconds": "1.5"}
    unusual = [f"--{k.replace('_', '-')} {v}" for k, v in said.items() if v != usual.get(k, "None")]
    return f"make bench ARGS='{' '.join(unusual)}'" if unusual else "make bench"


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
