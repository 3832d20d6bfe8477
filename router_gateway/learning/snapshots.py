"""Saved policies by name and version: `<directory>/<name>/<version>/` with `manifest.json` and `policy/`."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import cast

from router_gateway import registry
from router_gateway.core.errors import PolicyError, SnapshotMismatch
from router_gateway.core.protocols import Policy
from router_gateway.core.types import NamedPolicy
from router_gateway.learning.manifest import Manifest, Provenance

MANIFEST_BYTES_MAX = 64 * 2**20
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TEMPORARY = ".unfinished-"


class Snapshots:
    """A folder of policies. One process writes (the learner); any number read.

    A snapshot appears whole or not at all: it is written beside its place, flushed to the disk and renamed.
    `keep` is how many versions of a name stay; older ones are removed after a new one is in place.
    """

    def __init__(self, directory: Path, *, keep: int = 10) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self._directory = directory
        self._keep = keep

    def save(self, named: NamedPolicy, provenance: Provenance, *, spare: int | None = None) -> Path:
        """Write a fitted policy and return its folder; version `spare` is not removed for its age.

        Raises SnapshotMismatch if that name and version is there already, NotFitted if nothing was learned.
        """
        place = self._place(named.name, named.version)
        if place.exists():
            raise SnapshotMismatch(
                f"{named.label} is saved already", hint=f"a newer version than {self.newest(named.name)} is free"
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        self._clear_unfinished(place.parent)
        unfinished = place.parent / f"{_TEMPORARY}{place.name}"
        unfinished.mkdir()
        try:
            self._write(unfinished, named, provenance)
            unfinished.rename(place)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        _flush(place.parent)
        for version in self._versions(named.name)[: -self._keep]:
            if version != spare:
                shutil.rmtree(self._place(named.name, version))
        return place

    def load(self, name: str, version: int | None = None) -> tuple[NamedPolicy, Manifest]:
        """The policy and its manifest; the newest version if none is given.

        Raises SnapshotMismatch if there is none, or if it is damaged or was written by something else;
        UnknownPolicy if the distribution that registered `name` is gone.
        """
        found = self.newest(name) if version is None else version
        place = self._place(name, found or 0)
        if found is None or not place.is_dir():
            raise SnapshotMismatch(
                f"no snapshot of {name!r}" + (f" with version {version}" if version is not None else ""),
                hint=f"saved versions: {', '.join(map(str, self._versions(name))) or 'none'}; fit and save one",
            )
        manifest = self._manifest(place)
        self._verify(place, manifest)
        policy_class = registry.policy_class(name)
        try:
            policy = cast(Policy, policy_class.load(place / "policy"))
        except PolicyError:
            raise
        except Exception as error:  # `load` may be anybody's code
            raise _unusable(place, f"{type(error).__name__}: {error}") from error
        return NamedPolicy(name=name, version=found, policy=policy), manifest

    def list(self, name: str | None = None) -> tuple[Manifest, ...]:
        """The manifests, by name and version, oldest first. Raises SnapshotMismatch for a damaged one."""
        names = self._names() if name is None else (name,)
        return tuple(self._manifest(self._place(each, version)) for each in names for version in self._versions(each))

    def manifest(self, name: str, version: int) -> Manifest | None:
        """What is written beside that snapshot; None when there is no such one. Raises SnapshotMismatch if damaged."""
        place = self._place(name, version)
        return self._manifest(place) if place.is_dir() else None

    def newest(self, name: str) -> int | None:
        """The highest saved version, or None."""
        versions = self._versions(name)
        return versions[-1] if versions else None

    def _write(self, folder: Path, named: NamedPolicy, provenance: Provenance) -> None:
        (folder / "policy").mkdir()
        named.policy.save(folder / "policy")
        manifest = Manifest(
            name=named.name,
            version=named.version,
            params=registry.parameters(named.policy),
            provenance=provenance,
            files=_checksums(folder),
        )
        text = manifest.to_json().encode()
        if len(text) > MANIFEST_BYTES_MAX:
            raise SnapshotMismatch(f"the manifest of {named.label} has {len(text)} bytes, at most {MANIFEST_BYTES_MAX}")
        (folder / "manifest.json").write_bytes(text)
        for path in sorted(folder.rglob("*"), reverse=True):
            _flush(path)
        _flush(folder)

    def _manifest(self, place: Path) -> Manifest:
        path = place / "manifest.json"
        try:
            if path.stat().st_size > MANIFEST_BYTES_MAX:
                raise ValueError(f"manifest.json is larger than {MANIFEST_BYTES_MAX} bytes")
            manifest = Manifest.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unusable(place, f"its manifest cannot be read: {error}") from error
        if (manifest.name, manifest.version) != (place.parent.name, int(place.name)):
            raise _unusable(place, f"its manifest says {manifest.name}@{manifest.version}")
        return manifest

    def _verify(self, place: Path, manifest: Manifest) -> None:
        there = _checksums(place)
        there.pop("manifest.json", None)
        differing = sorted(
            path for path in there.keys() | manifest.files if there.get(path) != manifest.files.get(path)
        )
        if differing:
            raise _unusable(place, f"these files are not as they were written: {', '.join(differing[:5])}")

    def _place(self, name: str, version: int) -> Path:
        if not _NAME.fullmatch(name):
            raise SnapshotMismatch(f"{name!r} cannot name a snapshot", hint="letters, digits, '_', '-' and '.'")
        return self._directory / name / f"{version:06d}"

    def _versions(self, name: str) -> tuple[int, ...]:
        parent = self._place(name, 0).parent
        if not parent.is_dir():
            return ()
        numbered = (path.name for path in parent.iterdir() if path.name.isascii() and path.name.isdigit())
        return tuple(sorted(map(int, numbered)))

    def _names(self) -> tuple[str, ...]:
        if not self._directory.is_dir():
            return ()
        folders = (path.name for path in self._directory.iterdir() if path.is_dir())
        return tuple(sorted(name for name in folders if _NAME.fullmatch(name)))

    @staticmethod
    def _clear_unfinished(parent: Path) -> None:
        """Remove what a killed writer left behind."""
        for path in parent.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path, ignore_errors=True)


def _checksums(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _flush(path: Path) -> None:
    """Fsync of a file, or of a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(place: Path, why: str) -> SnapshotMismatch:
    label = f"{place.parent.name}@{int(place.name)}"
    return SnapshotMismatch(
        f"snapshot {label} cannot be used: {why}",
        hint=f"load an older version, or remove the folder {place.parent.name}/{place.name} and fit the policy again",
    )
