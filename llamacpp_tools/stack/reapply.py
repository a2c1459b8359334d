"""A new series applied again, as whoever takes the files will: it must give the tree's content, and the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.apply import Applied, apply_series
from llamacpp_tools.stack.export import commits_between, export, subject
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.patchfile import parse_patch
from llamacpp_tools.stack.series import Patch
from llamacpp_tools.stack.source import repository


@dataclass(frozen=True)
class Reapplied:
    """The new series applied: its patches as they are written, and their commits."""

    patches: tuple[Patch, ...]
    applied: Applied


def reapply(git: Git, base: str, patches: Sequence[Patch], drop: Sequence[str]) -> Reapplied:
    """Apply the new texts and export them again, until that gives the same bytes (a drop moves the others).

    Args:
        git: the tree that the texts were exported from.
        base: upstream's commit below them.
        patches: the new series.
        drop: names of the patches that were taken out of it.

    Raises:
        CheckFailed: a text does not apply, gives other content, loses words of its message, or exports to other bytes.
    """
    bare = repository()
    applied = _applied_in_full(bare, base, patches, drop)
    if not drop:
        if applied.tree != git.tree_of("HEAD"):
            raise CheckFailed("the exported commits do not give the tree's own content: nothing was written")
        originals = commits_between(git, base, git.text("rev-parse", "HEAD"))
        for original, outcome in zip(originals, applied.outcomes, strict=True):
            _require_same_words(git, original, str(outcome.commit))
    again = [_exported(bare, outcome.patch, str(outcome.commit)) for outcome in applied.outcomes]
    applied = _applied_in_full(bare, base, again, drop)
    for patch, outcome in zip(again, applied.outcomes, strict=True):
        if export(bare, str(outcome.commit)) != patch.file.raw:
            raise CheckFailed(
                f"{patch.name} does not export to the same bytes twice: make its commit message plain text"
            )
    return Reapplied(tuple(again), applied)


def _exported(git: Git, patch: Patch, commit: str) -> Patch:
    return Patch(patch.entry, parse_patch(patch.file.path, export(git, commit)))


def _applied_in_full(git: Git, base: str, patches: Sequence[Patch], drop: Sequence[str]) -> Applied:
    applied = apply_series(git, base, patches)
    for outcome in applied.outcomes:
        if not outcome.status.applies:
            without = f" without {', '.join(drop)}" if drop else ""
            raise CheckFailed(
                f"{outcome.patch.name} does not apply{without} ({outcome.status}, {outcome.detail}): nothing was"
                " written" + ("; drop it too, or change its commit in the tree first" if drop else "")
            )
    return applied


def _require_same_words(git: Git, original: str, commit: str) -> None:
    # A mail ends its message at a line of dashes or at a diff, and the rest would be lost without a word.
    one, two = (git.text("show", "--no-patch", "--format=%B", each).split() for each in (original, commit))
    if one != two:
        raise CheckFailed(
            f"the message of {original[:12]} ({subject(git, original)}) does not survive as a patch file: take"
            " lines that begin with `---` or `diff -`, and a [PATCH] mark, out of it"
        )
