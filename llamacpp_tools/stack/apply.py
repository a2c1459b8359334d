"""Applying the series in memory: a temporary index, no work tree, a fixed identity.

Each patch is applied with no fuzz to the index of the one before and committed with its own message, author
and date, so the same base and series give the same commit hash on any machine. Nothing that a person could
be looking at is touched, so a check and a real run are the same code. A patch that fails is left out and the
rest is tried without it: one run gives the state of the whole series.
"""

from __future__ import annotations

import enum
import re
import shutil
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
_TAKEN = "upstream already has this change: drop the patch"
_ELSEWHERE = "its context is found, but upstream changed these lines where they stood"
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
        index, holds = Index(git, folder / "index"), ""
        for patch in patches:
            if holds != head:
                index.read(head)
            outcome = _apply_one(git, head, patch, folder, index)
            holds = outcome.commit or ""
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


@dataclass(frozen=True)
class Placed:
    """What git makes of one diff on a tree.

    Attributes:
        status: what became of it.
        tree: the tree with the diff in it; None unless it applies.
        detail: a sentence, empty when there is nothing to say.
        failed: the files and hunks that found no place.
    """

    status: Status
    tree: str | None = None
    detail: str = ""
    failed: tuple[FailedFile, ...] = ()


class Index:
    """An index file apart from any work tree, on which diffs are tried."""

    def __init__(self, git: Git, path: Path) -> None:
        self.git, self.path = git, path
        self.env = {"GIT_INDEX_FILE": str(path)}

    def read(self, tree: str) -> None:
        """Fill it with a tree (or a commit's)."""
        self.git.run("read-tree", tree, env=self.env)

    def write(self) -> str:
        """The hash of the tree that it holds."""
        return self.git.text("write-tree", env=self.env)

    def apply(self, diff: str, *how: str) -> GitResult:
        """`git apply` on it alone; git knows no fuzz here: context must match in full, at its place or another."""
        return self.git.run("apply", "--cached", "--whitespace=nowarn", *how, diff, check=False, env=self.env)

    def copy(self, name: str) -> Index:
        """Another one with the same content, beside it."""
        made = Index(self.git, self.path.with_name(f"{self.path.name}-{name}"))
        shutil.copyfile(self.path, made.path)
        return made

    def becomes(self, other: Index) -> None:
        """Take over the content of another one, which is gone then."""
        other.path.replace(self.path)


def place(index: Index, parent: str, patch: Patch, diff: str) -> Placed:
    """Put a diff onto the tree `parent`, which `index` holds; where it applies, `index` holds the result.

    A diff finds its place by its context, and the same lines may stand elsewhere: git would then change a
    look-alike of the function that upstream has mended itself. So a three-way merge, which knows the file that
    the patch was made from, is made as well, and what it says counts. Without that file there is no second
    opinion, and a diff that could be applied as well as taken back is not guessed at.

    Args:
        index: holds `parent`.
        parent: a tree's hash.
        patch: whose diff it is.
        diff: the path of the diff.
    """
    by_merge = index.copy("merge")
    tried = index.apply(diff, "--verbose")
    direct = index.write() if tried.ok else None
    moved = len(_OFFSET.findall(tried.stderr)) if tried.ok else 0
    merged = by_merge.apply(diff, "--3way")
    is_guess = any(sign in merged.stderr for sign in _NO_PREIMAGE)
    if not merged.ok:
        return _failure(by_merge, parent, patch, diff, is_guess=is_guess, found=tried.ok)
    tree = by_merge.write()
    if tree == parent:
        index.becomes(by_merge)
        return Placed(Status.UPSTREAM, detail=_TAKEN)
    if is_guess and moved and _is_there(index, parent, diff):
        why = "its lines can be put in and taken out, and the file that the patch was made from is not here to tell"
        failed = tuple(FailedFile(path, reason=why) for path in patch.file.paths)
        return Placed(Status.MISSING, detail="; ".join(map(str, failed)), failed=failed)
    index.becomes(by_merge)
    if tree != direct:
        return Placed(Status.THREE_WAY, tree, "applied by a three-way merge: refresh the file")
    if moved:
        return Placed(Status.MOVED, tree, f"{moved} of {len(patch.file.hunks)} hunks moved")
    return Placed(Status.CLEAN, tree)


def _apply_one(git: Git, parent: str, patch: Patch, folder: Path, index: Index) -> Outcome:
    mail = split_mail(git, patch, folder)
    placed = place(index, git.tree_of(parent), patch, str(mail.diff))
    commit = None if placed.tree is None else commit_tree(git, placed.tree, parent, mail)
    return Outcome(patch, placed.status, commit, placed.detail, placed.failed)


def _is_there(index: Index, parent: str, diff: str) -> bool:
    """True if the change could be taken back, so that its lines stand there, or lines that look like them."""
    index.read(parent)
    return index.apply(diff, "--reverse", "--check").ok


def _failure(index: Index, parent: str, patch: Patch, diff: str, *, is_guess: bool, found: bool) -> Placed:
    lines = index.git.text("ls-files", "--unmerged", env=index.env).splitlines()
    unmerged = {line.split("\t", 1)[1] for line in lines}
    is_there = _is_there(index, parent, diff)
    if is_guess and is_there:
        return Placed(Status.UPSTREAM, detail=_TAKEN)
    failed = tuple(FailedFile(path, reason=_ELSEWHERE) for path in sorted(unmerged)) if found else ()
    failed = failed or _failed_files(index, patch, diff)
    # Where a merge was tried, only the files that it could not merge are a conflict.
    failed = tuple(file for file in failed if file.path in unmerged) or failed
    told = "; ".join(str(file) for file in failed)
    if is_guess:
        why = "the file that the patch was made from is not in the repository, so nothing could be merged"
        return Placed(Status.MISSING, detail=f"{told} ({why})", failed=failed)
    hint = "; the same lines stand there already: perhaps upstream took the change" if is_there else ""
    return Placed(Status.CONFLICT, detail=told + hint, failed=failed)


def _failed_files(index: Index, patch: Patch, diff: str) -> tuple[FailedFile, ...]:
    """Every file and hunk that finds no place; `--reject` makes git go on past the first of each file."""
    said = index.apply(diff, "--check", "--reject", "--verbose").stderr
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
