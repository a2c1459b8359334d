"""`llt rebase`: upstream at a version, the series on top, and a work tree that is ready to build."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from llamacpp_tools import home
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.apply import Applied, apply_series
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.series import Series
from llamacpp_tools.stack.source import Source, obtain, repository
from llamacpp_tools.stack.upstream import Upstream

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stack:
    """A version of upstream with a series on it, applied in full.

    Attributes:
        source: the verified upstream commit.
        series: the patches applied; empty for stock.
        applied: what became of each patch, and the resulting HEAD and tree hash.
        tree_dir: the work tree, or None if only checked.
    """

    source: Source
    series: Series
    applied: Applied
    tree_dir: Path | None


def check(upstream: Upstream, series: Series, onto: str | None = None, source: str | None = None) -> Stack:
    """Apply the series in memory; nothing but objects is written and no ref moves.

    Raises:
        LltError: upstream could not be had or verified (see `source.obtain`).
    """
    found = obtain(upstream, onto, source)
    return Stack(found, series, apply_series(repository(), found.commit, series.patches), None)


def rebase(upstream: Upstream, series: Series, onto: str | None = None, source: str | None = None) -> Stack:
    """Apply the series and check it out into its work tree under `LLT_HOME`.

    A tree with uncommitted changes is never overwritten, and one whose HEAD is already the result is left
    untouched, so that its time stamps stay and a build has nothing to redo.

    Raises:
        CheckFailed: a patch does not apply (the tree is left as it was), or the tree has changes of its own.
        LltError: upstream could not be had or verified.
    """
    stack = check(upstream, series, onto, source)
    if not stack.applied.complete:
        raise CheckFailed(refusal(stack))
    folder = home.trees_dir() / tree_name(stack)
    home.trees_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(home.trees_dir() / f"{folder.name}.lock"):
        _check_out(folder, stack.applied.head)
    return Stack(stack.source, stack.series, stack.applied, folder)


def refusal(stack: Stack) -> str:
    """One sentence that names every patch that is not in the tree, with its hunks."""
    failed = [outcome for outcome in stack.applied.outcomes if not outcome.status.applies]
    told = "; ".join(
        f"{outcome.patch.name} ({outcome.patch.file.path}): {outcome.status}, {outcome.detail}"
        for outcome in failed
    )
    return f"{len(failed)} of {len(stack.applied.outcomes)} patches do not apply onto {stack.source.label}: {told}"


def tree_name(stack: Stack) -> str:
    """The folder's name: stock or patched, what was left out, and the version."""
    variant = "patched" if stack.series.patches else "stock"
    left_out = "".join(f"-without-{name}" for name in stack.series.without) if stack.series.patches else ""
    return f"{variant}{left_out}-{stack.source.label.replace('/', '_')}"


def _check_out(folder: Path, head: str) -> None:
    bare = repository()
    if not (folder / ".git").exists():
        bare.run("worktree", "prune")
        log.info("checking out %s", folder.name)
        bare.run("worktree", "add", "--quiet", "--detach", "--force", str(folder), head)
        return
    git = Git(folder)
    at = git.resolve("HEAD")
    if git.run("status", "--porcelain", "--untracked-files=no").stdout:
        raise CheckFailed(
            f"the tree {folder} has changes of its own: commit or discard them there, then run again"
        )
    if at == head:
        return
    # The old HEAD stays reachable, so a commit made in the tree by hand is never lost.
    if at is not None:
        git.run("update-ref", f"refs/llt/backup/{folder.name}/{at[:12]}", at)
    git.run("checkout", "--quiet", "--detach", head)
