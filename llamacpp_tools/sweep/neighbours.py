"""How much of the processor other programs took while a round ran.

ggml's threads wait for each other by spinning: where one has no core of its own all others burn theirs, and a step
takes many times as long. So a busy neighbour is no small error, and each round says how busy they were.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Neighbours:
    """A look at the processor when a round begins."""

    at_s: float
    busy_s: float
    own_s: float
    worker_s: float | None

    @classmethod
    def now(cls, worker: int | None) -> Neighbours:
        """Look now.

        Args:
            worker: the process that measures; None where it runs elsewhere.
        """
        times = os.times()
        return cls(time.monotonic(), _busy_s(), times.user + times.system, _cpu_s(worker))

    def since(self, worker: int | None) -> float | None:
        """CPUs that others kept busy since then, on average; None where it cannot be told."""
        now = Neighbours.now(worker)
        wall = now.at_s - self.at_s
        if self.worker_s is None or now.worker_s is None or wall <= 0:
            return None
        ours = now.own_s - self.own_s + now.worker_s - self.worker_s
        return round(max(0.0, (now.busy_s - self.busy_s - ours) / wall), 3)


def _busy_s() -> float:
    times = psutil.cpu_times()
    # A guest's time is part of its user's; what waits for a disk does not compute.
    return float(times.user + times.system + getattr(times, "nice", 0.0) + getattr(times, "steal", 0.0))


def _cpu_s(worker: int | None) -> float | None:
    if worker is None:
        return None
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(worker).cpu_times()
        return float(times.user + times.system)
    return None
