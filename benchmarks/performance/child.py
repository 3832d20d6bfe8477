"""One part of the gateway in a fresh process, so that its memory and its imports are its own: `-m performance.child`.

    encoder KIND          import NAME          ledger URL FOLDER

Each prints one JSON object.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from performance.machine import rss_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTHS = {20: 400, 100: 300, 500: 60}  # tokens: texts
_SLOW_S, _FEW = 0.02, 25  # an encoder slower than this for a text is given so many
_LEDGER_QUERIES = 20_000  # two rows each
_ENDPOINTS = tuple(f"endpoint-{i}" for i in range(11))
_WIDTH = 512  # of the default encoder


def encoder(kind: str) -> dict[str, Any]:
    """Loading time, memory and time for one text, one thread."""
    from performance.texts import texts

    by_length = {tokens: texts(count + 3, tokens=tokens, seed=3) for tokens, count in _LENGTHS.items()}
    from router_gateway.evaluation.embeddings import Encoder

    before_mib = rss_mib(os.getpid())
    began = time.perf_counter()
    embedder = Encoder.named(kind).build()
    embedder.embed(["ready"])
    load_s = time.perf_counter() - began
    gc.collect()
    gc.freeze()
    found: dict[str, Any] = {"space": embedder.space, "load_s": load_s}
    for tokens, own in by_length.items():
        found[f"tokens_{tokens}"] = _timed(lambda text: embedder.embed([text]), own)
    return found | {"rss_added_mib": rss_mib(os.getpid()) - before_mib}


def imported(name: str) -> dict[str, Any]:
    """Time and memory of one import."""
    before_mib = rss_mib(os.getpid())
    began = time.perf_counter()
    __import__(name)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rss_added_mib": rss_mib(os.getpid()) - before_mib, "rss_mib": rss_mib(os.getpid())}


def ledger(url: str, folder: str) -> dict[str, Any]:
    """Rows a second of the writer with a full journal, and what an append costs the request that makes it."""
    import numpy as np

    from router_gateway.ledger.engine import migrate, open_engine
    from router_gateway.ledger.journal import Journal
    from router_gateway.ledger.ledger import Ledger

    with _database(url, Path(folder)) as own_url:
        migrate(own_url)
        journal = Journal(Path(folder) / "journal", bytes_max=1 << 30)
        book = Ledger(open_engine(own_url), journal, store_text=False)
        vectors = np.random.default_rng(0).normal(size=(64, _WIDTH)).astype(np.float32)
        rows = [_rows(i) for i in range(_LEDGER_QUERIES)]
        began = time.perf_counter()
        for i, (query, decision, attempt) in enumerate(rows):
            book.record_decision(query, decision, requested_model="auto", embedding=vectors[i % len(vectors)])
            book.record_attempt(attempt)
        append_s = time.perf_counter() - began
        began, began_cpu = time.perf_counter(), time.process_time()
        book.start()
        if not book.drain(300):
            raise SystemExit("the ledger did not drain")
        drain_s, drain_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        book.close()
    count = 2 * _LEDGER_QUERIES
    return {
        "rows": count,
        "rows_per_s": count / drain_s,
        "cpu_us_per_row": 1e6 * drain_cpu_s / count,
        "append_us": 1e6 * append_s / count,
    }


def _rows(number: int) -> tuple[Any, Any, Any]:
    from datetime import UTC, datetime

    from router_gateway.core.ids import uuid7
    from router_gateway.core.types import Attempt, Decision, Query, Usage

    query, now = Query(id=uuid7(), text="", tokens_input=100), datetime.now(UTC)
    floats = tuple(0.1 + 0.07 * i + 1e-6 * number for i in range(len(_ENDPOINTS)))
    decision = Decision(
        query_id=query.id,
        at=now,
        endpoint=_ENDPOINTS[3],
        order=_ENDPOINTS,
        propensity=0.9,
        endpoints=_ENDPOINTS,
        quality=floats,
        stddev=floats,
        cost_usd=floats,
        probability=floats,
        eligible=(True,) * len(_ENDPOINTS),
        policy="knn@1",
        rule="inverse_gap",
        worth_usd=0.02,
        embedding_space="benchmark",
        reason="scored",
    )
    attempt = Attempt(
        query_id=query.id,
        number=1,
        at=now,
        endpoint=_ENDPOINTS[3],
        status=200,
        usage=Usage(tokens_input=100, tokens_output=50),
        cost_nusd=12_345,
        first_byte_ms=1.0,
        latency_ms=2.0,
    )
    return query, decision, attempt


@contextmanager
def _database(url: str, folder: Path) -> Iterator[str]:
    """An empty database: a file, or one made on the server that `url` names, and dropped."""
    if url == "sqlite":
        yield f"sqlite:///{folder}/ledger.db"
        return
    from sqlalchemy import make_url, text

    from router_gateway.core.ids import uuid7
    from router_gateway.ledger.engine import open_engine

    name = f"router_gateway_benchmark_{uuid7().hex}"
    server = open_engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield make_url(url).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


def _timed(embed: Callable[[str], Any], texts: list[str]) -> dict[str, float]:
    """Of distinct texts, in milliseconds: p50, p99 and the fastest; the first three warm up."""
    times = []
    for i, text in enumerate(texts):
        began = time.perf_counter()
        embed(text)
        times.append(time.perf_counter() - began)
        if i >= _FEW and min(times) > _SLOW_S:
            break
    ordered = sorted(times[3:])
    return {
        "p50_ms": 1e3 * ordered[len(ordered) // 2],
        "p99_ms": 1e3 * ordered[int(0.99 * (len(ordered) - 1))],
        "min_ms": 1e3 * ordered[0],
        "texts": len(ordered),
    }


if __name__ == "__main__":
    _VERBS: dict[str, Callable[..., dict[str, Any]]] = {"encoder": encoder, "import": imported, "ledger": ledger}
    print(json.dumps(_VERBS[sys.argv[1]](*sys.argv[2:])))
