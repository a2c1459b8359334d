from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_tools.stack.git import Git

from ..conftest import Llt
from ..stack.conftest import BASE, Upstream, edit, patches, upstream
from ..stack.test_apply import Edit, Write, two_patches

__all__ = ["edit", "patches", "upstream"]
A = "src/a.txt"


@pytest.fixture
def folder(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Path:
    """A series of two whose first conflicts with upstream's master."""
    made = patches(two_patches(upstream, edit))
    upstream.commit({A: edit(BASE[A], 20, "upstream's own")}, "break it")
    return made


def test_a_check_reports_the_whole_series_and_changes_nothing(home: Path, llt: Llt, folder: Path) -> None:
    good = llt("rebase", "--check", "--json", "--patches", folder)
    assert good.returncode == 0, good.stderr
    assert [patch["status"] for patch in json.loads(good.stdout)["patches"]] == ["clean", "clean"]
    bad = llt("rebase", "--check", "--onto", "master", "--json", "--patches", folder)
    assert bad.returncode == 1
    assert bad.stderr == "llt: 1 of 2 patches do not apply onto master: first (conflict)\n"
    report = json.loads(bad.stdout)
    first, second = report["patches"]
    assert (first["status"], second["status"]) == ("conflict", "clean")
    assert first["failed"] == [{"path": A, "hunks": ["@@ -17,7 +17,7 @@ a line 16"], "reason": None}]
    assert [(each["subject"], each["in_hunks"]) for each in first["upstream_commits"]] == [("break it", True)]
    assert (report["complete"], report["head"], report["stopped"]) == (False, None, None)
    assert not (home / "trees").exists()


def test_stop_go_on_and_go_back(home: Path, llt: Llt, folder: Path, edit: Edit) -> None:
    command = ("rebase", "--onto", "master", "--patches", folder)
    tree = home / "trees" / "patched-master"
    stopped = llt(*command, "--json")
    assert stopped.returncode == 1
    assert json.loads(stopped.stdout)["stopped"]["files"] == [A]
    assert "then run the same command again, or with --abort" in stopped.stderr
    back = llt(*command, "--abort")
    assert (back.returncode, back.stdout.splitlines()[0]) == (
        0,
        "the tree patched-master is removed: there was none before",
    )
    assert not tree.exists()
    table = llt(*command)
    assert table.returncode == 1
    assert "in these hunks: " in table.stdout and "conflict" in table.stdout
    (tree / A).write_text(edit(BASE[A], 20, "both"))
    Git(tree).run("add", A)
    done = llt(*command)
    assert done.returncode == 0, done.stderr
    assert "resolved" in done.stdout and f"ready in {tree}" in done.stdout
    assert llt(*command, "--abort").returncode == 2


def test_what_upstream_says_is_printed_as_it_is(
    home: Path, llt: Llt, folder: Path, upstream: Upstream
) -> None:
    upstream.commit({A: BASE[A]}, "server : [no ci] fix [/think] tags")
    upstream.git.run("revert", "--no-edit", "HEAD")
    shown = llt("rebase", "--check", "--onto", "master", "--patches", folder)
    assert "[no ci] fix [/think] tags" in shown.stdout


def test_check_and_abort_exclude_each_other(home: Path, llt: Llt, folder: Path) -> None:
    done = llt("rebase", "--check", "--abort", "--patches", folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--check and --abort exclude each other" in done.stderr
