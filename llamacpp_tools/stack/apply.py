"""Applying the series in memory: a temporary index, no work tree, a fixed identity.

Each patch is applied with no fuzz to the index of the one before and committed with its own message, author
and date, so the same base and series give the same commit hash on any machine. Nothing that a person could
be looking at is touched, so a check and a real run are the same code.
"""

from __future__ import annotations

import enum
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.series import Patch

_OFFSET = re.compile(r"^Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)", re.MULTILINE)
_FAILED_AT = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)


class Status(enum.StrEnum):
    """What became of one patch."""

    CLEAN = "clean"
    MOVED = "moved"
    THREE_WAY = "three-way"
    UPSTREAM = "already upstream"
    CONFLICT = "conflict"

    @property
    def applies(self) -> bool:
        """True if the patch is in the resulting tree."""
        return self in (Status.CLEAN, Status.MOVED, Status.THREE_WAY)


@dataclass(frozen=True)
class Outcome:
    """One patch and what became of it; `detail` is a sentence, empty when there is nothing to say."""

    patch: Patch
    status: Status
    commit: str | None = None
    detail: str = ""


@dataclass(frozen=True)
class Applied:
    """The series on a base: one outcome a patch, and the commit on top of all that applied."""

    base: str
    head: str
    tree: str
    outcomes: tuple[Outcome, ...]

    @property
    def complete(self) -> bool:
        """True if every patch of the series is in the tree."""
        return all(outcome.status.applies for outcome in self.outcomes)


def apply_series(git: Git, base: str, patches: Sequence[Patch]) -> Applied:
    """Apply `patches` in order onto the commit `base`; a patch that fails is left out and said.

    Objects are written to the repository of `git`; no ref moves and no work tree is touched.

    Raises:
        BadInput: a patch file has no usable mail header (author, subject).
    """
    outcomes = []
    head = base
    with tempfile.TemporaryDirectory(prefix="llt-apply-") as name:
        folder = Path(name)
        env = {"GIT_INDEX_FILE": str(folder / "index")}
        for patch in patches:
            git.run("read-tree", head, env=env)
            outcome = _apply_one(git, head, patch, folder, env)
            outcomes.append(outcome)
            head = outcome.commit or head
    return Applied(base, head, git.tree_of(head), tuple(outcomes))


def _apply_one(git: Git, parent: str, patch: Patch, folder: Path, env: dict[str, str]) -> Outcome:
    diff = folder / "diff"
    message, author = _mail(git, patch, folder, diff)
    tried = git.run("apply", "--cached", "--verbose", "--whitespace=nowarn", str(diff), check=False, env=env)
    status, detail = Status.CLEAN, ""
    if not tried.ok:
        if git.run("apply", "--cached", "--reverse", "--check", str(diff), check=False, env=env).ok:
            return Outcome(patch, Status.UPSTREAM, detail="upstream already has this change: drop the patch")
        merged = git.run(
            "apply", "--cached", "--3way", "--whitespace=nowarn", str(diff), check=False, env=env
        )
        if not merged.ok or git.run("ls-files", "--unmerged", env=env).stdout:
            return Outcome(patch, Status.CONFLICT, detail=_conflict(patch, tried.stderr))
        status, detail = Status.THREE_WAY, "applied by a three-way merge: refresh the file"
    elif moved := _OFFSET.findall(tried.stderr):
        status, detail = Status.MOVED, f"{len(moved)} of {len(patch.file.hunks)} hunks moved"
    tree = git.text("write-tree", env=env)
    if tree == git.tree_of(parent):
        return Outcome(patch, Status.UPSTREAM, detail="upstream already has this change: drop the patch")
    commit = git.run("commit-tree", tree, "-p", parent, "-F", str(message), env=env | author).text
    return Outcome(patch, status, commit, detail)


def _mail(git: Git, patch: Patch, folder: Path, diff: Path) -> tuple[Path, dict[str, str]]:
    """Split the patch file into message and diff as `git am` does; author and date from its header."""
    body = folder / "body"
    info = git.run("mailinfo", "-b", str(body), str(diff), stdin=patch.file.raw)
    header = dict(line.split(": ", 1) for line in info.text.splitlines() if ": " in line)
    if not {"Author", "Email", "Subject", "Date"} <= header.keys():
        raise BadInput(f"{patch.file.path} has no From, Date or Subject: export it with `git format-patch`")
    message = folder / "message"
    text = body.read_text(encoding="utf-8").strip()
    message.write_text(
        f"{header['Subject']}\n\n{text}\n" if text else f"{header['Subject']}\n", encoding="utf-8"
    )
    return message, {
        "GIT_AUTHOR_NAME": header["Author"],
        "GIT_AUTHOR_EMAIL": header["Email"],
        "GIT_AUTHOR_DATE": header["Date"],
    }


def _conflict(patch: Patch, stderr: str) -> str:
    failed = []
    for path, line in _FAILED_AT.findall(stderr):
        hunk = next((h for h in patch.file.hunks if h.path == path and h.old_start == int(line)), None)
        failed.append(f"{path}: hunk {hunk}" if hunk else f"{path}: the hunk at line {line}")
    if not failed:
        said = [text.removeprefix("error: ") for text in stderr.splitlines() if text.startswith("error: ")]
        failed = said[:3] or ["git gave no reason"]
    return "; ".join(failed)
