"""Where one diff finds its place on a tree: by its context, by a three-way merge, or nowhere.

A diff finds its place by its context, and the same lines may stand elsewhere: git would then change a look-alike
of the function that upstream has mended itself. So a three-way merge, which knows the file that the diff was made
from, is made as well, and what it says counts. Without that file there is no second opinion, and a diff that
could be applied as well as taken back is not guessed at.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.stack.git import Git, GitResult
from llamacpp_tools.stack.patchfile import Section
from llamacpp_tools.stack.series import Patch
from llamacpp_tools.stack.status import FailedFile, Status
from llamacpp_tools.stack.treestate import missing_objects

_OFFSET = re.compile(r"^Hunk #(\d+) succeeded at (\d+) \(offset (-?\d+) lines?\)")
_CHECKING = re.compile(r"^Checking patch (?:.+ => )?(.+)\.\.\.$")
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
TAKEN = "upstream already has this change: drop the patch"
_ELSEWHERE = "its context is found, but upstream changed these lines where they stood"
_EITHER_WAY = (
    "its lines can be put in and taken out, and the file that the patch was made from is not here to tell"
)
_NOT_MERGED = "the file that the patch was made from is not in the repository, so nothing could be merged"
_NO_PREIMAGE = ("lacks the necessary blob", "sha1 information is lacking")


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


@dataclass(frozen=True)
class Ways:
    """The sections of a patch by the way in which each can come into a tree.

    Attributes:
        taken: what the section makes is there already, to the byte.
        merged: git has the file that it was made from, so it can be merged.
        guessed: git has not; it goes where its context is.
        by_hand: there is no way: it changes or removes a file that is another or gone, or its context could
            stand for two places.
    """

    taken: tuple[Section, ...] = ()
    merged: tuple[Section, ...] = ()
    guessed: tuple[Section, ...] = ()
    by_hand: tuple[Section, ...] = ()


class Index:
    """An index file apart from any work tree, on which diffs are tried.

    `git apply` looks at files beside it, even with `--cached`: so it runs in a folder of its own, which is empty.
    """

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
        beside = self.path.with_name(f"{self.path.name}-files")
        beside.mkdir()
        try:
            return Git(beside).run(
                "apply", "--cached", "--whitespace=nowarn", *how, diff, check=False,
                env=self.env | {"GIT_DIR": self.git.git_dir, "GIT_WORK_TREE": str(beside)},
            )  # fmt: skip
        finally:
            try:
                beside.rmdir()
            except OSError:
                shutil.rmtree(beside)

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

    Args:
        index: holds `parent`.
        parent: a tree's hash.
        patch: whose diff it is.
        diff: the path of the diff.
    """
    tried = _Try(index, parent, patch, diff)
    if tried.is_sure:
        return tried.outcome()
    taken = _taken(index.git, parent, patch)
    if not taken:
        return tried.outcome()
    index.read(parent)
    n_sections = len(patch.file.sections)
    if len(taken) == n_sections:
        return Placed(Status.UPSTREAM, detail=TAKEN)
    placed = _Try(index, parent, patch, diff, taken).outcome()
    if placed.tree is None:
        return placed
    share = f"{len(taken)} of {n_sections}"
    return Placed(Status.THREE_WAY, placed.tree, f"upstream already has {share} files: refresh the file")


def ways(git: Git, folder: Path, parent: str, patch: Patch, diff: str) -> Ways:
    """How each section of a patch that does not apply can come into the tree `parent`.

    Args:
        git: the repository.
        folder: an empty one, for an index.
        parent: a tree's hash.
        patch: whose diff it is.
        diff: the path of the diff.
    """
    index = Index(git, folder / "index")
    index.read(parent)
    taken = _taken(git, parent, patch)
    rest = [section for section in patch.file.sections if section not in taken]
    lacking = _without_preimage(git, rest)
    doubtful = _doubtful(
        index, parent, diff, lacking, _moved(index.apply(diff, "--verbose", *only(lacking)).stderr)
    )
    lies = _files(git, parent, rest)
    merged: list[Section] = []
    guessed: list[Section] = []
    by_hand: list[Section] = []
    for section in rest:
        _, blob = lies.get(section.old or "", ("", ""))
        is_gone = section.old is not None and not blob
        is_other = section.new is None and section.old_blob != blob
        if is_gone or is_other or section in doubtful:
            by_hand.append(section)
        else:
            (guessed if section in lacking else merged).append(section)
    return Ways(taken, tuple(merged), tuple(guessed), tuple(by_hand))


class _Try:
    """A diff applied by its context, which leaves its result in `index`, and merged, in an index of its own."""

    def __init__(
        self, index: Index, parent: str, patch: Patch, diff: str, leave: tuple[Section, ...] = ()
    ) -> None:
        self.index, self.parent, self.patch, self.diff = index, parent, patch, diff
        self.leave = _without(leave)
        self.by_merge = index.copy("merge")
        self.direct = index.apply(diff, "--verbose", *self.leave)
        self.merge = self.by_merge.apply(diff, "--3way", *self.leave)
        self.lacking: tuple[Section, ...] = ()
        if any(sign in self.merge.stderr for sign in _NO_PREIMAGE):
            self.lacking = _without_preimage(
                index.git, [section for section in patch.file.sections if section not in leave]
            )

    @property
    def is_sure(self) -> bool:
        """True if it could be merged, with every file that it was made from at hand."""
        return self.merge.ok and not self.lacking

    def outcome(self) -> Placed:
        """What became of it."""
        if not self.merge.ok:
            return self._failure()
        tree = self.by_merge.write()
        if tree == self.parent:
            self.index.becomes(self.by_merge)
            return Placed(Status.UPSTREAM, detail=TAKEN)
        direct = self.index.write() if self.direct.ok else None
        moved = _moved(self.direct.stderr) if self.direct.ok else {}
        if doubtful := _doubtful(self.index, self.parent, self.diff, self.lacking, moved):
            failed = tuple(FailedFile(section.path, reason=_EITHER_WAY) for section in doubtful)
            return Placed(Status.MISSING, detail="; ".join(map(str, failed)), failed=failed)
        self.index.becomes(self.by_merge)
        if tree != direct:
            return Placed(Status.THREE_WAY, tree, "applied by a three-way merge: refresh the file")
        if moved:
            return Placed(
                Status.MOVED, tree, f"{sum(moved.values())} of {len(self.patch.file.hunks)} hunks moved"
            )
        return Placed(Status.CLEAN, tree)

    def _failure(self) -> Placed:
        lines = self.by_merge.git.text("ls-files", "--unmerged", env=self.by_merge.env).splitlines()
        unmerged = {line.split("\t", 1)[1] for line in lines}
        self.index.read(self.parent)
        is_there = self.index.apply(self.diff, "--reverse", "--check", *self.leave).ok
        if self.lacking and is_there and not unmerged:
            return Placed(Status.UPSTREAM, detail=TAKEN)
        failed = self._failed_files(unmerged)
        told = "; ".join(str(file) for file in failed)
        lacking = {path for section in self.lacking for path in section.paths}
        if {file.path for file in failed} <= lacking:
            return Placed(Status.MISSING, detail=f"{told} ({_NOT_MERGED})", failed=failed)
        hint = "; the same lines stand there already: perhaps upstream took the change" if is_there else ""
        return Placed(Status.CONFLICT, detail=told + hint, failed=failed)

    def _failed_files(self, unmerged: set[str]) -> tuple[FailedFile, ...]:
        """Where a merge was tried, only the files that it could not merge have failed, and those without one."""
        if self.direct.ok and unmerged:
            return tuple(FailedFile(path, reason=_ELSEWHERE) for path in sorted(unmerged))
        failed = _failed_files(self.index, self.patch, self.diff, self.leave)
        if not unmerged:
            return failed
        lacking = {path for section in self.lacking for path in section.paths}
        kept = [file for file in failed if file.path in unmerged | lacking]
        named = {file.path for file in kept}
        kept += [FailedFile(path, reason=_ELSEWHERE) for path in sorted(unmerged - named)]
        return tuple(kept)


def _taken(git: Git, tree: str, patch: Patch) -> tuple[Section, ...]:
    """The sections whose result is in the tree to the byte, or whose file is gone as they want it."""
    lies = _files(git, tree, patch.file.sections)

    def is_taken(section: Section) -> bool:
        if section.old is not None and section.old != section.new and section.old in lies:
            return False
        if section.new is None:
            return True
        mode, blob = lies.get(section.new, ("", ""))
        if not blob or (section.new_mode and mode != section.new_mode):
            return False
        # A section that only moves a file, or only sets its mode, names no content.
        return blob == section.new_blob if section.new_blob else section.old is not None

    return tuple(section for section in patch.file.sections if is_taken(section))


def _files(git: Git, tree: str, sections: Iterable[Section]) -> dict[str, tuple[str, str]]:
    """Mode and blob of what lies at the paths of the sections, where anything does."""
    paths = dict.fromkeys(path for section in sections for path in section.paths)
    if not paths:
        return {}
    found = git.run("ls-tree", "-z", "--full-tree", tree, "--", *paths).stdout.decode("utf-8", "replace")
    entries = (entry.split("\t", 1) for entry in found.split("\0") if entry)
    return {path: (about.split()[0], about.split()[2]) for about, path in entries}


def _without_preimage(git: Git, sections: Iterable[Section]) -> tuple[Section, ...]:
    """The sections with hunks for a file that is there, whose content before is not in the repository."""
    asked = [section for section in sections if section.n_hunks and section.old is not None]
    missing = missing_objects(git, [section.old_blob for section in asked if section.old_blob])
    return tuple(section for section in asked if not section.old_blob or section.old_blob in missing)


def _doubtful(
    index: Index, parent: str, diff: str, lacking: Iterable[Section], moved: dict[str, int]
) -> tuple[Section, ...]:
    """Those of the sections that moved and could also be taken back: their lines may be look-alikes."""
    asked = [section for section in lacking if section.path in moved]
    if asked:
        index.read(parent)
    return tuple(
        section for section in asked if index.apply(diff, "--reverse", "--check", *only([section])).ok
    )


def _moved(said: str) -> dict[str, int]:
    """How many hunks of each file git applied at another line than the patch names."""
    moved: dict[str, int] = {}
    path = ""
    for line in said.splitlines():
        if found := _CHECKING.match(line):
            path = found[1]
        elif _OFFSET.match(line):
            moved[path] = moved.get(path, 0) + 1
    return moved


def _failed_files(index: Index, patch: Patch, diff: str, leave: tuple[str, ...]) -> tuple[FailedFile, ...]:
    """Every file and hunk that finds no place; `--reject` makes git go on past the first of each file."""
    said = index.apply(diff, "--check", "--reject", "--verbose", *leave).stderr
    # git names a file that the patch moves by its old path, its hunks have the new one.
    after = {section.old: section.path for section in patch.file.sections if section.old is not None}
    hunks: dict[str, list[str]] = {}
    for named, line in _FAILED_AT.findall(said):
        path = after.get(named, named)
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


def only(sections: Iterable[Section]) -> tuple[str, ...]:
    """Options that make `git apply` look at these sections alone."""
    return (*(f"--include={_literal(path)}" for section in sections for path in section.paths), "--exclude=*")


def _without(sections: Iterable[Section]) -> tuple[str, ...]:
    """Options that make `git apply` pass these sections over."""
    return tuple(f"--exclude={_literal(path)}" for section in sections for path in section.paths)


def _literal(path: str) -> str:
    """A pattern that only this path matches."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)
