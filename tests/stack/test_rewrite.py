"""A refresh that is killed before every change it makes to the disk, and what a person does after it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.cli.main import run
from llamacpp_tools.stack import rewrite
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.refresh import recover
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.stack import Refused
from llamacpp_tools.stack.upstream import load_upstream

from .test_refresh import as_a_person, contents, folder, refreshed, tree_of, write

__all__ = ["folder"]


def killed_at(call: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that dies before the `call`-th change to the disk; False if it came to its end."""
    child = os.fork()
    if child == 0:
        left = [call]

        def deadly(change: Callable[..., object]) -> Callable[..., object]:
            def changed(*args: object, **more: object) -> object:
                if left[0] == 0:
                    os._exit(9)
                left[0] -= 1
                return change(*args, **more)

            return changed

        Path.replace = deadly(Path.replace)  # type: ignore[method-assign,assignment]
        Path.unlink = deadly(Path.unlink)  # type: ignore[method-assign,assignment]
        shutil.rmtree = deadly(shutil.rmtree)  # type: ignore[assignment]
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("drop", [False, True])
def test_killed_at_every_change_to_the_disk_the_next_refresh_recovers(
    folder: Path, tmp_path: Path, drop: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    git = tree_of()
    write(git, "src/d.txt", "quite new\n")
    as_a_person(git, "commit", "--quiet", "--message", "A third one\n\nWhy it is so.")
    shutil.copytree(homes.llt_home(), tmp_path / "home-before", symlinks=True)
    shutil.copytree(folder, tmp_path / "before")
    words = ["--drop", "first", "--reason", "gone"] if drop else []
    wish = {"drop": ("first",), "reason": "gone"} if drop else {}
    refreshed(folder, **wish)
    after = contents(folder)
    for call in range(100):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
        shutil.rmtree(homes.llt_home())
        shutil.copytree(tmp_path / "home-before", homes.llt_home(), symlinks=True)
        if not killed_at(call, lambda: refreshed(folder, **wish)):
            break
        if contents(folder) != after:
            assert rewrite.is_unfinished(folder) or contents(folder) == contents(tmp_path / "before")
        code = run(["patches", "refresh", "--patches", str(folder), *words])
        said = capsys.readouterr().err
        assert code == 0 or "first is dropped already" in said, (call, said)
        assert contents(folder) == after, call
        assert not (folder / ".llt-refresh").exists()
        assert {what for _, what in refreshed(folder).files} == {"unchanged"}
    assert call > 8


@pytest.fixture
def cut_short(folder: Path) -> Git:
    """The tree after a refresh was killed once the files were written."""
    git = tree_of()
    write(git, "src/c.txt", "newer\n")
    as_a_person(git, "commit", "--quiet", "--amend", "--no-edit")
    for call in range(100):
        if not killed_at(call, lambda: refreshed(folder)):
            break
        if rewrite.is_unfinished(folder):
            rewrite.finish(folder)
            return git
    raise AssertionError("it was never cut short there")


def test_commits_made_after_a_kill_are_read_not_moved_away(folder: Path, cut_short: Git) -> None:
    write(cut_short, "src/d.txt", "d\n")
    as_a_person(cut_short, "commit", "--quiet", "--message", "Mine")
    assert run(["patches", "refresh", "--patches", str(folder)]) == 0
    assert [patch.file.paths for patch in load_series(folder).patches][-1] == ("src/d.txt",)
    assert cut_short.text("log", "-1", "--format=%s") == "Mine"


def test_a_cut_short_refresh_whose_series_no_longer_applies_does_not_stand_in_the_way(
    folder: Path, cut_short: Git, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_args: object, **_more: object) -> None:
        raise Refused(stack, "1 of 2 patches do not apply")

    stack = rebase(load_upstream(folder), load_series(folder))
    cut_short.run("checkout", "--quiet", "--detach", json.loads(str(rewrite.pending(folder)))["head"])
    monkeypatch.setattr("llamacpp_tools.stack.refresh.rebase", refuses)
    recover(folder)
    assert rewrite.pending(folder) is None
    assert "stays as it is: 1 of 2 patches do not apply" in caplog.text
