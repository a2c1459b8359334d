"""Sizes as people write them: 400MB, 1.5 GiB."""

from __future__ import annotations

import re

_SIZE = re.compile(r"^(\d+(?:\.\d+)?) ?((?:[kMG]i?)?B)$", re.IGNORECASE)
_UNITS = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30,
}  # fmt: skip


def size_in_bytes(text: str) -> int:
    """The bytes that `text` stands for.

    Raises:
        ValueError: it is no size; the message says what one looks like.
    """
    found = _SIZE.match(text.strip())
    if found is None:
        raise ValueError(f"must be a size such as 400MB or 1GiB, not {text!r}")
    return round(float(found[1]) * _UNITS[found[2].lower()])
