"""What can go wrong in words for the person who typed `make bench`."""

from __future__ import annotations


class BenchmarkError(Exception):
    """The benchmark cannot go on, or, for a peer, goes on without it."""
