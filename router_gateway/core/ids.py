"""Identifiers and the one source of randomness in a decision."""

from __future__ import annotations

import hashlib
import os
import time
from uuid import UUID

_53_BITS = 1 << 53


def uuid7() -> UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of milliseconds, 74 random bits.

    Rows sort by time of creation, so a primary-key index grows at its end.
    """
    milliseconds = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76 | ((random_bits >> 68) & 0xFFF) << 64
    value |= 0b10 << 62 | (random_bits & 0x3FFF_FFFF_FFFF_FFFF)
    return UUID(int=value)


def named_uuid(*names: str) -> UUID:
    """The same UUID for the same names (RFC 9562, version 8): what is done twice is one thing."""
    seed = "\0".join(names).encode("utf-8", "replace")
    digest = int.from_bytes(hashlib.blake2b(seed, digest_size=16).digest(), "big")
    return UUID(int=digest & ~(0xF << 76 | 0b11 << 62) | 0x8 << 76 | 0b10 << 62)


def draw(query_id: UUID, salt: str = "") -> float:
    """A uniform number in [0, 1) that depends on nothing but the id and the salt.

    A decision can therefore be recomputed from the ledger, and a batch draws as its rows would.
    """
    digest = hashlib.blake2b(query_id.bytes + salt.encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / _53_BITS
