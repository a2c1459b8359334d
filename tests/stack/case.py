"""A series on an upstream that breaks it, and what a person does and sees: for the tests of a rebase that stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.rebase import abort, rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.stack import Aborted, Stack, Stopped
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write

A, B = "src/a.txt", "src/b.txt"


class Case:
    """A series of three (the third needs the first) and an upstream whose master breaks some of it."""

    def __init__(self, upstream: Upstream, edit: Edit, patches: Write) -> None:
        self.upstream, self.edit = upstream, edit
        first = edit(BASE[A], 20, "first")
        commits = {
            "first": upstream.commit({A: first}, "first"),
            "second": upstream.commit({B: edit(BASE[B], 10, "second")}, "second"),
            "third": upstream.commit({A: edit(first, 21, "third")}, "third"),
        }
        self.series = {name: upstream.export(commit) for name, commit in commits.items()}
        upstream.git.run("reset", "--quiet", "--hard", "v1")
        self.patches = patches
        self.folder = patches(self.series)
        self.text = BASE[A]

    def break_upstream(self, *, second: bool = False) -> None:
        self.text = self.edit(BASE[A], 20, "upstream's own")
        files: dict[str, str | None] = {A: self.text}
        if second:
            files[B] = self.edit(BASE[B], 10, "upstream's b")
        self.upstream.commit(files, "break it")

    def rebase(self, onto: str | None = "master", *, stop: bool = True) -> Stack:
        return rebase(load_upstream(self.folder), load_series(self.folder), onto, stop=stop)

    def abort(self, onto: str | None = "master") -> Aborted:
        return abort(load_upstream(self.folder), load_series(self.folder), onto)

    def stop(self) -> Stopped:
        with pytest.raises(Stopped) as caught:
            self.rebase()
        return caught.value

    def resolve(self, path: str = A, number: int = 20, line: str = "first") -> None:
        """What a person does: write the file, stage it."""
        text = self.text if path == A else BASE[path]
        (tree() / path).write_text(self.edit(text, number, line))
        Git(tree()).run("add", path)


@pytest.fixture
def case(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Case:
    return Case(upstream, edit, patches)


def tree(name: str = "patched-master") -> Path:
    return homes.trees_dir() / name


def look(folder: Path) -> dict[str, Any]:
    """Everything that a person sees of a tree: HEAD, index, files."""
    git = Git(folder)
    return {
        "head": git.text("rev-parse", "HEAD"),
        "branch": git.run("symbolic-ref", "--quiet", "HEAD", check=False).text,
        "index": git.text("ls-files", "--stage"),
        "files": {
            str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
        },
        "status": git.text("status", "--porcelain"),
    }
