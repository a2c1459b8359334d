"""Commits as patch files, in the one stable form, and the commit hash that a series has everywhere.

The form is format-patch's without all that changes when nothing did: no commit hash, full blob hashes (their
short form grows with the repository), no signature (it names git's version), no diffstat, the subject as it is,
and the author's own date. Everything that git would take from a configuration is given here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.apply import Applied
from llamacpp_tools.stack.git import Git

FIRST_LINE = b"From " + b"0" * 40 + b" Mon Sep 17 00:00:00 2001"

_FORM = (
    "--stdout", "--zero-commit", "--full-index", "--no-signature", "--no-stat", "--keep-subject",
    "--no-attach", "--no-thread", "--no-from", "--no-notes", "--no-add-header", "--no-to", "--no-cc",
    "--encode-email-headers", "--unified=3", "--diff-algorithm=myers", "--find-renames=50%",
    "--src-prefix=a/", "--dst-prefix=b/", "--no-ext-diff", "--no-textconv", "--no-color",
)  # fmt: skip
_HEADERS = (rb"From: .+ <.*>", rb"Date: .+ [+-]\d{4}", rb"Subject: .+")
_PARENT = re.compile(rb"^parent [0-9a-f]+$", re.MULTILINE)
_INDEX = re.compile(rb"^index ([0-9a-f]+)\.\.([0-9a-f]+)(?: \d+)?$", re.MULTILINE)


def export(git: Git, commit: str) -> bytes:
    """One commit as a patch file in the stable form."""
    return git.run("format-patch", *_FORM, "-1", commit).stdout


def form_problems(raw: bytes) -> list[tuple[int, str]]:
    """What keeps a patch file from being in the stable form, as (1-based line, sentence)."""
    head = raw.split(b"\ndiff --git ", 1)[0]
    lines = head.split(b"\n")
    found = []
    if lines[0] != FIRST_LINE:
        found.append(
            (1, "does not begin with the fixed From line, so it carries a commit hash or no mail header")
        )
    # git folds a long header: the next line begins with a blank.
    header = b"\n".join(lines[: _end_of_header(lines)]).replace(b"\n ", b" ").split(b"\n")
    missing = [
        pattern.split(b":")[0].decode()
        for pattern in _HEADERS
        if not any(re.fullmatch(pattern, line) for line in header)
    ]
    if missing:
        found.append((1, f"its mail header has no usable {', '.join(missing)} line"))
    for number, line in enumerate(lines, start=1):
        if line.startswith(b"Subject: [PATCH"):
            found.append((number, "the subject carries a [PATCH] mark"))
        if line == b"---":
            found.append((number, "a diffstat stands between the message and the diff"))
    for index in _INDEX.finditer(raw):
        if min(len(index[1]), len(index[2])) < 40:
            line_number = raw.count(b"\n", 0, index.start()) + 1
            found.append((line_number, "a blob hash is cut short: export with full hashes"))
            break
    tail = raw.rstrip(b"\n").split(b"\n")[-2:]
    if tail[0] == b"-- ":
        found.append((raw.rstrip(b"\n").count(b"\n"), "a signature with git's version stands at the end"))
    return found


def _end_of_header(lines: Sequence[bytes]) -> int:
    return next((number for number, line in enumerate(lines) if not line), len(lines))


def commits_between(git: Git, base: str, head: str) -> list[str]:
    """The commits on top of `base` up to `head`, oldest first.

    Raises:
        CheckFailed: `head` does not stand on `base`, or there are merges in between.
    """
    if not git.run("merge-base", "--is-ancestor", base, head, check=False).ok:
        raise CheckFailed(
            f"{head[:12]} does not stand on upstream's {base[:12]}: run `llt rebase` to make the tree again"
        )
    if git.text("rev-list", "--merges", f"{base}..{head}"):
        raise CheckFailed(
            f"there is a merge between {base[:12]} and {head[:12]}: a series is one line of commits, so take the"
            " merge out with `git rebase` in the tree"
        )
    return git.text("rev-list", "--reverse", f"{base}..{head}").split()


def subject(git: Git, commit: str) -> str:
    """The first paragraph of a commit's message, as one line."""
    return git.text("show", "--no-patch", "--format=%s", commit)


def changed_paths(git: Git, commit: str) -> list[str]:
    """The files that a commit changes, both names of one that moved."""
    names = git.run("diff-tree", "--no-commit-id", "--name-only", "--no-renames", "-r", "-z", commit).stdout
    return [name.decode("utf-8", "replace") for name in names.split(b"\0") if name]


def range_diff(git: Git, old: Applied, new: Applied) -> str:
    """`git range-diff` of two applications of a series, as text; each commit is one line if it is the same."""
    return git.text("range-diff", "--no-color", f"{old.base}..{old.head}", f"{new.base}..{new.head}")


def portable_base(git: Git, tree: str) -> str:
    """A commit without parents that holds `tree`: the same hash wherever upstream came from.

    A git remote and a bundle wrap the same content in different commits; a HEAD that stands on either could not
    be recorded.
    """
    return git.text("commit-tree", tree, "-m", "llama.cpp")


def portable_head(git: Git, applied: Applied) -> str:
    """The commit that the same patches give on `portable_base`: the stack's identity on any machine."""
    head = portable_base(git, git.tree_of(applied.base))
    for outcome in applied.outcomes:
        if outcome.commit is not None:
            raw = git.run("cat-file", "commit", outcome.commit).stdout
            moved = _PARENT.sub(b"parent " + head.encode(), raw, count=1)
            head = git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=moved).text
    return head
