"""One piece of work on a box, as the sweep far away sees it: entries that wait to be fetched, and how it ended.

The sweep asks again and again (`poll`) and says how many entries it has on its disk. Where it is not heard of for
longer than the lease, the work is given up: nobody would take its results.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from llamacpp_tools.errors import Interrupted
from llamacpp_tools.sweep.stop import Stop

LEASE_S = 30.0
TELL_EVERY_S = 0.5

Row = dict[str, Any]


@dataclass
class Job:
    """Filled by the thread that works, read by the loop that answers.

    Attributes:
        order: what is to be done.
        lease_s: seconds of silence after which nobody is taken to listen.
        stop: set to end after the round that runs.
        lost: nobody listens any more.
        answer: how it ended, None until then.
    """

    order: Row
    lease_s: float = LEASE_S
    stop: Stop = field(default_factory=Stop)
    lost: bool = False
    answer: Row | None = None
    _begun: bool = False
    _rows: list[Row] = field(default_factory=list)
    _dropped: int = 0
    _progress: Row = field(default_factory=dict)
    _told_at: float = 0.0
    _heard_at: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def begin(self) -> None:
        """The work begins."""
        self._begun = True

    def emit(self, row: Row) -> None:
        """An entry for the sweep's journal."""
        self.check()
        with self._lock:
            self._rows.append(row)
        self._wake()

    def tell(self, progress: Row) -> None:
        """How far it is; only the last word counts, and it waits for the next poll."""
        now = time.monotonic()
        if now - self._told_at > TELL_EVERY_S:
            self._told_at = now
            self._progress = progress

    def end(self, answer: Row) -> None:
        """It is over."""
        self.answer = answer
        self._wake()

    def check(self) -> None:
        """Go on only while somebody listens.

        Raises:
            Interrupted: nobody does.
        """
        if self.lost or time.monotonic() - self._heard_at > self.lease_s:
            self.lost = True
            raise Interrupted("the sweep that ordered this has not been heard of")

    async def poll(self, have: int, wait_s: float) -> Row:
        """What is new since `have` entries; waits for up to `wait_s` seconds until something is."""
        self._heard_at = time.monotonic()
        with self._lock:
            del self._rows[: have - self._dropped]
            self._dropped = have
        changed = asyncio.Event()
        self._waiting = (asyncio.get_running_loop(), changed)
        if not self._rows and self.answer is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), wait_s)
        self._heard_at = time.monotonic()
        with self._lock:
            # The answer only when every entry before it is on its way, too.
            answer, rows = self.answer, list(self._rows)
        return {"begun": self._begun, "rows": rows, "progress": self._progress, "answer": answer}

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None:
            loop, changed = waiting
            # A loop that is closed has nobody waiting.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)
