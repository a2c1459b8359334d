"""What a sweep has measured so far, one line of JSON an entry, each on the disk before the sweep goes on.

A journal outlives whatever ends its sweep. Entries belong to a key, which holds all that a figure depends on: the
cell's parameters, the model's hash, the library's, the device, the driver. So a resumed sweep finds exactly what
still counts; everything else is measured again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llamacpp_tools.closing import Closing
from llamacpp_tools.errors import BadInput, LltError
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.heat import HeatLog
from llamacpp_tools.sweep.outcome import STATUSES, Conditions, Status
from llamacpp_tools.sweep.protocol import Loaded, RoundSample

VERSION = 1
SUFFIX = ".journal.jsonl"
_LATER = {
    "forced": False,
    "auto": False,
    "traced": False,
    "draft_history": True,
    "before_norm": False,
    "rpc": [],
}
# `box` is there where boxes share a sweep: what is measured on one never stands for another.
_SHARED = ("model", "libraries", "device", "driver", "threads", "box")

Identity = Mapping[str, str]


class JournalFull(LltError):
    """An entry could not be written; what was written before is whole."""

    exit_code = 3


def journal_path(result: Path) -> Path:
    """The journal that belongs to a result file: beside it, `NAME.journal.jsonl` for `NAME.json`."""
    return result.with_name(result.name.removesuffix(".json") + SUFFIX)


def cell_key(spec: CellSpec, identity: Identity) -> str:
    """What a cell's figures depend on, as a hash.

    Args:
        spec: the cell; its place in the plan and its number of rounds do not count.
        identity: what cells share: model, libraries, device, driver; of the workloads' texts (`text NAME`) and the
            RPC servers (`rpc HOST:PORT`) the cell's own count.
    """
    row = spec.to_json()
    del row["index"], row["rounds"]
    # The server behind an address counts, not its port.
    row["rpc"] = [identity.get(f"rpc {server}", server) for server in spec.rpc]
    # Journals from before there were such cells stay valid.
    for name, usual in _LATER.items():
        if row[name] == usual:
            del row[name]
    own = {name: value for name, value in identity.items() if name in (f"text {spec.workload}", *_SHARED)}
    text = json.dumps({"cell": row, "identity": own}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass
class CellHistory:
    """All that a journal knows of one cell.

    Attributes:
        rounds: by number, each with what the machine was like meanwhile.
        check: a round from a true prefill that counts nowhere but in the check of a kept one.
        loaded: what was loaded, the last time.
        attempts: the runs of the sweep that began the cell, by number.
        distrusted: its last end was `invalid`, so what is kept of it is not to be believed either.
        notes: what its workers had to say.
        status, reason: of the last end; `ok` also where it has not ended yet.
    """

    rounds: dict[int, tuple[RoundSample, Conditions]] = field(default_factory=dict)
    check: RoundSample | None = None
    distrusted: bool = False
    notes: list[str] = field(default_factory=list)
    loaded: Loaded | None = None
    attempts: set[int] = field(default_factory=set)
    status: Status = "ok"
    reason: str | None = None
    wall_s: float = 0.0
    max_rss_bytes: int | None = None


def is_open(path: Path) -> bool:
    """Whether a sweep is writing to the journal at `path` now."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class Ledger(Closing):
    """The entries of a sweep and what they amount to. This one keeps them in memory alone.

    Attributes:
        cells: by key.
        begins: one entry for each run of the sweep.
        boxes: of a sweep over several boxes the last entry of each, by name.
    """

    def __init__(self) -> None:
        self.cells: dict[str, CellHistory] = {}
        self.begins: list[dict[str, Any]] = []
        self.boxes: dict[str, dict[str, Any]] = {}

    @property
    def run(self) -> int:
        """The number of this run of the sweep, from 1; 0 before it has begun."""
        return len(self.begins)

    def cell(self, key: str) -> CellHistory:
        """What is known of a cell; of a new one nothing."""
        return self.cells.setdefault(key, CellHistory())

    def begin(self, about: Mapping[str, Any]) -> None:
        """A run of the sweep begins; `about` is kept as it is."""
        self.append({"entry": "begin", "version": VERSION, **about})

    def joined(self, box: str, identity: Identity, about: Mapping[str, Any]) -> None:
        """A box takes part; its figures' keys are made with `identity`."""
        self.append({"entry": "box", "box": box, "identity": dict(identity), **about})

    def loaded(self, key: str, loaded: Loaded) -> None:
        """A worker has loaded the cell."""
        row = {"entry": "loaded", "key": key, "attempt": self.run}
        self.append({**row, "loaded": dataclasses.asdict(loaded)})

    def measured(self, key: str, spec: CellSpec, sample: RoundSample, conditions: Conditions) -> None:
        """A round is measured."""
        parts = {"sample": dataclasses.asdict(sample), "conditions": dataclasses.asdict(conditions)}
        self.append({"entry": "round", "key": key, "spec": spec.to_json(), **parts})

    def checked(self, key: str, sample: RoundSample) -> None:
        """A round from a true prefill is measured for the check alone."""
        self.append({"entry": "check", "key": key, "sample": dataclasses.asdict(sample)})

    def noted(self, key: str, text: str) -> None:
        """A worker had something to say."""
        self.append({"entry": "note", "key": key, "text": text})

    def ended(
        self, key: str, status: Status, reason: str | None, wall_s: float, max_rss_bytes: int | None
    ) -> None:
        """A cell's attempt is over."""
        row = {"entry": "end", "key": key, "attempt": self.run, "status": status, "reason": reason}
        self.append({**row, "wall_s": round(wall_s, 3), "max_rss_bytes": max_rss_bytes})

    def append(self, row: dict[str, Any]) -> None:
        """Keep one entry.

        Raises:
            ValueError, KeyError, TypeError, ProtocolError: it is none.
        """
        self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        kind = row["entry"]
        if kind == "begin":
            if row["version"] != VERSION:
                raise ValueError(f"version {row['version']}, not {VERSION}")
            self.begins.append(row)
            return
        if kind == "box":
            self.boxes[row["box"]] = row
            return
        cell = self.cell(row["key"])
        if kind == "loaded":
            cell.loaded = Loaded(**row["loaded"])
            cell.attempts.add(row["attempt"])
            # A new attempt began well; what ended the one before is past.
            cell.status, cell.reason = "ok", None
        elif kind == "round":
            sample, about = RoundSample(**row["sample"]), row["conditions"]
            conditions = Conditions(**{**about, "heat": HeatLog(**about["heat"])})
            cell.rounds[sample.round] = (sample, conditions)
            cell.distrusted = False
        elif kind == "check":
            cell.check = RoundSample(**row["sample"])
        elif kind == "note":
            cell.notes.append(row["text"])
        elif kind == "end":
            self._end_of(cell, row)
        else:
            raise ValueError(f"an entry of a kind that is not known, {kind!r}")

    def _end_of(self, cell: CellHistory, row: dict[str, Any]) -> None:
        if row["status"] not in STATUSES:
            raise ValueError(f"the status {row['status']!r} is not known")
        cell.attempts.add(row["attempt"])
        cell.status, cell.reason = row["status"], row["reason"]
        cell.wall_s += row["wall_s"]
        cell.max_rss_bytes = max(cell.max_rss_bytes or 0, row["max_rss_bytes"] or 0) or None
        if cell.status == "invalid":
            # What it measured was not what its name says: nothing of it counts when it is tried again.
            cell.rounds.clear()
            cell.check, cell.distrusted = None, True


class Journal(Ledger):
    """An open journal. Close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open the journal at `path`, new or to be gone on with; a torn last line is cut off.

        Raises:
            BadInput: the file cannot be opened, is no journal, or belongs to a sweep that runs.
        """
        super().__init__()
        self.path = path
        self._handle: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise BadInput(f"the journal {path} cannot be opened: {error.strerror}") from None
        try:
            # Held as long as the file is open, by whatever end the process comes.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end = self._read()
            os.ftruncate(handle, self._end)
        except BlockingIOError:
            os.close(handle)
            raise BadInput(f"another llt sweep is writing to {path}") from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def append(self, row: dict[str, Any]) -> None:
        """Put one entry on the disk, then keep it.

        Raises:
            JournalFull: it cannot be written; what was written before is whole.
        """
        if self._handle is None:
            raise ValueError(f"the journal {self.path} is closed")
        line = json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
            os.fsync(self._handle)
        except OSError as error:
            # Half a line is cut off here already; a reader would do so, too.
            os.ftruncate(self._handle, self._end)
            raise JournalFull(
                f"the journal {self.path} cannot be written ({error.strerror}); "
                "every round before this one is in it"
            ) from None
        except BaseException:
            os.ftruncate(self._handle, self._end)
            raise
        self._end += len(line)
        self._take(row)

    def rows_of(self, keys: Collection[str]) -> list[dict[str, Any]]:
        """The entries that tell of these cells, as they were written."""
        with self.path.open("rb") as file:
            rows = (_entry(line) for line in file if line.endswith(b"\n"))
            return [row for row in rows if row.get("key") in keys]

    def _read(self) -> int:
        """Take in every whole line; the number of bytes they take."""
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(_entry(line))
                except (ValueError, KeyError, TypeError, LltError) as error:
                    raise BadInput(f"{self.path}, line {number}, is no entry of a journal: {error}") from None
                end += len(line)
        return end


def _entry(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("it is no mapping")
    return row
