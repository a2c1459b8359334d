"""Which commit of a tree is which patch of the series.

A tree's record (`stack.resume`) knows the commits that llt made; those that a person changed since are known by
their subject, and one that was reworded by its place and its files. Whatever is left is a new patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.export import changed_paths, subject
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.series import Series

_UNFINISHED = ("fixup!", "squash!", "amend!")


def assign(
    git: Git,
    series: Series,
    known: Mapping[str, str],
    commits: Sequence[str],
    leaving: Sequence[str] = (),
) -> list[str | None]:
    """The patch's name for each commit of the tree (oldest first), None for a commit that is a new patch.

    Args:
        git: the tree's repository.
        series: the series as its files have it.
        known: the commit that each patch had when the files were last applied, by name.
        commits: what the tree has on top of upstream.
        leaving: patches that are being dropped; they never claim a commit by its place.

    Raises:
        CheckFailed: the patches are in another order than in `series.yaml`, or a commit is a fixup or that of a
            patch that was dropped.
    """
    titles = [subject(git, commit) for commit in commits]
    for commit, title in zip(commits, titles, strict=True):
        if title.startswith(_UNFINISHED):
            raise CheckFailed(
                f"{commit[:12]} ({title}) is meant for another commit: fold it in, in the tree, with"
                f" `git rebase -i --autosquash {commits[0][:12]}~1`"
            )
    names: list[str | None] = [None] * len(commits)
    wanted = [patch.name for patch in series.patches]
    by_commit = {commit: name for name, commit in known.items() if name in wanted}
    gone = {each.name for each in series.dropped}
    dropped = {commit: name for name, commit in known.items() if name in gone}
    for index, commit in enumerate(commits):
        names[index] = by_commit.get(commit)
        if names[index] is None and commit in dropped:
            raise CheckFailed(
                f"{commit[:12]} in the tree is {dropped[commit]}, which series.yaml says was dropped: take it out"
                f" there with `git rebase --onto {commit[:12]}~1 {commit[:12]}`"
            )
    by_title = {name: subject(git, commit) for name, commit in known.items()}
    for name in wanted:
        if name not in names:
            same = [i for i, title in enumerate(titles) if names[i] is None and title == by_title.get(name)]
            if same:
                names[same[0]] = name
    for index, name in enumerate(wanted):
        if name not in names and name not in leaving:
            _by_place(git, series, index, commits, names)
    found = [name for name in names if name is not None]
    in_order = [name for name in wanted if name in found]
    if found != in_order:
        raise CheckFailed(
            f"the tree has the patches in the order {', '.join(found)}, series.yaml in the order"
            f" {', '.join(in_order)}: put its entries in the tree's order first"
        )
    return names


def _by_place(git: Git, series: Series, index: int, commits: Sequence[str], names: list[str | None]) -> None:
    """Give patch `index` the first free commit between its neighbours that touches one of its files."""
    wanted = [patch.name for patch in series.patches]
    before = [names.index(name) for name in wanted[:index] if name in names]
    behind = [names.index(name) for name in wanted[index + 1 :] if name in names]
    paths = set(series.patches[index].file.paths)
    for at in range(max(before, default=-1) + 1, min(behind, default=len(commits))):
        if names[at] is None and paths & set(changed_paths(git, commits[at])):
            names[at] = wanted[index]
            return
