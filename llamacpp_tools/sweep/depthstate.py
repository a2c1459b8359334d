"""Prefills that are kept on disk: done once, timed, and put back for every round that begins at the same depth.

A file holds a header (what the state belongs to, the next token, how long the prefill took), the bytes of
`engine.state`, and the SHA-256 of all that. It is checked whole when it is opened; one that is damaged, or whose
key only looks the same, is removed and the prefill is done again. The folder has a cap: what was used longest ago
goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from llamacpp_tools.closing import Closing
from llamacpp_tools.engine.generate import Filled
from llamacpp_tools.engine.session import Session
from llamacpp_tools.engine.state import Parts, parts_of, restore, save
from llamacpp_tools.errors import LltError

MAGIC = b"lltdepth"
# 2: the whole context's state, not that of its one sequence.
VERSION = 2
SUFFIX = ".depth"
PART = ".part"
HEADER_BYTES = 8192
DIGEST_BYTES = 32
# The disk is never filled to its last byte by states, which can be made again.
DISK_KEPT_FREE = 1 << 30
_LENGTH = struct.Struct("<II")
_CHUNK = 16 << 20

Key = Mapping[str, Any]


class NotKept(LltError):
    """A prefill could not be kept; it has to be done again where it is needed."""


class Damaged(LltError):
    """A kept prefill is not what was written."""


class Kept(Closing):
    """A kept prefill, checked and mapped. Close it, or use it as a context manager.

    Attributes:
        filled: the prompt's length, the token after it, and how long the true prefill took.
    """

    def __init__(self, filled: Filled, parts: Parts, mapped: mmap.mmap) -> None:
        self.filled = filled
        self._parts = parts
        self._mapped: mmap.mmap | None = mapped

    def restore(self, session: Session) -> Filled:
        """Put the state into `session`, whatever that held before.

        Raises:
            LltError: it does not fit.
        """
        assert self._mapped is not None
        with (
            memoryview(self._mapped) as whole,
            whole[HEADER_BYTES : HEADER_BYTES + self._parts.total] as view,
        ):
            restore(session, self._parts, view)
        return self.filled

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None


@dataclass(frozen=True)
class DepthStates:
    """The folder of kept prefills.

    Attributes:
        folder: where they lie; made when it is needed.
        cap_bytes: how much they may take together.
    """

    folder: Path
    cap_bytes: int

    def find(self, key: Key) -> Kept | None:
        """The prefill kept under `key`, None if there is none.

        Raises:
            Damaged: there was one and it is not what was written; it is removed.
        """
        path = self._path(key)
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            path.unlink(missing_ok=True)
            raise Damaged(f"a kept prefill cannot be read ({error}) and is done again") from None
        try:
            filled, parts = _checked(mapped, key)
        except ValueError as error:
            mapped.close()
            path.unlink(missing_ok=True)
            raise Damaged(f"a kept prefill is damaged ({error}) and is done again") from None
        # What was used last is the last to go.
        with contextlib.suppress(OSError):
            os.utime(path)
        return Kept(filled, parts, mapped)

    def keep(self, key: Key, filled: Filled, session: Session) -> Kept:
        """Keep what stands in the session's caches after `filled`.

        The file is on the disk when this returns, so that nothing is written behind a later measurement.

        Raises:
            NotKept: it is larger than the cap or the disk; nothing is left half written.
        """
        parts = parts_of(session)
        size = HEADER_BYTES + parts.total + DIGEST_BYTES
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._make_room(size)
            with _part_file(path, size) as (part, mapped):
                mapped[:HEADER_BYTES] = _header(key, filled, parts)
                with memoryview(mapped) as whole, whole[HEADER_BYTES : HEADER_BYTES + parts.total] as view:
                    save(session, parts, view)
                mapped[size - DIGEST_BYTES :] = _digest(mapped)
                mapped.flush()
                part.replace(path)
            with path.open("rb") as file:
                return Kept(filled, parts, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise NotKept(f"the prefill cannot be kept: {error.strerror}") from None

    def used_bytes(self) -> int:
        """Bytes that all kept prefills take."""
        return sum(size for _, size, _ in self._files())

    def _path(self, key: Key) -> Path:
        return self.folder / (hashlib.sha256(_canonical(key)).hexdigest()[:32] + SUFFIX)

    def _make_room(self, size: int) -> None:
        if size > self.cap_bytes:
            raise NotKept(
                f"the prefill takes {size / 2**20:.0f} MiB and the cap of kept prefills is"
                f" {self.cap_bytes / 2**20:.0f} MiB; raise `depth_state.cap`"
            )
        self._remove_orphans()
        files = sorted(self._files())
        used = sum(bytes_ for _, bytes_, _ in files)
        if size + DISK_KEPT_FREE > shutil.disk_usage(self.folder).free + used:
            raise NotKept(f"the prefill takes {size / 2**20:.0f} MiB, and the disk is too full")
        for _, bytes_, path in files:
            free = shutil.disk_usage(self.folder).free
            if used + size <= self.cap_bytes and size + DISK_KEPT_FREE <= free:
                return
            path.unlink(missing_ok=True)
            used -= bytes_

    def _remove_orphans(self) -> None:
        """Remove what workers left behind that were killed while they wrote."""
        for path in self.folder.glob(f".*{PART}"):
            writer = path.name.removesuffix(PART).rpartition(".")[2]
            if not writer.isdigit() or not psutil.pid_exists(int(writer)):
                path.unlink(missing_ok=True)

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob(f"*{SUFFIX}") if self.folder.is_dir() else ():
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
        return found


@contextlib.contextmanager
def _part_file(path: Path, size: int) -> Iterator[tuple[Path, mmap.mmap]]:
    # The writer's number tells the next one whether anybody is still at it.
    name = path.with_name(f".{path.name}.{os.getpid()}{PART}")
    handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        # A mapped file with holes would end the process by a signal once the disk is full.
        os.posix_fallocate(handle, 0, size)
        with mmap.mmap(handle, size) as mapped:
            yield name, mapped
    finally:
        os.close(handle)
        name.unlink(missing_ok=True)


def _header(key: Key, filled: Filled, parts: Parts) -> bytes:
    text = json.dumps({"key": dict(key), "filled": asdict(filled), "parts": asdict(parts)}).encode()
    start = MAGIC + _LENGTH.pack(VERSION, len(text))
    if len(start) + len(text) > HEADER_BYTES:
        raise NotKept(f"the key of a kept prefill takes {len(text)} bytes")
    return (start + text).ljust(HEADER_BYTES, b"\0")


def _checked(mapped: mmap.mmap, key: Key) -> tuple[Filled, Parts]:
    """The header of a file that is whole; raises ValueError saying what is wrong."""
    start = len(MAGIC) + _LENGTH.size
    if len(mapped) < HEADER_BYTES + DIGEST_BYTES or mapped[: len(MAGIC)] != MAGIC:
        raise ValueError("it is no such file")
    version, length = _LENGTH.unpack(mapped[len(MAGIC) : start])
    if version != VERSION or start + length > HEADER_BYTES:
        raise ValueError("it is of another version")
    if mapped[len(mapped) - DIGEST_BYTES :] != _digest(mapped):
        raise ValueError("its checksum does not agree")
    header = json.loads(mapped[start : start + length])
    if _canonical(header["key"]) != _canonical(key):
        raise ValueError("it belongs to something else")
    parts = Parts(**header["parts"])
    if len(mapped) != HEADER_BYTES + parts.total + DIGEST_BYTES:
        raise ValueError("it has another length than it says")
    return Filled(**header["filled"]), parts


def _digest(mapped: mmap.mmap) -> bytes:
    """The SHA-256 of all but the last bytes, in which it is kept."""
    digest = hashlib.sha256()
    end = len(mapped) - DIGEST_BYTES
    with memoryview(mapped) as whole:
        for at in range(0, end, _CHUNK):
            with whole[at : min(at + _CHUNK, end)] as chunk:
                digest.update(chunk)
    return digest.digest()


def _canonical(key: Key) -> bytes:
    return json.dumps(dict(key), sort_keys=True, separators=(",", ":")).encode()
