"""A lock that dies with the last process that works under it, git children included.

The lock is held through an open file. A git call that writes inherits that file (`Git(..., held=lock.handle)`),
so when llt is killed while git still runs, the lock lasts until that git has ended: whoever gets it knows that
no other process writes there, and may clear away what a killed git left (`clear_stale`). It is the same kind of
lock on the same file as `filelock.FileLock` takes, so the two exclude each other.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import CheckFailed

log = logging.getLogger(__name__)

ORPHAN_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True)
class Lock:
    """A lock that is held; `handle` is the open file that git children inherit."""

    path: Path
    handle: int


@contextmanager
def hold(path: Path, *, wait: bool) -> Iterator[Lock]:
    """Hold the lock on `path` for the body.

    Without `wait`, a lock that a live llt holds is refused at once; one whose holder is dead and whose last
    git is still finishing is waited for, up to `ORPHAN_S` seconds.

    Raises:
        CheckFailed: another llt is at work there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(path, handle, wait=wait)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield Lock(path, handle)
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(path: Path, handle: int, *, wait: bool) -> None:
    if wait:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for another llt that is at work on %s", path.stem)
            fcntl.flock(handle, fcntl.LOCK_EX)
        return
    until = time.monotonic() + ORPHAN_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        if not _is_dead(holder) or time.monotonic() > until:
            who = f" (process {holder})" if holder else ""
            raise CheckFailed(
                f"another llt{who} is at work on {path.stem}: wait until it has ended, then run again"
            )
        time.sleep(_POLL_S)


def _is_dead(holder: str) -> bool:
    if not holder.isdigit():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def clear_stale(folder: Path, names: tuple[str, ...]) -> None:
    """Remove git's own lock files under `folder` that match a pattern of `names`; only while holding the lock."""
    for name in names:
        for left in folder.glob(name):
            left.unlink(missing_ok=True)
