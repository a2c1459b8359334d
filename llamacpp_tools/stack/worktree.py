"""One checked-out tree under `LLT_HOME/trees`, and everything that changes it.

Whoever makes a `Tree` holds its lock (`stack.lock`). Before HEAD moves, the old one is kept under
`refs/llt/backup/TREE/N`; before files are overwritten that may hold a person's work, the work is committed and
kept there, too. Every step can be repeated after a kill.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools import home
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack import backup
from llamacpp_tools.stack import lock as locks
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.lock import Lock
from llamacpp_tools.stack.patchfile import Section
from llamacpp_tools.stack.place import only, ways
from llamacpp_tools.stack.series import Patch
from llamacpp_tools.stack.source import repository

log = logging.getLogger(__name__)

_RERERE = ("-c", "rerere.enabled=true")
_APPLY = ("--whitespace=nowarn",)
# Reading must never take the index lock: a person may be at work in the tree.
_READ_ONLY = {"GIT_OPTIONAL_LOCKS": "0"}
_MARKERS = (b"+<<<<<<< ", b"+>>>>>>> ", b"+||||||| ")


@dataclass(frozen=True)
class Left:
    """What an attempt to apply a patch left for a person: files with markers, and `.rej` files."""

    files: tuple[str, ...]
    rejects: tuple[str, ...] = ()


class Tree:
    """The tree of that name; it need not exist yet."""

    def __init__(self, name: str, lock: Lock) -> None:
        self.name = name
        self.folder = home.trees_dir() / name
        self.bare = Git(repository().folder, lock.handle)
        self.git = Git(self.folder, lock.handle)

    @property
    def head(self) -> str | None:
        """The commit that is checked out; None if there is no tree, or it was not finished."""
        if not (self.folder / ".git").is_file() or self._git_dir() is None:
            return None
        return self.git.resolve("HEAD")

    @property
    def branch(self) -> str | None:
        """The branch that HEAD is on, or None when it is detached."""
        found = self.git.run("symbolic-ref", "--quiet", "HEAD", check=False)
        return found.text if found.ok else None

    def require_clean(self) -> None:
        """Refuse a tree with changes of its own in tracked files.

        Raises:
            CheckFailed: there are such changes, or the folder is no tree of ours.
        """
        if not self.folder.exists():
            return
        if self.head is None:
            raise CheckFailed(
                f"{self.folder} is in the way and is no tree of llt: move it away, then run again"
            )
        if not self.is_clean():
            raise CheckFailed(
                f"the tree {self.folder} has changes of its own: commit or discard them there, then run again"
            )

    def is_clean(self) -> bool:
        """True if no tracked file differs from HEAD."""
        return not self.git.run("status", "--porcelain", "--untracked-files=no", env=_READ_ONLY).stdout

    def clear_stale(self, *, index: bool) -> None:
        """Remove git's lock files that a killed run left; the index's only if no person has the tree."""
        git_dir = self._git_dir()
        if git_dir is not None:
            locks.clear_stale(git_dir, ("*.lock",) if index else ("MERGE_RR.lock", "HEAD.lock"))
        locks.clear_stale(self.bare.folder, (f"{backup.PREFIX}{self.name}/*.lock",))

    def move(self, target: str, *, forced: bool) -> None:
        """Check `target` out, HEAD detached; made first if there is no tree.

        Args:
            target: the commit.
            forced: overwrite what is there (it is kept under a backup ref); else git refuses where it would.

        Raises:
            CheckFailed: the folder is in the way, or git refuses.
        """
        at = self.head
        if at is None:
            self._make(target)
            forced = True
        else:
            if forced:
                self.keep_work(target)
            if at != target:
                self.keep(at)
        log.info("checking out %s", self.name)
        self.git.run("checkout", "--quiet", "--detach", *(("--force",) if forced else ()), target)

    def keep(self, commit: str) -> str:
        """Keep a commit under a backup ref, whose name is returned."""
        return backup.keep(self.bare, self.name, commit)

    def keep_work(self, *known: str) -> str | None:
        """Commit whatever lies in the tree, untracked files too, under a backup ref; the index is left alone.

        Returns:
            The reference, or None if the tree holds just what HEAD or one of the commits `known` holds.
        """
        at = self.head
        if at is None:
            return None
        with _spare_index() as env:
            self.git.run("read-tree", at, env=env)
            self.git.run("add", "--all", env=env)
            tree = self.git.text("write-tree", env=env)
        if tree in {self.git.tree_of(commit) for commit in (at, *known)}:
            return None
        commit = self.git.text("commit-tree", tree, "-p", at, "-m", f"llt: what lay in {self.name}")
        return self.keep(commit)

    def remove(self) -> None:
        """Take the tree away, with its registration."""
        self.bare.run("worktree", "remove", "--force", "--force", str(self.folder), check=False)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self.bare.run("worktree", "prune")

    def attempt(self, patch: Patch, diff: Path) -> Left:
        """Apply a patch to the clean tree, three-way, with markers where it conflicts.

        A resolution recorded before is used again; where that mends all, nothing is left to do and the result is
        staged. Of a file that nothing can be merged for, the hunks that find their place are applied and the
        others left as `.rej` files; what could not be tried at all is laid beside them as `NAME.rej`.
        """
        self.git.run(*_RERERE, "rerere", "clear", check=False)
        with tempfile.TemporaryDirectory(prefix="llt-ways-") as name:
            found = ways(self.git, Path(name), self.git.tree_of("HEAD"), patch, str(diff))
        by_hand = list(found.by_hand)
        mended = False
        if found.merged:
            self.git.run(*_RERERE, "apply", "--3way", *_APPLY, *only(found.merged), str(diff), check=False)
            mended = self._stage_recorded()
            if not mended and not self.unmerged() and self.staged_tree() == self.git.tree_of("HEAD"):
                by_hand += found.merged
        rejects = []
        for section in found.guessed:
            rejected = self._apply_what_fits(section, diff)
            if rejected is None:
                by_hand.append(section)
            elif rejected:
                rejects.append(rejected)
        if by_hand or not (mended or rejects or self.unmerged()):
            rejects.append(f"{patch.name}.rej")
            left = by_hand or patch.file.sections
            (self.folder / rejects[-1]).write_bytes(b"".join(section.raw for section in left))
        files = [path.removesuffix(".rej") for path in rejects if path != f"{patch.name}.rej"]
        return Left((*self.unmerged(), *files), tuple(rejects))

    def _apply_what_fits(self, section: Section, diff: Path) -> str | None:
        """Apply the hunks of one file that find their place, staged.

        Returns:
            The `.rej` file with the hunks that found none, empty if all did; None if git made nothing of it.
        """
        before = self.staged_tree()
        self.git.run("apply", "--reject", *_APPLY, *only([section]), str(diff), check=False)
        there = [path for path in section.paths if (self.folder / path).is_file() or path == section.old]
        self.git.run("add", "--all", "--", *there)
        rejected = f"{section.path}.rej"
        if (self.folder / rejected).is_file():
            return rejected
        return "" if self.staged_tree() != before else None

    def _stage_recorded(self) -> bool:
        """Stage the files that a recorded resolution has mended; whether there were any.

        `rerere.autoupdate` cannot do it: apply still holds the index lock when it calls rerere.
        """
        unmerged = self.unmerged()
        if unmerged:
            remaining = set(self.git.text(*_RERERE, "rerere", "remaining").splitlines())
            if mended := [path for path in unmerged if path not in remaining]:
                self.git.run("add", "--", *mended)
                return True
        return False

    def unmerged(self) -> tuple[str, ...]:
        """Files that still have the two sides of a conflict in the index."""
        lines = self.git.text("ls-files", "--unmerged").splitlines()
        return tuple(dict.fromkeys(line.split("\t", 1)[1] for line in lines))

    def unstaged(self) -> tuple[str, ...]:
        """Tracked files whose content is not what is staged."""
        with self._copied_index() as env:
            self.git.run("update-index", "-q", "--refresh", check=False, env=env)
            return tuple(self.git.text("diff-files", "--name-only", env=env).splitlines())

    def staged_tree(self) -> str:
        """The tree hash of what is staged; the index itself is not written to."""
        with self._copied_index() as env:
            return self.git.text("write-tree", env=env)

    def unfinished(self, target: str, rejects: Iterable[str]) -> str:
        """What a person still has to do before the index holds a resolution on `target`; empty if nothing."""
        head = self.head
        if head is None or not self.git.run("merge-base", "--is-ancestor", target, head, check=False).ok:
            return f"{self.folder} no longer stands on {target[:12]}: check that commit out there"
        if unmerged := self.unmerged():
            return f"there still is a conflict in {listed(unmerged)} in {self.folder}: mend it, `git add` the file"
        if left := [path for path in rejects if (self.folder / path).exists()]:
            return f"put in by hand what {listed(left)} in {self.folder} holds, `git add` the files, delete the .rej"
        if unstaged := self.unstaged():
            return f"there are changes that are not staged in {listed(unstaged)} in {self.folder}: `git add` them"
        if marked := self.marked(target, self.staged_tree()):
            return f"there still are conflict markers in {listed(marked)} in {self.folder}: mend it, `git add` the file"
        return ""

    def marked(self, before: str, tree: str) -> tuple[str, ...]:
        """Files in which `tree` has conflict markers that the commit `before` has not."""
        found = []
        for path in self.git.text("diff", "--name-only", "--no-renames", before, tree).splitlines():
            diff = self.git.run(
                "diff", "--unified=0", "--no-renames", "--text", before, tree, "--", path
            ).stdout
            if any(line.startswith(_MARKERS) for line in diff.splitlines()):
                found.append(path)
        return tuple(found)

    def learn(self) -> None:
        """Record the resolution that lies in the tree, for the next time the same conflict comes."""
        self.git.run(*_RERERE, "rerere", check=False)

    def forget(self) -> None:
        """Drop what was noted of a conflict that nobody resolved."""
        if self.head is not None:
            self.git.run(*_RERERE, "rerere", "clear", check=False)

    def put_on_branch(self, branch: str, commit: str) -> None:
        """Set HEAD back onto a branch, if that still is at `commit`."""
        if self.bare.resolve(branch) == commit:
            self.git.run("symbolic-ref", "HEAD", branch)

    def _make(self, target: str) -> None:
        if self.folder.exists():
            # A kill in the middle of `worktree add` leaves at most the link; anything else is not ours.
            if any(each.name != ".git" for each in self.folder.iterdir()):
                raise CheckFailed(
                    f"{self.folder} is in the way and is no tree of llt: move it away, then run again"
                )
            (self.folder / ".git").unlink(missing_ok=True)
        self.bare.run("worktree", "prune")
        self.bare.run(
            "worktree", "add", "--quiet", "--detach", "--no-checkout", "--force", "--force", str(self.folder), target
        )  # fmt: skip

    def _git_dir(self) -> Path | None:
        """The tree's own git folder inside the bare repository; None if the link leads nowhere."""
        with contextlib.suppress(OSError):
            said = (self.folder / ".git").read_text(encoding="utf-8").strip()
            found = Path(said.removeprefix("gitdir: "))
            if said.startswith("gitdir: ") and (found / "HEAD").is_file():
                return found
        return None

    @contextmanager
    def _copied_index(self) -> Iterator[dict[str, str]]:
        git_dir = self._git_dir()
        assert git_dir is not None
        with _spare_index(git_dir / "index") as env:
            yield env


@contextmanager
def _spare_index(copy_of: Path | None = None) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="llt-index-") as name:
        spare = Path(name) / "index"
        if copy_of is not None and copy_of.is_file():
            shutil.copy2(copy_of, spare)
        yield {"GIT_INDEX_FILE": str(spare)}


def listed(paths: Iterable[str], at_most: int = 5) -> str:
    """Some paths for a sentence; the rest as a number."""
    every = list(paths)
    more = f" and {len(every) - at_most} more" if len(every) > at_most else ""
    return ", ".join(every[:at_most]) + more
