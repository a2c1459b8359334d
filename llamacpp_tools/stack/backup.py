"""Before a reference moves, what it was is kept under `refs/llt/backup/`."""

from __future__ import annotations

from llamacpp_tools.stack.git import Git

PREFIX = "refs/llt/backup/"


def keep(git: Git, name: str, commit: str) -> str:
    """Keep a commit as the next number under `refs/llt/backup/NAME/`, unless one there already is it.

    Returns:
        The reference that holds it.
    """
    prefix = f"{PREFIX}{name}/"
    listed = git.text("for-each-ref", "--format=%(objectname) %(refname)", prefix).splitlines()
    kept = dict(line.split(" ", 1) for line in listed)
    if commit not in kept:
        numbers = [int(last) for ref in kept.values() if (last := ref.removeprefix(prefix)).isdigit()]
        kept[commit] = f"{prefix}{max(numbers, default=0) + 1}"
        git.run("update-ref", kept[commit], commit)
    return kept[commit]
