"""Applying the series in memory: a temporary index, no work tree, a fixed identity.

Each patch is applied with no fuzz to the index of the one before and committed with its own message, author
and date, so the same base and series give the same commit hash on any machine. Nothing that a person could
be looking at is touched, so a check and a real run are the same code. A patch that fails is left out and the
rest is tried without it: one run gives the state of the whole series.
"""

from __future__ import annotations

import enum
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.git import Git, GitResult
from llamacpp_tools.stack.series import Patch

_OFFSET = re.compile(r"^Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)", re.MULTILINE)
_FAILED_AT = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)
_FAILED_FILE = re.compile(
    r"^error: (.+): (does not exist in index|already exists in index|No such file or directory|wrong type)$",
    re.MULTILINE,
)
_IN_WORDS = {
    "does not exist in index": "the file is not there",
    "No such file or directory": "the file is not there",
    "already exists in index": "the file is there already",
}
_NO_PREIMAGE = ("lacks the necessary blob", "sha1 information is lacking")


class Status(enum.StrEnum):
    """What became of one patch."""

    CLEAN = "clean"
    MOVED = "moved"
    THREE_WAY = "three-way"
    RESOLVED = "resolved"
    UPSTREAM = "already upstream"
    CONFLICT = "conflict"
    BLOCKED = "blocked"
    MISSING = "missing preimage"

    @property
    def applies(self) -> bool:
        """True if the patch is in the resulting tree."""
        return self in (Status.CLEAN, Status.MOVED, Status.THREE_WAY, Status.RESOLVED)

    @property
    def stops(self) -> bool:
        """True if a person has to do something before the patch can be in the tree."""
        return self in (Status.CONFLICT, Status.BLOCKED, Status.MISSING)


@dataclass(frozen=True)
class FailedFile:
    """A file that a patch could not change: the hunks that found no place, or why there is none for any."""

    path: str
    hunks: tuple[str, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        # Without the section's text: a line of C++ for each hunk would bury the numbers.
        places = (hunk[: hunk.rfind("@@") + 2] if hunk.startswith("@@") else hunk for hunk in self.hunks)
        return f"{self.path}: {self.reason or ', '.join(f'hunk {place}' for place in places)}"


@dataclass(frozen=True)
class Outcome:
    """One patch and what became of it; `detail` is a sentence, empty when there is nothing to say.

    Attributes:
        commit: the commit made of it, None if it is not in the tree.
        failed: with conflict, blocked and missing preimage: the files and hunks that found no place.
        blocked_by: with blocked: the names of the failed patches whose files those are.
    """

    patch: Patch
    status: Status
    commit: str | None = None
    detail: str = ""
    failed: tuple[FailedFile, ...] = ()
    blocked_by: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Mail:
    """A patch file taken apart as `git am` does: files with the diff and the message, the author as variables."""

    diff: Path
    message: Path
    author: dict[str, str]


def apply_series(git: Git, base: str, patches: Sequence[Patch]) -> Applied:
    """Apply `patches` in order onto the commit `base`; a patch that fails is left out and said.

    Objects are written to the repository of `git`; no ref moves and no work tree is touched.

    Raises:
        BadInput: a patch file has no usable mail header (author, subject).
    """
    outcomes: list[Outcome] = []
    head = base
    with tempfile.TemporaryDirectory(prefix="llt-apply-") as name:
        folder = Path(name)
        env = {"GIT_INDEX_FILE": str(folder / "index")}
        for patch in patches:
            git.run("read-tree", head, env=env)
            outcome = _apply_one(git, head, patch, folder, env)
            if outcome.status is Status.CONFLICT or outcome.status is Status.MISSING:
                outcome = _blocked(outcome, outcomes)
            outcomes.append(outcome)
            head = outcome.commit or head
    return Applied(base, head, git.tree_of(head), tuple(outcomes))


def split_mail(git: Git, patch: Patch, folder: Path) -> Mail:
    """Write the diff and the message of a patch into `folder`; author and date come from its header.

    Raises:
        BadInput: the header has no author, subject or date.
    """
    body, diff = folder / "body", folder / "diff"
    info = git.run("mailinfo", "-b", str(body), str(diff), stdin=patch.file.raw)
    header = dict(line.split(": ", 1) for line in info.text.splitlines() if ": " in line)
    if not {"Author", "Email", "Subject", "Date"} <= header.keys():
        raise BadInput(f"{patch.file.path} has no From, Date or Subject: export it with `git format-patch`")
    message = folder / "message"
    text = body.read_text(encoding="utf-8").strip()
    message.write_text(
        f"{header['Subject']}\n\n{text}\n" if text else f"{header['Subject']}\n", encoding="utf-8"
    )
    author = {
        "GIT_AUTHOR_NAME": header["Author"],
        "GIT_AUTHOR_EMAIL": header["Email"],
        "GIT_AUTHOR_DATE": header["Date"],
    }
    return Mail(diff, message, author)


def commit_tree(git: Git, tree: str, parent: str, mail: Mail) -> str:
    """Commit `tree` on `parent` as the patch: its message, author and date, the fixed committer."""
    return git.run("commit-tree", tree, "-p", parent, "-F", str(mail.message), env=mail.author).text


def _apply_one(git: Git, parent: str, patch: Patch, folder: Path, env: dict[str, str]) -> Outcome:
    mail = split_mail(git, patch, folder)
    diff = str(mail.diff)
    # git apply knows no fuzz: context must match in full, at its place or at another.
    tried = git.run("apply", "--cached", "--verbose", "--whitespace=nowarn", diff, check=False, env=env)
    status, detail = Status.CLEAN, ""
    if not tried.ok:
        if git.run("apply", "--cached", "--reverse", "--check", diff, check=False, env=env).ok:
            return _taken(patch)
        merged = git.run("apply", "--cached", "--3way", "--whitespace=nowarn", diff, check=False, env=env)
        unmerged = git.text("ls-files", "--unmerged", env=env).splitlines()
        if not merged.ok or unmerged:
            sides = {line.split("\t", 1)[1] for line in unmerged}
            return _failure(git, parent, patch, diff, merged, sides, env)
        status, detail = Status.THREE_WAY, "applied by a three-way merge: refresh the file"
    elif moved := _OFFSET.findall(tried.stderr):
        status, detail = Status.MOVED, f"{len(moved)} of {len(patch.file.hunks)} hunks moved"
    tree = git.text("write-tree", env=env)
    if tree == git.tree_of(parent):
        return _taken(patch)
    return Outcome(patch, status, commit_tree(git, tree, parent, mail), detail)


def _taken(patch: Patch) -> Outcome:
    return Outcome(patch, Status.UPSTREAM, detail="upstream already has this change: drop the patch")


def _failure(
    git: Git,
    parent: str,
    patch: Patch,
    diff: str,
    merged: GitResult,
    unmerged: set[str],
    env: dict[str, str],
) -> Outcome:
    failed = _failed_files(git, parent, patch, diff, env)
    # Where a merge was tried, only the files that it could not merge are a conflict.
    failed = tuple(file for file in failed if file.path in unmerged) or failed
    told = "; ".join(str(file) for file in failed)
    if not merged.ok and any(sign in merged.stderr for sign in _NO_PREIMAGE):
        why = "the file that the patch was made from is not in the repository, so nothing could be merged"
        return Outcome(patch, Status.MISSING, detail=f"{told} ({why})", failed=failed)
    return Outcome(patch, Status.CONFLICT, detail=told, failed=failed)


def _failed_files(
    git: Git, parent: str, patch: Patch, diff: str, env: dict[str, str]
) -> tuple[FailedFile, ...]:
    """Every file and hunk that finds no place; `--reject` makes git go on past the first of each file."""
    git.run("read-tree", parent, env=env)
    said = git.run("apply", "--cached", "--check", "--reject", "--verbose", diff, check=False, env=env).stderr
    hunks: dict[str, list[str]] = {}
    for path, line in _FAILED_AT.findall(said):
        hunk = next((h for h in patch.file.hunks if h.path == path and h.old_start == int(line)), None)
        hunks.setdefault(path, []).append(str(hunk) if hunk else f"at line {line}")
    failed = [FailedFile(path, tuple(found)) for path, found in hunks.items()]
    failed += [FailedFile(path, reason=_IN_WORDS.get(why, why)) for path, why in _FAILED_FILE.findall(said)]
    if failed:
        return tuple(failed)
    reasons = [text.removeprefix("error: ") for text in said.splitlines() if text.startswith("error: ")]
    return tuple(
        FailedFile(path, reason=reasons[0] if reasons else "git gave no reason") for path in patch.file.paths
    )


def _blocked(outcome: Outcome, before: Sequence[Outcome]) -> Outcome:
    """The outcome as blocked, if each file that failed is one that a failed patch before it should have changed."""
    stopped = [each for each in before if each.status.stops]
    files = {file.path for file in outcome.failed}
    blockers = [each for each in stopped if files & set(each.patch.file.paths)]
    if not files or not files <= {path for each in blockers for path in each.patch.file.paths}:
        return outcome
    names = tuple(each.patch.name for each in blockers)
    detail = f"needs {', '.join(names)}, which failed; {outcome.detail}"
    return Outcome(outcome.patch, Status.BLOCKED, None, detail, outcome.failed, names)
