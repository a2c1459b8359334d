"""The SHA-256 of a model's file, read once: a file of many gigabytes takes a minute."""

from __future__ import annotations

import json
from pathlib import Path

from filelock import FileLock

from llamacpp_tools import home
from llamacpp_tools.files import sha256_file, write_text_atomic

KEPT = 200


def model_sha256(*paths: Path) -> str:
    """The SHA-256 of a model's file, or of all its parts behind one another.

    It is remembered by path, size, inode and time of change.

    Raises:
        OSError: a file cannot be read.
    """
    name = " ".join(_state(path) for path in paths)
    record = home.models_dir() / "digests.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(record.with_suffix(".lock")):
        known = _read(record)
        if name not in known:
            known[name] = sha256_file(*paths)
            newest = dict(list(known.items())[-KEPT:])
            write_text_atomic(record, json.dumps(newest, indent=1) + "\n")
        return known[name]


def _state(path: Path) -> str:
    status = path.stat()
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {status.st_ino}"


def _read(record: Path) -> dict[str, str]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    # A file that is not ours says nothing; it is written anew.
    good = isinstance(known, dict) and all(isinstance(value, str) for value in known.values())
    return known if good else {}
