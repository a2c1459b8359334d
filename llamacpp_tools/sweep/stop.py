"""How a user ends a sweep: once to let the round finish, twice to end at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Stop:
    """Whether the user asked for an end.

    Attributes:
        asked: set by the first Ctrl-C or SIGTERM; the round that runs is finished.
    """

    asked: bool = False


@contextmanager
def heeding_signals(stop: Stop, on_first: Callable[[], None]) -> Iterator[None]:
    """While the body runs, Ctrl-C and SIGTERM set `stop.asked`; the second of them raises KeyboardInterrupt.

    Args:
        stop: what is set.
        on_first: called at the first one, to say so.
    """

    def heed(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True
        on_first()

    before = {number: signal.signal(number, heed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
