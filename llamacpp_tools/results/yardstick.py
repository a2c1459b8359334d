"""How fast the machine is apart from everything llt measures: one core hashing, one core copying memory.

Neither touches the model, the library or a GPU: where a sweep is slower and the yardstick, too, the machine is.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np
from pydantic import BaseModel

# Larger than any cache of a desktop's, so that it is memory that is copied.
COPY_BYTES = 128 << 20
# Small enough for the second cache, so that it is the core that is timed.
HASH_BYTES = 256 << 10
HASHES = 200
TIMES = 5


class Yardstick(BaseModel):
    """Both speeds, each taken several times.

    Attributes:
        hash_mb_s: SHA-256 of one block again and again, in MB a second.
        copy_gb_s: a large array copied, in GB a second, reading and writing counted once.
    """

    hash_mb_s: list[float]
    copy_gb_s: list[float]

    def __add__(self, other: Yardstick) -> Yardstick:
        return Yardstick(
            hash_mb_s=[*self.hash_mb_s, *other.hash_mb_s], copy_gb_s=[*self.copy_gb_s, *other.copy_gb_s]
        )


def take(times: int = TIMES) -> Yardstick:
    """Measure now; about half a second."""
    block = bytes(HASH_BYTES)
    source = np.ones(COPY_BYTES // 8)
    # The first copy pays for the pages.
    target = source.copy()
    hashes, copies = [], []
    for _ in range(times):
        begun = time.perf_counter()
        digest = hashlib.sha256()
        for _ in range(HASHES):
            digest.update(block)
        hashes.append(HASHES * HASH_BYTES / 1e6 / (time.perf_counter() - begun))
        begun = time.perf_counter()
        np.copyto(target, source)
        copies.append(COPY_BYTES / 1e9 / (time.perf_counter() - begun))
    return Yardstick(
        hash_mb_s=[round(each, 2) for each in hashes], copy_gb_s=[round(each, 3) for each in copies]
    )
