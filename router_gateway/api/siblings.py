"""/metrics where several workers answer on one socket: a scrape reaches any of them, and is answered for all.

Each worker leaves its exposition in a folder that they share, once a second; whoever is scraped adds up what the others
left and what it has itself. Counters and histograms are summed; a gauge keeps its worker's number as a label.
What a worker had counted when it died stays in the sum, so that counters never fall.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_NOW, _PAST = ".now", ".past"
_GAUGE = "gauge"
_LABEL = "worker"


class Siblings:
    """The workers' metrics together. `own` gives this worker's exposition."""

    def __init__(self, own: Callable[[], bytes], directory: Path, index: int) -> None:
        self._own = own
        self._directory = directory
        self._index = index
        self._inherit()

    @classmethod
    def beside(cls, own: Callable[[], bytes], directory: Path, index: int) -> Siblings:
        """One that leaves this worker's metrics in `directory` for as long as the process lives."""
        siblings = cls(own, directory, index)
        threading.Thread(target=siblings._leave_forever, daemon=True, name="metrics").start()
        return siblings

    def text(self) -> bytes:
        """The exposition of all workers."""
        return generate_latest(_registry(_summed(self._parts())))

    def leave(self) -> None:
        """Put this worker's exposition where the others find it."""
        self._write(f"{self._index}{_NOW}", self._own())

    def _leave_forever(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY_S):
            try:
                self.leave()
            except FileNotFoundError:
                return  # the folder goes when all end
            except Exception:  # what cannot be read or written now can be in a second
                log.exception("metrics of worker %d were not left", self._index)

    def _parts(self) -> Iterator[tuple[str | None, bytes]]:
        """(worker, exposition) of each; None of what dead workers counted."""
        yield str(self._index), self._own()
        for path in sorted(self._directory.iterdir()):
            if path.suffix == _PAST:
                yield None, path.read_bytes()
            elif path.suffix == _NOW and path.stem != str(self._index):
                yield path.stem, path.read_bytes()

    def _inherit(self) -> None:
        """Keep what the worker counted that sat here before."""
        left = self._directory / f"{self._index}{_NOW}"
        if left.exists():
            past = self._directory / f"{self._index}{_PAST}"
            known = [past.read_bytes()] if past.exists() else []
            together = _summed((None, text) for text in (*known, left.read_bytes()))
            self._write(past.name, generate_latest(_registry(together)))
            left.unlink()

    def _write(self, name: str, text: bytes) -> None:
        part = self._directory / f"{name}.part"
        part.write_bytes(text)
        os.replace(part, self._directory / name)


def _summed(parts: Iterable[tuple[str | None, bytes]]) -> list[Metric]:
    """One metric a name, from all parts; the gauges of a part without a worker are left out."""
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for worker, text in parts:
        for family in text_string_to_metric_families(text.decode()):
            gauge = family.type == _GAUGE
            if gauge and worker is None:
                continue
            metrics.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            own = values.setdefault(family.name, {})
            for sample in family.samples:
                labels = {**sample.labels, _LABEL: str(worker)} if gauge else sample.labels
                key = sample.name, tuple(labels.items())
                own[key] = own.get(key, 0.0) + sample.value
    for name, metric in metrics.items():
        for (series, worded), value in values[name].items():
            metric.add_sample(series, dict(worded), value)
    return list(metrics.values())


def _registry(metrics: list[Metric]) -> CollectorRegistry:
    class Found(Collector):
        def collect(self) -> Iterable[Metric]:
            return metrics

    registry = CollectorRegistry()
    registry.register(Found())
    return registry
