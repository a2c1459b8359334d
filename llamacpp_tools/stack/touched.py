"""Which upstream commits touched the files of a conflict, and which of them its hunks.

With history the answer is `git log PIN..TARGET -- FILE`, and each commit's own hunks are followed from the
pin's line numbers onward, so a commit that only shifted the lines is told from one that changed them. Where
upstream came as squashed snapshots there is no history to ask, and that is said with the two versions' names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llamacpp_tools.stack.apply import Outcome
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.patchfile import Hunk
from llamacpp_tools.stack.source import Source

_HUNK = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_MARK = "\x01"


@dataclass(frozen=True)
class Commit:
    """An upstream commit: full hash, date (YYYY-MM-DD), subject, the files it touched, and whether in our hunks."""

    hash: str
    date: str
    subject: str
    paths: tuple[str, ...]
    in_hunks: bool

    def __str__(self) -> str:
        return f"{self.hash[:10]} {self.subject}"


@dataclass(frozen=True)
class Touched:
    """What upstream did to some files between the pin and a target.

    Attributes:
        commits: oldest first; empty where there is no history.
        renamed: (old, new) path of each file that upstream gave another name.
        note: a sentence on what could not be told; empty with full history.
    """

    commits: tuple[Commit, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    note: str = ""


def touched(git: Git, pin: Source, target: Source, hunks: Sequence[Hunk], paths: Iterable[str]) -> Touched:
    """The upstream commits between `pin` and `target` that touched `paths`, and the renames of those.

    Args:
        git: the repository that holds both.
        pin: what the patches were written for; its line numbers are those of `hunks`.
        target: what they were applied onto.
        hunks: the patch's hunks; a commit that changed one of their lines is marked.
        paths: the files to ask about.
    """
    files = tuple(dict.fromkeys(paths))
    renamed = _renamed(git, pin, target, files)
    base = _in_history(git, pin, target)
    if base is None:
        return Touched((), renamed, _without_history(git, pin, target, files))
    found: dict[str, Commit] = {}
    for path in files:
        for commit in _commits(git, base, target.commit, path, [h for h in hunks if h.path == path]):
            known = found.get(commit.hash)
            found[commit.hash] = commit if known is None else _joined(known, commit)
    order = git.text("rev-list", "--reverse", f"{base}..{target.commit}").splitlines() if found else []
    return Touched(tuple(found[each] for each in order if each in found), renamed, "")


def of_failures(git: Git, pin: Source, target: Source, outcomes: Iterable[Outcome]) -> dict[str, Touched]:
    """For each patch that failed, by name, what upstream did to the files it failed at."""
    return {
        each.patch.name: touched(git, pin, target, each.patch.file.hunks, [file.path for file in each.failed])
        for each in outcomes
        if each.status.stops
    }


def _joined(one: Commit, other: Commit) -> Commit:
    return Commit(one.hash, one.date, one.subject, one.paths + other.paths, one.in_hunks or other.in_hunks)


def _in_history(git: Git, pin: Source, target: Source) -> str | None:
    """The pin's commit in the target's history; by content where the pin's own commit came from a snapshot."""
    if git.run("merge-base", "--is-ancestor", pin.commit, target.commit, check=False).ok:
        return pin.commit
    for line in git.text("log", "--format=%H %T", target.commit).splitlines():
        commit, tree = line.split()
        if tree == pin.tree:
            return commit
    return None


def _without_history(git: Git, pin: Source, target: Source, files: Sequence[str]) -> str:
    names = git.text("diff", "--name-only", "--no-renames", pin.tree, target.tree, "--", *files)
    same = [path for path in files if path not in names.splitlines()]
    but = f", but not {', '.join(same)}" if same else ""
    return (
        f"upstream changed these files between {pin.label} and {target.label}{but}; by which commits cannot be"
        " told: snapshots only, no history here"
    )


def _renamed(git: Git, pin: Source, target: Source, files: Sequence[str]) -> tuple[tuple[str, str], ...]:
    here = set(git.text("ls-tree", "-r", "--name-only", "--full-tree", target.tree, *files).splitlines())
    gone = [path for path in files if path not in here]
    if not gone:
        return ()
    listed = git.text("diff", "--name-status", "--find-renames", "--diff-filter=R", pin.tree, target.tree)
    pairs = [line.split("\t")[1:3] for line in listed.splitlines()]
    return tuple((old, new) for old, new in pairs if old in gone)


def _commits(git: Git, base: str, target: str, path: str, hunks: Sequence[Hunk]) -> list[Commit]:
    log = git.text(
        "log", "--reverse", "--no-merges", "--patch", "--unified=0", "--no-renames", "--no-color",
        f"--format={_MARK}%H%x00%cs%x00%s", f"{base}..{target}", "--", path,
    )  # fmt: skip
    spans = [[hunk.old_start, hunk.old_start + max(hunk.old_lines, 1) - 1] for hunk in hunks]
    found = []
    for block in log.split(_MARK)[1:]:
        head, *body = block.splitlines()
        commit, date, subject = head.split("\0", 2)
        edits = [_edit(match) for line in body if (match := _HUNK.match(line))]
        found.append(Commit(commit, date, subject, (path,), _followed(spans, edits)))
    return found


def _edit(found: re.Match[str]) -> tuple[int, int, int]:
    """(first old line, old lines, new lines) of one hunk with no context."""
    start, old, _, new = found.groups()
    return int(start), 1 if old is None else int(old), 1 if new is None else int(new)


def _followed(spans: list[list[int]], edits: Sequence[tuple[int, int, int]]) -> bool:
    """Carry the spans (first and last line, changed in place) over one commit; True if it changed one of them."""
    hit = False
    for span in spans:
        first, last = span
        shift = grown = 0
        for start, old, new in edits:
            # An insertion stands after line `start`; it hits a span only if it lies between two of its lines.
            end = start + old - 1 if old else start
            if end < first or (old == 0 and start < first):
                shift += new - old
            elif start <= last and not (old == 0 and start == last):
                hit = True
                grown += new - old
        span[0], span[1] = first + shift, max(first, last + grown) + shift
    return hit
