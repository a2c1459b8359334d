"""What `threads: auto` means."""

from __future__ import annotations

import os

import psutil


def auto_threads() -> int:
    """The physical cores that this process may run on."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, psutil.cpu_count(logical=False) or allowed)
