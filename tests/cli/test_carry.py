"""The life of a patch through the command line alone: added, refreshed, broken upstream, resolved, dropped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llamacpp_tools.stack.git import Git

from ..conftest import Llt
from ..stack.conftest import BASE, Upstream, edit, patches, upstream
from ..stack.test_apply import Edit, Write
from ..stack.test_audit import good_series

__all__ = ["edit", "patches", "upstream"]
B, THIRD = "src/b.txt", "0003-keep-the-third-line.patch"


class Person:
    """Someone at the command line with a series in `folder` and trees under `home`."""

    def __init__(self, llt: Llt, home: Path, folder: Path) -> None:
        self.llt, self.home, self.folder = llt, home, folder

    def run(self, *words: str | Path, code: int = 0, of: Path | None = None) -> str:
        """What a command says on both streams; its exit code must be `code`."""
        done = self.llt(*words, "--patches", of or self.folder)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def tree(self, label: str = "v1") -> Git:
        return Git(self.home / "trees" / f"patched-{label}")

    def commit(self, label: str, file: str, text: str, *words: str) -> None:
        tree = self.tree(label)
        (tree.folder / file).write_text(text)
        tree.run("add", file)
        # Longer than a line of mail, as addresses of hosting services are.
        name = {
            "GIT_AUTHOR_EMAIL": "1234567+somebody-with-a-rather-long-account-name@users.noreply.example.org"
        }
        tree.run("commit", "--quiet", *words, env=name)


@pytest.fixture
def person(llt: Llt, home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Person:
    return Person(llt, home, good_series(upstream, edit, patches))


def fill_in(folder: Path) -> None:
    path = folder / "series.yaml"
    path.write_text(path.read_text().replace("FILL IN", "as a person wrote"))


def entries(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "series.yaml").read_text()))


def test_a_patch_from_its_first_line_to_its_end(person: Person, upstream: Upstream, edit: Edit) -> None:
    person.run("rebase")
    person.commit(
        "v1", B, edit(_b(person), 3, "third"), "--message", "Keep the third line\n\nElse it is lost."
    )
    said = person.run("patches", "refresh")
    assert f"new       {THIRD}" in said and "Keep the third line" in said
    assert f"then run `llt patches audit --patches {person.folder}`" in said
    assert "still to be written by a person" in person.run("patches", "audit", code=1)
    fill_in(person.folder)
    person.run("patches", "audit")

    upstream.commit({B: edit(BASE[B], 3, "upstream's own")}, "Rewrite the third line")
    drift = json.loads(person.llt("drift", "--to", "master", "--json", "--patches", person.folder).stdout)
    assert drift["patches"][2]["first_break"]["subject"] == "Rewrite the third line"
    assert "Rewrite the third line" in person.run("rebase", "--check", "--onto", "master", code=1)
    assert f"mend the conflict in {B}" in person.run("rebase", "--onto", "master", code=1)
    tree = person.tree("master")
    (tree.folder / B).write_text(edit(edit(BASE[B], 10, "second"), 3, "both"))
    tree.run("add", B)
    person.run("rebase", "--onto", "master")
    there = person.folder / "master"
    assert f"changed   {THIRD}" in person.run("patches", "refresh", "--onto", "master", "--out", there)
    # The files for that commit are a series of their own, with nothing but the folder to name.
    person.run("patches", "audit", of=there)
    assert "clean" in person.run("rebase", "--check", of=there)
    person.run("rebase", of=there)
    assert "\nchanged" not in "\n" + person.run("patches", "refresh", of=there)

    dropped = person.run(
        "patches", "refresh", "--drop", "keep-the-third-line", "--reason", "upstream has its own"
    )
    assert f"dropped   {THIRD}" in dropped and "build before you commit" in dropped
    assert entries(person.folder)["dropped"][0]["reason"] == "upstream has its own"
    assert not (person.folder / THIRD).exists()
    person.run("patches", "audit")


def _b(person: Person) -> str:
    return (person.tree().folder / B).read_text()


def test_a_tree_is_never_taken_for_that_of_another_series(person: Person, tmp_path: Path, edit: Edit) -> None:
    other = tmp_path / "copy"
    shutil.copytree(person.folder, other)
    person.run("rebase")
    person.commit("v1", B, edit(_b(person), 3, "third"), "--message", "Mine")
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    said = person.run("patches", "refresh", of=other, code=1)
    assert f"was made from the series in {person.folder}" in said
    assert before == {path.name: path.read_bytes() for path in other.iterdir()}


def test_own_commits_that_a_rebase_moves_away_are_named(person: Person, edit: Edit) -> None:
    person.run("rebase")
    person.commit("v1", B, edit(_b(person), 3, "third"), "--message", "Mine")
    mine = person.tree().text("rev-parse", "HEAD")
    said = person.run("rebase")
    kept = next(word for word in said.split() if word.startswith("refs/llt/backup/"))
    assert person.tree().text("rev-parse", kept) == mine
    assert "refs/llt/backup" not in person.run("rebase")


def test_a_folder_that_is_not_there_is_said(person: Person, tmp_path: Path) -> None:
    for words in (["rebase", "--check"], ["patches", "audit"], ["patches", "list"], ["drift"]):
        said = person.run(*words, of=tmp_path / "nowhere", code=2)
        assert str(tmp_path / "nowhere") in said and "--patches" in said
