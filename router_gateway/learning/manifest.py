"""What is written beside a saved policy: enough to know whether it may serve, and where it came from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np

from router_gateway.core.experience import Experience

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a policy learned from.

    endpoints : names the policy has columns for
    embedding_space, width : of the vectors it was fitted on
    observations : number of outcomes learned from
    created : instant of saving, timezone-aware
    data_fingerprint : sha256 of the outcomes, or of whatever names them (a watermark)
    extra : JSON-able state that travels along, such as the cost model's
    """

    endpoints: tuple[str, ...]
    embedding_space: str
    width: int
    observations: int
    created: datetime
    data_fingerprint: str
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.created.tzinfo is None:
            raise ValueError("`created` needs a timezone: use datetime.now(UTC)")

    @classmethod
    def of(cls, experience: Experience, *, created: datetime, extra: dict[str, Any] | None = None) -> Self:
        """The provenance of a policy fitted on `experience`."""
        return cls(
            endpoints=experience.endpoints,
            embedding_space=experience.queries.space,
            width=experience.queries.embedding.shape[1],
            observations=len(experience),
            created=created,
            data_fingerprint=fingerprint(experience),
            extra=extra or {},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A snapshot's `manifest.json`: who, with which hyperparameters, learned from what, in which files.

    `files` maps paths under the snapshot's folder to their sha256.
    """

    name: str
    version: int
    params: dict[str, Any]
    provenance: Provenance
    files: dict[str, str]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        values = asdict(self)
        values["provenance"]["created"] = self.provenance.created.isoformat()
        return json.dumps(values, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raise ValueError, KeyError or TypeError for anything `to_json` did not write."""
        values = json.loads(text)
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format {values['format_version']!r}, this version reads {FORMAT_VERSION}")
        known = dict(values.pop("provenance"))
        known |= {"created": datetime.fromisoformat(known["created"]), "endpoints": tuple(known["endpoints"])}
        return cls(provenance=Provenance(**known), **values)


def fingerprint(experience: Experience) -> str:
    """sha256 over the outcomes, their vectors, endpoints and space: equal data, equal fingerprint; no text enters."""
    digest = hashlib.sha256(json.dumps([experience.endpoints, experience.queries.space]).encode())
    columns = (experience.query, experience.endpoint, experience.quality, experience.cost_usd, experience.comparisons)
    for array in (experience.queries.embedding, *columns):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
