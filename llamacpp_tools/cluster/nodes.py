"""Dask's scheduler and worker as llt runs them: no page that listens, no sampling beside a measurement."""

from __future__ import annotations

import logging
from typing import Any

import dask
from distributed import Scheduler, Worker

from llamacpp_tools.cluster import box

# Ten samples a second of what the measuring thread does, and a memory manager that pauses work: neither beside a
# measurement. A peer that is cut off is found out within this time.
SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.comm.timeouts.tcp": "20s",
    "distributed.comm.timeouts.connect": "10s",
    "distributed.scheduler.worker-ttl": "30s",
    "distributed.scheduler.work-stealing": False,
}


def settle() -> None:
    """Set what Dask asks its configuration for."""
    dask.config.set(SETTINGS)


def quiet(verbose: bool = False) -> None:
    """Keep Dask's log to itself unless it is wanted: what a person has to know, llt says."""
    known = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
    for name in ("distributed", *known, "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.CRITICAL)


class QuietScheduler(Scheduler):
    """A scheduler that listens at its own address and nowhere else."""

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Not asked for."""


class BoxWorker(Worker):
    """A worker that offers `box=1`: one comparison at a time, in its one thread."""

    def __init__(self, scheduler_ip: str | None = None, **options: Any) -> None:
        settle()
        known = options.pop("models", ()), bool(options.pop("rebuild", False))
        options |= {"nthreads": 1, "resources": {"box": 1}, "memory_limit": 0, "dashboard": False}
        super().__init__(scheduler_ip, **options)
        box.open_here(str(self.name), *known)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Not asked for."""

    async def close(self, *args: Any, **kwargs: Any) -> str | None:
        """Let go of what runs, then close: its results could go nowhere."""
        box.abandon()
        ended: str | None = await super().close(*args, **kwargs)
        return ended
