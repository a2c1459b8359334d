"""Ctrl-C during a long decode: it ends at the next node of its graph, not after minutes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from llamacpp_tools.ffi.library import Library


@contextlib.contextmanager
def interruptible(library: Library) -> Iterator[None]:
    """Let a Ctrl-C within the block end the decode that runs.

    The interpreter raises KeyboardInterrupt as soon as the call is back. Only the main thread can be asked for that,
    and only the CPU backend looks up between nodes; on a GPU the decode of one ubatch is brought to its end.
    """
    main = threading.current_thread() is threading.main_thread()
    watches = main and bool(library.lib.llt_watch_interrupt())
    try:
        yield
    finally:
        if watches:
            library.lib.llt_unwatch_interrupt()
