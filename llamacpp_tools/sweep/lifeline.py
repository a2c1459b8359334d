"""A worker never outlives its sweep.

A worker may hold tens of gigabytes, and its sweep may be ended in ways that run no clean-up: SIGKILL,
the memory killer, a closed terminal. Two ties hold, because each has a hole. Linux sends the worker a
SIGKILL when the thread that started it ends, even while the worker is stopped; elsewhere that does not
exist. The end of stdin is seen everywhere, by a thread that runs while the library works, as calls into
it release the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import IO

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 3
# What the sweep sends as its last line: the worker may leave in peace.
END = "end"


def orders(stdin: IO[str]) -> Iterator[str]:
    """The lines of `stdin` up to `END`, one at a time; the process ends as soon as its parent is gone.

    Call it once, after the request was read from `stdin`, and read nothing more from there.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(stdin, lines), name="lifeline", daemon=True).start()
    return iter(lines.get, END)


def _listen(stdin: IO[str], lines: queue.SimpleQueue[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in iter(stdin.readline, ""):
            lines.put(line.strip())
            if line.strip() == END:
                return
    os._exit(EXIT_ORPHANED)
