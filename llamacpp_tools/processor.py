"""Which processor this machine has."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_info() -> str:
    """The processor's name as its vendor gives it, the architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()
