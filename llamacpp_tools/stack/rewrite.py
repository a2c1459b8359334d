"""Several files of one folder changed as one step.

The new files are staged beside the old ones in full, then a plan is written, then the plan is carried out. A run
killed before the plan was there has changed nothing; one killed after it is finished by the next refresh, and
until then nobody reads the folder (`is_unfinished`). What is still to be done elsewhere once the files are there
stays noted (`pending`) until it is done.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.files import write_atomic, write_text_atomic
from llamacpp_tools.stack.lock import hold

_STAGED = ".llt-refresh"
_PLAN = "plan.json"
_PENDING = "pending"


def replace_all(folder: Path, files: Mapping[str, bytes], gone: Sequence[str], then: str) -> None:
    """Write `files` (name to content) into `folder` and remove those named in `gone`: all of it, or nothing.

    A file that has its content already is not written again. `then` is what `pending` says from then on, until
    `settle`; nothing is noted where no file changes.
    """
    finish(folder)
    staged = folder / _STAGED
    with hold(_lock(folder), wait=True):
        shutil.rmtree(staged, ignore_errors=True)
        new = {name: raw for name, raw in files.items() if _content(folder / name) != raw}
        for name, raw in new.items():
            with write_atomic(staged / name) as part:
                part.write_bytes(raw)
        if new or gone:
            staged.mkdir(parents=True, exist_ok=True)
            plan = {"files": list(new), "gone": list(gone), "then": then}
            write_text_atomic(staged / _PLAN, json.dumps(plan) + "\n")
    finish(folder)


def finish(folder: Path) -> None:
    """Carry out the plan that lies in `folder`, if one does."""
    if not folder.is_dir():
        return
    staged = folder / _STAGED
    with hold(_lock(folder), wait=True):
        if not is_unfinished(folder):
            return
        plan = json.loads((staged / _PLAN).read_text(encoding="utf-8"))
        for name in plan["files"]:
            if (staged / name).exists():
                (staged / name).replace(folder / name)
        for name in plan["gone"]:
            (folder / name).unlink(missing_ok=True)
        write_text_atomic(staged / _PENDING, plan["then"])
        (staged / _PLAN).unlink()


def is_unfinished(folder: Path) -> bool:
    """True if the files of `folder` are about to be changed by a plan, so that they do not fit together."""
    return (folder / _STAGED / _PLAN).is_file()


def pending(folder: Path) -> str | None:
    """What was to be done once the files were changed; None if that is done."""
    path = folder / _STAGED / _PENDING
    return path.read_text(encoding="utf-8") if path.is_file() and not is_unfinished(folder) else None


def settle(folder: Path) -> None:
    """What `pending` said is done."""
    if not is_unfinished(folder):
        shutil.rmtree(folder / _STAGED, ignore_errors=True)


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _lock(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return home.trees_dir() / f"series-{name}.lock"
