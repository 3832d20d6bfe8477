"""Where a candidate's policy lies: a folder of snapshots of its own, beside those of the configured policies.

What is copied there when a candidate is drafted stays as it is until the candidate is live: then it is taught, as
the configured policy was before. So a predecessor lies as it was when it was relieved, and can be put back at once.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from router_gateway.core.errors import RequestError, SnapshotMismatch
from router_gateway.core.types import NamedPolicy
from router_gateway.learning.manifest import Manifest
from router_gateway.learning.snapshots import Snapshots

_FOLDER = ".candidates"


class Homes:
    """The folders under `snapshots_dir`, which replicas share."""

    def __init__(self, snapshots_dir: Path) -> None:
        self._root = snapshots_dir
        self._configured = Snapshots(snapshots_dir)

    def of(self, candidate: str) -> Snapshots:
        """The snapshots of a candidate."""
        return Snapshots(self._root / _FOLDER / candidate)

    def adopt(self, candidate: str, snapshot: str) -> str:
        """Copy a snapshot of a configured policy ("knn@3", or "knn": its newest); the label of what was copied.

        Raises RequestError for what is no label, SnapshotMismatch when there is no such snapshot.
        """
        name, _, said = snapshot.partition("@")
        if said and not (said.isascii() and said.isdigit()):
            raise RequestError(f"{snapshot!r} names no snapshot: say knn@3, or knn for the newest", param="snapshot")
        named, manifest = self._configured.load(name, int(said) if said else None)
        self.of(candidate).save(named, manifest.provenance)
        return named.label

    def clear(self, candidate: str) -> None:
        """Remove what an attempt to draft it has left behind; for a name that is not registered."""
        shutil.rmtree(self._root / _FOLDER / candidate, ignore_errors=True)

    def load(self, candidate: str, snapshot: str, space: str) -> tuple[NamedPolicy, Manifest]:
        """The newest snapshot of a candidate that was made from `snapshot`. Raises SnapshotMismatch, UnknownPolicy."""
        named, manifest = self.of(candidate).load(snapshot.partition("@")[0])
        if manifest.provenance.embedding_space != space:
            raise SnapshotMismatch(
                f"the policy of {candidate!r} was fitted in embedding space {manifest.provenance.embedding_space}"
            )
        return named, manifest
