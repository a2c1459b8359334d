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
import signal
import sys
import threading
from typing import IO

PR_SET_PDEATHSIG = 1
EXIT_ORPHANED = 3


def tie_to_parent(stdin: IO[str]) -> None:
    """End this process as soon as the one that started it is gone.

    Call it once, after the request was read from `stdin`, and read nothing more from there.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_exit_at_end, args=(stdin,), name="lifeline", daemon=True).start()


def _exit_at_end(stdin: IO[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while stdin.read(4096):
            pass
    os._exit(EXIT_ORPHANED)
