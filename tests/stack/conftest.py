"""A small upstream and a series for it, made with git itself, in a temporary folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.stack.git import Git

BASE = {
    "src/a.txt": "".join(f"a line {n}\n" for n in range(1, 41)),
    "src/b.txt": "".join(f"b line {n}\n" for n in range(1, 21)),
}
EXPORT = ("format-patch", "--zero-commit", "--full-index", "--no-signature", "--no-stat", "-1", "--stdout")


class Upstream:
    """A repository that plays upstream: commit files, export a commit as a patch file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.git = Git(folder)
        self.git.run("init", "--quiet", "--initial-branch=master", ".")

    def commit(self, files: dict[str, str | None], subject: str = "change") -> str:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink()
            else:
                path.write_bytes(text.encode())
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "--message", subject)
        return self.git.text("rev-parse", "HEAD")

    def export(self, commit: str) -> bytes:
        return self.git.run(*EXPORT, commit).stdout


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    made = Upstream(tmp_path / "upstream")
    made.commit(BASE, "base")
    made.git.run("tag", "v1")
    return made


@pytest.fixture
def edit() -> Callable[[str, int, str], str]:
    """Replace line `number` (1-based) of a text."""

    def change(text: str, number: int, line: str) -> str:
        lines = text.splitlines(keepends=True)
        lines[number - 1] = line + "\n"
        return "".join(lines)

    return change


@pytest.fixture
def patches(tmp_path: Path, upstream: Upstream) -> Callable[[dict[str, bytes]], Path]:
    """Write a patches folder for `upstream` at v1; keys are the patches' names."""

    def write(series: dict[str, bytes]) -> Path:
        folder = tmp_path / "patches"
        folder.mkdir(exist_ok=True)
        entries = []
        for number, (name, raw) in enumerate(series.items(), start=1):
            file = f"{number:04d}-{name}.patch"
            (folder / file).write_bytes(raw)
            entries.append(
                f"  - {{file: {file}, name: {name}, why: a test, upstream: [none], drop_when: never,"
                " paths: ['src/*'], check: none}\n"
            )
        (folder / "series.yaml").write_text("schema: 1\nupstream: v1\npatches:\n" + "".join(entries))
        tree = upstream.git.tree_of("v1")
        (folder / "upstream.yaml").write_text(
            f"schema: 1\nremote: {upstream.folder}\npin: v1\nversions:\n"
            f"  - tag: v1\n    date: 2026-01-01\n    identities: [{{tree: {tree}, seen: here}}]\n"
        )
        return folder

    return write
