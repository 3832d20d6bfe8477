"""Where a policy's learning stands. It travels in the snapshot's manifest, so both are saved or neither is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from router_gateway.learning.manifest import Manifest
from router_gateway.ledger.lessons import Watermark

_KEY = "learned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What of the ledger a snapshot has learned.

    reached : how far it has read
    base : version of the snapshot that knew nothing of the ledger yet, from which a refit starts; None = no such one
    """

    reached: Watermark = field(default_factory=Watermark)
    base: int | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Of a snapshot that was fitted from outcomes: nothing read, and the base of what follows."""
        learned = manifest.provenance.extra.get(_KEY)
        if learned is None:
            return cls(base=manifest.version)
        return cls(reached=Watermark(**learned["reached"]), base=learned["base"])

    def extra(self) -> dict[str, Any]:
        """What the manifest keeps."""
        return {_KEY: {"reached": asdict(self.reached), "base": self.base}}
