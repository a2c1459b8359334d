"""A rebase that is killed before every single step it takes: the next one recovers, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack import git as git_module
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.stack import Stack

from .case import A, B, Case, case, look, tree

__all__ = ["case"]

WRITERS = {"init", "fetch", "update-ref", "symbolic-ref", "worktree", "checkout", "add", "rerere"}


class Killer:
    """Runs something in a child that dies by SIGKILL before its Nth step.

    A step is a git call that changes more than adding objects, or the writing of a state file: a kill before a
    call that only reads leaves what a kill before the next step leaves. `torn`: only those in which git writes
    the tree, and then the child leaves what a git that is killed in the middle leaves.
    """

    def __init__(self, home: Path, keep: Path) -> None:
        self.home, self.keep = home, keep
        shutil.copytree(home, keep, symlinks=True) if home.exists() else keep.mkdir()

    def put_back(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self.keep, self.home, symlinks=True)

    def dies_at(self, number: int, act: Callable[[], object], *, torn: bool) -> bool:
        """True if the child died at that step, False if it had fewer steps."""
        pid = os.fork()
        if pid == 0:
            _arm(number, torn=torn)
            try:
                act()
            except CheckFailed:
                os._exit(0)
            except BaseException:
                os._exit(9)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            return True
        assert os.WEXITSTATUS(status) == 0
        return False


def _arm(number: int, *, torn: bool) -> None:
    steps = [0]

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any, **named: Any) -> Any:
            on_tree = function is execute and (words[0] / ".git").is_file()
            verbs = set(words[1]) if function is execute else set()
            if torn:
                steps[0] += bool(on_tree and {"checkout", "--3way"} & verbs)
            else:
                steps[0] += bool(function is not execute or WRITERS & verbs or (on_tree and "apply" in verbs))
            if steps[0] == number:
                if torn:
                    _tear(words[0])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*words, **named)

        return step

    execute = git_module._execute
    git_module._execute = before(execute)
    for name in ("save_state", "save_record", "drop_state"):
        setattr(resume, name, before(getattr(resume, name)))


def _tear(folder: Path) -> None:
    """What a git that is killed while it writes the tree leaves: its lock, and a file half written."""
    link = (folder / ".git").read_text().strip().removeprefix("gitdir: ")
    (Path(link) / "index.lock").touch()
    (folder / "src").mkdir(exist_ok=True)
    (folder / A).write_text("a li")


def killed_everywhere(
    tmp_path: Path, act: Callable[[], object], check: Callable[[], None], *, at_least: int
) -> None:
    """Kill `act` before each of its steps, from the same start; `check` then runs it again and looks."""
    killer = Killer(homes.llt_home(), tmp_path / "keep")
    for torn in (False, True):
        number = 1
        while True:
            killer.put_back()
            if not killer.dies_at(number, act, torn=torn):
                break
            check()
            number += 1
        assert number > (1 if torn else at_least), number
    killer.put_back()


def test_killed_at_every_step_of_a_first_run(case: Case, tmp_path: Path) -> None:
    expected = case.rebase("v1")
    wanted = look(tree("patched-v1"))
    shutil.rmtree(homes.llt_home())

    def check() -> None:
        assert case.rebase("v1").applied.head == expected.applied.head
        assert look(tree("patched-v1")) | {"files": 0} == wanted | {"files": 0}

    killed_everywhere(tmp_path, lambda: case.rebase("v1"), check, at_least=6)


def test_killed_at_every_step_of_a_move(case: Case, tmp_path: Path) -> None:
    old = case.rebase("v1").applied.head
    case.folder = case.patches(case.series | {"second": case.series["second"].replace(b"+second", b"+other")})

    def check() -> None:
        stack = case.rebase("v1")
        seen = look(tree("patched-v1"))
        assert (seen["head"], seen["status"]) == (stack.applied.head, "")
        assert "other" in (tree("patched-v1") / B).read_text()
        assert old in repository().text("for-each-ref", "--format=%(objectname)", "refs/llt/backup/")

    killed_everywhere(tmp_path, lambda: case.rebase("v1"), check, at_least=4)


def test_killed_at_every_step_of_a_stop(case: Case, tmp_path: Path) -> None:
    case.rebase("master")
    before = look(tree())
    case.break_upstream()

    def check() -> None:
        stopped = case.stop()
        assert (stopped.state.current, stopped.state.previous_head) == ("first", before["head"])
        assert "upstream's own\n=======\nfirst\n" in (tree() / A).read_text()
        assert Git(tree()).text("diff", "--name-only", "--diff-filter=U") == A
        case.abort()
        assert look(tree()) == before

    killed_everywhere(tmp_path, case.rebase, check, at_least=7)


@pytest.mark.parametrize("second", [False, True])
def test_killed_at_every_step_of_going_on(case: Case, tmp_path: Path, second: bool) -> None:
    case.break_upstream(second=second)

    def finish() -> Stack:
        if second and resume.load_state("patched-master") is not None:
            assert case.stop().state.current == "second"
            case.resolve(B, 10, "both")
        return case.rebase()

    case.stop()
    case.resolve()
    shutil.copytree(homes.llt_home(), tmp_path / "resolved", symlinks=True)
    head = finish().applied.head
    wanted = look(tree())
    shutil.rmtree(homes.llt_home())
    shutil.copytree(tmp_path / "resolved", homes.llt_home(), symlinks=True)

    def check() -> None:
        assert finish().applied.head == head
        assert look(tree()) == wanted

    killed_everywhere(tmp_path, case.rebase, check, at_least=6)


def test_killed_at_every_step_of_going_back(case: Case, tmp_path: Path) -> None:
    case.rebase("master")
    before = look(tree())
    case.break_upstream()
    case.stop()
    (tree() / A).write_text("half an answer\n")

    def check() -> None:
        if resume.load_state("patched-master") is not None:
            case.abort()
        assert look(tree()) == before
        kept = repository().text("for-each-ref", "--format=%(refname)", "refs/llt/backup/").splitlines()
        assert any(repository().run("show", f"{ref}:{A}").text == "half an answer" for ref in kept)

    killed_everywhere(tmp_path, case.abort, check, at_least=5)
