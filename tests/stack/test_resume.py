"""A rebase that stops, goes on, goes back."""

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

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack import resume
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.resume import Phase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.stack import Refused, Stopped
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.upstream import load_upstream

from .case import A, B, Case, case, look, tree
from .conftest import BASE, Upstream
from .test_traps import BODY, OURS, STEP, twin_patch, twins

__all__ = ["case", "twin_patch"]


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
    assert [each.name for each in done[0]] == ["first", "second", "third"]
    assert done[1] == stack.applied.head


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
    with pytest.raises(
        Refused, match=r"resolved by hand: `llt patches refresh --onto master --out .*/master "
    ):
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


def test_a_look_alike_is_not_changed_where_nothing_can_be_merged(
    home: Path, tmp_path: Path, upstream: Upstream, twin_patch: Path
) -> None:
    other = Upstream(tmp_path / "elsewhere")
    text = "// new\n" + twins(v=BODY.replace(STEP, OURS))
    other.commit(BASE | {A: text})
    path = twin_patch / "upstream.yaml"
    path.write_text(path.read_text().replace(str(upstream.folder), str(tmp_path / "nowhere")))
    with pytest.raises(Stopped) as caught:
        rebase(load_upstream(twin_patch), load_series(twin_patch), str(other.folder), stop=True)
    folder = caught.value.stack.tree_dir
    assert folder is not None
    assert caught.value.state.rejects == ("first.rej",)
    assert (folder / A).read_text() == text
    assert Git(folder).text("status", "--porcelain") == "?? first.rej"


def test_a_removal_that_conflicts_is_laid_beside_what_could_be_merged(case: Case) -> None:
    ours = case.upstream.commit({A: case.edit(BASE[A], 20, "first"), B: None}, "ours")
    shutil.rmtree(case.folder)
    case.folder = case.patches({"first": case.upstream.export(ours)})
    case.upstream.git.run("reset", "--quiet", "--hard", "v1")
    case.break_upstream(second=True)
    stopped = case.stop()
    assert (stopped.state.files, stopped.state.rejects) == ((A,), ("first.rej",))
    assert f"mend the conflict in {A}" in stopped.why and "what first.rej in" in stopped.why
    laid = (tree() / "first.rej").read_text()
    assert f"deleted file mode 100644\nindex {laid.split('index ')[1][:40]}" in laid and f"a/{A}" not in laid
    case.resolve()
    assert "delete the .rej" in str(case.stop())
    (tree() / "first.rej").unlink()
    Git(tree()).run("rm", "--quiet", B)
    assert case.rebase().applied.complete
    assert not (tree() / B).exists()


def test_what_was_resolved_by_hand_stays_beside_what_upstream_took(case: Case) -> None:
    case.upstream.commit({A: case.edit(BASE[A], 20, "upstream's own"), B: case.edit(BASE[B], 10, "second")})
    case.text = case.edit(BASE[A], 20, "upstream's own")
    case.stop()
    case.resolve()
    seen = []
    for _ in range(3):
        with pytest.raises(
            Refused, match=r"second .*already upstream.* --drop second --reason TEXT"
        ) as caught:
            case.rebase()
        seen.append([outcome.status for outcome in caught.value.stack.applied.outcomes])
        assert "first" in (tree() / A).read_text().splitlines()
    assert seen[0][0] is Status.RESOLVED
    assert seen[0] == seen[1] == seen[2]


def test_what_a_person_did_after_a_kill_is_named(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    stack = case.rebase()
    record = resume.read_record("patched-master")
    assert record is not None
    state = resume.State(
        "patched-master", "master", "x", record.base, load_series(case.folder).digest, Phase.MOVING, record.head,
        done=tuple(resume.Done(name, "clean", commit) for name, commit in record.commits.items()),
        previous_head=record.head, folder=str(case.folder.resolve()),
    )  # fmt: skip
    resume.save_state(state)
    (tree() / B).write_text("mine\n")
    assert case.rebase().applied == stack.applied
    (said,) = [each.getMessage() for each in caplog.records if "is kept as" in each.getMessage()]
    assert repository().text("show", f"{said.rsplit(' ', 1)[1]}:{B}") == "mine"


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
