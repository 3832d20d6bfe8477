"""`PYTHONPATH=benchmarks python -P benchmarks/request_path.py`: where a request's processor time goes, stage by stage.

The gateway of `make bench` (same configuration, same upstream in C) without its web server: requests are handed to the
application in this process, one after another, and the event loop's thread is clocked (`time.thread_time`), so waiting
does not count and neither does the ledger's writer. Every stage is run by itself, many times in a row; the whole runs
them in turn, so that each finds the processor's caches full of the others' things, and is more than their sum.
Microseconds a request, the least of forty rounds; and calls of functions a request, which other work on the machine
hardly changes. Writes JSON with `--out FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop
from performance import machine, ours
from performance.server import upstream
from performance.texts import texts
from performance.wire import PATH, body
from yarl import URL

from router_gateway import config as configuration
from router_gateway import wiring
from router_gateway.api import wire
from router_gateway.api.ask import build_ask
from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.dispatch.connections import Connections
from router_gateway.dispatch.upstream import Call

_ROUNDS = 40  # short ones: on a machine that others use, too, some pass undisturbed
_WARM_UP = 300
_COUNTED = 200
_JSON = {"content-type": "application/json", "accept": "application/json"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=50, help="of each round")
    parser.add_argument("--rows", type=int, default=30_000, help="prompts that the policy learns from")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    cores = machine.two_cores()
    with tempfile.TemporaryDirectory() as directory, upstream(cores) as port:
        if cores.proxy is not None:
            os.sched_setaffinity(0, {cores.proxy})
        path, _ = ours.configure(Path(directory), port, ours.Choice(rows=arguments.rows))
        built = wiring.build(configuration.load(path), replay_url=None, progress=_silently)
        found, calls = uvloop.run(_measure(built, port, arguments.requests))
    for kind, stages in found.items():
        for stage, microseconds in stages.items():
            print(f"{kind:8s} {stage:34s} {microseconds:7.0f} us")
        print(f"{kind:8s} {'the whole request':34s} {calls[kind]:7.0f} calls")
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"machine": machine.described(), "us": found, "calls": calls}, indent=1) + "\n"
        )
    return 0


async def _measure(built: wiring.Built, port: int, count: int) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """By kind of request: microseconds of each stage, and calls of functions."""
    secret = built.keys.create("benchmark")
    gc.collect()
    gc.freeze()
    asked = texts(2 * count * _ROUNDS + _WARM_UP + _COUNTED, tokens=100, seed=2)
    found, calls = {}, {}
    for kind, model in (("pinned", ours.PINNED), ("routed", "auto")):
        bodies = [body(model, text) for text in asked]
        found[kind] = await _stages(built, port, secret, bodies[:-_COUNTED])
        calls[kind] = await _calls(built.app, bodies[-_COUNTED:], secret)
    await built.gateway.aclose()
    return found, calls


async def _stages(built: wiring.Built, port: int, secret: str, bodies: Sequence[bytes]) -> dict[str, float]:
    gateway, found = built.gateway, {}
    warm, both = bodies[:_WARM_UP], bodies[_WARM_UP:]
    # Texts for the stages, and others for the whole: a vector that is there already is not embedded.
    measured, fresh = both[: len(both) // 2], both[len(both) // 2 :]
    for each in warm:
        await _ask(built.app, each, secret)
    key = built.keys.find(secret)
    assert key is not None
    parsed = {each: Body.parse(each) for each in bodies}
    order = (ours.PINNED,)

    async def read(each: bytes) -> Any:
        wire.check_chat(again := Body.parse(each))
        return (await build_ask(gateway, key, uuid7(), again, {}))[0]

    asks = {each: await read(each) for each in measured}
    decided: dict[bytes, Any] = {}

    async def decide(each: bytes) -> None:
        decided[each] = await gateway.decide(asks[each])

    async def record(each: bytes) -> None:
        decision, vector, _ = decided[each]
        gateway.ledger.record_decision(asks[each].query, decision, requested_model="auto", embedding=vector)

    async def send(each: bytes) -> None:
        call = Call(query_id=uuid7(), body=parsed[each], stream=False)
        await gateway.dispatcher.send(order, call, lambda attempt: None)

    client, url = Connections(), URL(f"http://127.0.0.1:{port}{PATH}")

    async def bare(each: bytes) -> None:
        answer = await client.post(url, each, _JSON, connect_timeout_s=5.0, read_timeout_s=60.0)
        while await answer.readany():
            pass

    found["the HTTP client alone"] = await _least(bare, measured)
    await client.aclose()
    found["the call: client, circuit, usage"] = await _least(send, measured)
    found["read: JSON, tokens, session"] = await _least(read, measured)
    found["decide: vector, policy, rule"] = await _least(decide, measured)
    found["the decision's row"] = await _least(record, measured)
    found["the whole request"] = await _least(lambda each: _ask(built.app, each, secret), fresh)
    return found


async def _least(work: Callable[[bytes], Awaitable[object]], bodies: Sequence[bytes]) -> float:
    """Microseconds of this thread that `work` takes, the least mean of the rounds; a body is used once."""
    each_round = len(bodies) // _ROUNDS
    took = []
    for start in range(0, each_round * _ROUNDS, each_round):
        began = time.thread_time()
        for each in bodies[start : start + each_round]:
            await work(each)
        took.append((time.thread_time() - began) / each_round)
        await asyncio.sleep(0.2)  # the ledger's writer has its turn
    return min(took) * 1e6


async def _calls(app: Any, bodies: Sequence[bytes], secret: str) -> float:
    """Calls of functions, those written in C among them, that one request takes."""
    profile = cProfile.Profile()
    profile.enable()
    for each in bodies:
        await _ask(app, each, secret)
    profile.disable()
    return round(sum(entry.callcount for entry in profile.getstats()) / len(bodies), 1)


async def _ask(app: Any, content: bytes, secret: str) -> None:
    """One request as a web server would hand it over."""
    incoming = [{"type": "http.request", "body": content, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()  # a client that stays
        return {}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = {"content-type": "application/json", "authorization": f"Bearer {secret}"}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "state": {},
    }
    await app(scope, receive, send)
    if sent[0]["status"] != 200:
        sys.exit(f"error: the gateway answered {sent[0]['status']}")


@contextmanager
def _silently(_label: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


if __name__ == "__main__":
    sys.exit(main())
