"""Applying the series in memory: a temporary index, no work tree, a fixed identity.

Each patch is applied with no fuzz to the index of the one before and committed with its own message, author
and date, so the same base and series give the same commit hash on any machine. Nothing that a person could
be looking at is touched, so a check and a real run are the same code. A patch that fails is left out and the
rest is tried without it: one run gives the state of the whole series.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.place import Index, place
from llamacpp_tools.stack.series import Patch
from llamacpp_tools.stack.status import FailedFile, Status


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


def _apply_one(git: Git, parent: str, patch: Patch, folder: Path, index: Index) -> Outcome:
    mail = split_mail(git, patch, folder)
    placed = place(index, git.tree_of(parent), patch, str(mail.diff))
    commit = None if placed.tree is None else commit_tree(git, placed.tree, parent, mail)
    return Outcome(patch, placed.status, commit, placed.detail, placed.failed)


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
