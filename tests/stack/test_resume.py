"""A rebase that stops, goes on, goes back; and one that is killed before every single step it takes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack import git as git_module
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.apply import Status
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.rebase import abort, rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.stack import Aborted, Refused, Stack, Stopped
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write

A, B = "src/a.txt", "src/b.txt"
WRITERS = {"init", "fetch", "update-ref", "symbolic-ref", "worktree", "checkout", "add", "rerere"}


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


def test_a_conflict_stops_with_markers_and_says_what_to_do(case: Case) -> None:
    case.break_upstream()
    stopped = case.stop()
    assert [o.status for o in stopped.stack.applied.outcomes] == [
        Status.CONFLICT,
        Status.CLEAN,
        Status.BLOCKED,
    ]
    assert stopped.stack.applied.outcomes[2].blocked_by == ("first",)
    assert stopped.state.files == (A,)
    assert f"mend the conflict in {A} in {tree()}, `git add` the file; then run the same command" in str(
        stopped
    )
    assert "--abort" in str(stopped)
    text = (tree() / A).read_text()
    assert "<<<<<<< " in text and "upstream's own\n=======\nfirst\n>>>>>>> " in text
    commits = stopped.stack.touched["first"].commits
    assert [(commit.subject, commit.in_hunks) for commit in commits] == [("break it", True)]


def test_the_same_command_goes_on_and_the_messages_stay(case: Case) -> None:
    case.break_upstream()
    case.stop()
    case.resolve()
    stack = case.rebase()
    assert [outcome.status for outcome in stack.applied.outcomes][:2] == [Status.RESOLVED, Status.CLEAN]
    assert stack.applied.complete
    lines = (tree() / A).read_text().splitlines()
    assert (lines[19], lines[20]) == ("first", "third")
    assert (tree() / B).read_text().splitlines()[9] == "second"
    assert Git(tree()).text("log", "-4", "--format=%s %an %cn").splitlines() == [
        "third llt llt", "second llt llt", "first llt llt", "break it llt llt"
    ]  # fmt: skip
    assert Git(tree()).text("status", "--porcelain") == ""
    assert not resume.state_path("patched-master").exists()
    done = resume.recorded("patched-master", stack.source.commit, load_series(case.folder))
    assert done is not None
    assert [each.name for each in done] == ["first", "second", "third"]
    assert done[-1].commit == stack.applied.head


def test_once_resolved_a_further_run_finds_it_done(case: Case) -> None:
    case.break_upstream()
    case.stop()
    case.resolve()
    head = case.rebase().applied.head
    before = (tree() / A).stat().st_mtime_ns
    again = case.rebase()
    assert (again.applied.head, again.applied.complete) == (head, True)
    assert (tree() / A).stat().st_mtime_ns == before
    # A build carries exactly the files of the series, so it takes the tree only once they are refreshed.
    with pytest.raises(Refused, match="resolved by hand: `llt patches refresh --onto master --patches "):
        case.rebase(stop=False)


def test_two_conflicts_stop_twice(case: Case) -> None:
    case.break_upstream(second=True)
    assert case.stop().state.current == "first"
    case.resolve()
    second = case.stop()
    assert (second.state.current, second.state.files) == ("second", (B,))
    assert second.stack.applied.outcomes[0].status is Status.RESOLVED
    case.resolve(B, 10, "both")
    assert case.rebase().applied.complete


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda case: None, "there still is a conflict in"),
        (lambda case: Git(tree()).run("add", A), "there still are conflict markers in"),
        (lambda case: (case.resolve(), (tree() / B).write_text("x\n")), "not staged in src/b.txt"),
        (
            lambda case: Git(tree()).run("checkout", "--quiet", "HEAD", "--", A),
            "nothing of the patch is staged",
        ),
        (lambda case: Git(tree()).run("checkout", "--quiet", "--force", "HEAD~1"), "no longer stands on"),
    ],
)
def test_what_is_not_finished_stops_again_and_changes_nothing(
    case: Case, act: Callable[[Case], object], said: str
) -> None:
    case.break_upstream()
    case.stop()
    act(case)
    before = look(tree())
    assert said in str(case.stop())
    assert look(tree()) == before


def test_a_commit_made_by_the_person_is_taken_as_the_resolution(case: Case) -> None:
    case.break_upstream()
    case.stop()
    case.resolve()
    Git(tree()).run("commit", "--quiet", "--message", "my own words")
    own = Git(tree()).text("rev-parse", "HEAD")
    stack = case.rebase()
    assert stack.applied.complete
    assert "my own words" not in Git(tree()).text("log", "--format=%s", "-4")
    assert own in repository().text(
        "for-each-ref", "--format=%(objectname)", "refs/llt/backup/patched-master/"
    )


def test_the_same_conflict_is_resolved_as_before(case: Case) -> None:
    case.break_upstream()
    case.stop()
    case.resolve()
    head = case.rebase().applied.head
    shutil.rmtree(tree())
    resume.record_path("patched-master").unlink()
    again = case.rebase()
    assert again.applied.head == head
    assert "recorded before" in again.applied.outcomes[0].detail


def test_abort_puts_back_head_index_and_files(case: Case) -> None:
    case.rebase("master")
    Git(tree()).run("switch", "--quiet", "--create", "mine")
    (tree() / "notes").write_text("untracked\n")
    before = look(tree())
    case.break_upstream()
    case.stop()
    (tree() / A).write_text("half an answer\n")
    back = case.abort()
    assert look(tree()) == before
    assert back.kept is not None
    assert repository().text("show", f"{back.kept}:{A}") == "half an answer"
    refs = repository().text(
        "for-each-ref", "--format=%(objectname) %(refname)", "refs/llt/backup/patched-master/"
    )
    assert {before["head"], back.kept} <= set(refs.split())
    with pytest.raises(BadInput, match="no rebase of patched-master is under way"):
        case.abort()


def test_abort_of_a_tree_that_was_not_there_takes_it_away(case: Case) -> None:
    case.break_upstream()
    case.stop()
    # The only rebase under way is meant where no version is named.
    assert case.abort(None).tree_dir is None
    assert not tree().exists()
    assert str(tree()) not in repository().text("worktree", "list")


def test_where_nothing_can_be_merged_the_rejects_are_left(case: Case) -> None:
    case.upstream.commit({A: None, "src/z.txt": BASE[A]}, "rename it")
    stopped = case.stop()
    assert stopped.state.rejects == ("first.rej",)
    assert "no three-way merge was possible" in str(stopped)
    assert stopped.stack.touched["first"].renamed == ((A, "src/z.txt"),)
    (tree() / "src/z.txt").write_text(case.edit(BASE[A], 20, "first"))
    Git(tree()).run("add", "src/z.txt")
    assert "delete the .rej" in str(case.stop())
    (tree() / "first.rej").unlink()
    with pytest.raises(Stopped) as third:
        case.rebase()
    assert third.value.state.current == "third"
    before = case.abort()
    assert before.tree_dir is None


def test_hunks_without_a_preimage_are_left_beside_their_file(case: Case) -> None:
    raw = re.sub(rb"index [0-9a-f]{40}", b"index " + b"1" * 40, case.series["first"])
    case.folder = case.patches(case.series | {"first": raw})
    case.break_upstream()
    stopped = case.stop()
    assert stopped.stack.applied.outcomes[0].status is Status.MISSING
    assert stopped.state.rejects == (f"{A}.rej",)
    assert "+first" in (tree() / f"{A}.rej").read_text()
    case.resolve()
    assert "delete the .rej" in str(case.stop())
    (tree() / f"{A}.rej").unlink()
    assert case.rebase().applied.complete


def test_other_patches_cannot_go_on_from_a_stop(case: Case) -> None:
    case.break_upstream()
    case.stop()
    before = look(tree())
    case.folder = case.patches(case.series | {"second": case.series["second"].replace(b"+second", b"+other")})
    with pytest.raises(CheckFailed, match="not those that the rebase"):
        case.rebase()
    with pytest.raises(CheckFailed, match="is stopped at first"):
        case.rebase(stop=False)
    assert look(tree()) == before
    case.abort()


def test_a_patch_that_upstream_has_leaves_the_others_and_is_said(case: Case) -> None:
    case.upstream.commit({B: case.edit(BASE[B], 10, "second")}, "take it")
    with pytest.raises(Refused, match=r"second .*: already upstream.*has the others"):
        case.rebase()
    assert Git(tree()).text("log", "-2", "--format=%s").splitlines() == ["third", "first"]
    assert resume.recorded("patched-master", "x", load_series(case.folder)) is None


def test_a_second_run_says_so_and_ends(case: Case) -> None:
    path = homes.trees_dir() / "patched-master.lock"
    with hold(path, wait=False):
        started = time.monotonic()
        with pytest.raises(
            CheckFailed, match=f"another llt .process {os.getpid()}. is at work on patched-master"
        ):
            case.rebase()
        assert time.monotonic() - started < 2
    case.rebase()


def test_the_lock_lasts_until_a_killed_runs_git_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "t.lock"
    pid = os.fork()
    if pid == 0:
        with hold(path, wait=False) as lock:
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.8)"], pass_fds=(lock.handle,))
            os.kill(os.getpid(), signal.SIGKILL)
    started = time.monotonic()
    os.waitpid(pid, 0)
    with hold(path, wait=False):
        assert time.monotonic() - started > 0.5


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
