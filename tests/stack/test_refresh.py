from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.cli.main import run
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack.audit import Rule
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.refresh import Refreshed, Wish, refresh
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.seriesedit import FILL_IN
from llamacpp_tools.stack.stack import Refused
from llamacpp_tools.stack.upstream import load_upstream
from tests.conftest import PATCHES

from .conftest import BASE, Upstream
from .test_apply import Edit, Write
from .test_audit import FIRST, SECOND, audited, good_series

Bytes = dict[str, bytes]


@pytest.fixture
def folder(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Path:
    """A good series, and its tree made."""
    folder = good_series(upstream, edit, patches)
    put_into_tree(folder)
    return folder


def put_into_tree(folder: Path, onto: str | None = None) -> Git:
    stack = rebase(load_upstream(folder), load_series(folder), onto)
    assert stack.tree_dir is not None
    return Git(stack.tree_dir)


def tree_of(label: str = "v1") -> Git:
    return Git(homes.trees_dir() / f"patched-{label}")


def refreshed(folder: Path, **wish: object) -> Refreshed:
    return refresh(load_upstream(folder), load_series(folder), Wish(**wish))  # type: ignore[arg-type]


def contents(folder: Path) -> Bytes:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write(git: Git, name: str, text: str) -> None:
    (git.folder / name).write_text(text)
    git.run("add", name)


def as_a_person(git: Git, *words: str) -> None:
    """A commit as someone makes it: another identity, another day."""
    git.run(
        *words,
        env={
            "GIT_AUTHOR_NAME": "Zoë", "GIT_AUTHOR_EMAIL": "z@example", "GIT_AUTHOR_DATE": "2026-07-01T12:00:00 +0200",
            "GIT_COMMITTER_NAME": "Zoë", "GIT_COMMITTER_DATE": "2026-08-01T12:00:00 +0200",
        },
    )  # fmt: skip


def test_nothing_changed_means_the_same_bytes_and_the_same_time_stamps(folder: Path) -> None:
    before = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for _ in range(2):
        done = refreshed(folder)
        assert not done.changed
        assert done.range_diff == ""
    assert contents(folder) == before
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_file_in_another_form_is_brought_into_the_stable_one(folder: Path) -> None:
    before = contents(folder)
    raw = before[FIRST].replace(b"Subject: first", b"Subject: [PATCH 1/2] first") + b"-- \n2.39.5\n\n"
    (folder / FIRST).write_bytes(raw)
    put_into_tree(folder)
    done = refreshed(folder)
    assert dict(done.files) == {FIRST: "changed", SECOND: "unchanged"}
    assert contents(folder) == before


def test_an_amended_commit_changes_its_own_file_and_is_compared(folder: Path) -> None:
    before = contents(folder)
    git = tree_of()
    write(git, "src/c.txt", "newer\n")
    as_a_person(git, "commit", "--quiet", "--amend", "--no-edit", "--reset-author")
    done = refreshed(folder)
    assert dict(done.files) == {FIRST: "unchanged", SECOND: "changed"}
    assert contents(folder)[FIRST] == before[FIRST]
    assert b"+newer" in contents(folder)[SECOND]
    assert "1:" in done.range_diff
    assert "newer" in done.range_diff
    assert audited(folder).good
    again = contents(folder)
    assert not refreshed(folder).changed
    assert contents(folder) == again


def test_a_reworded_commit_is_still_the_same_patch(folder: Path) -> None:
    as_a_person(tree_of(), "commit", "--quiet", "--amend", "--message", "second, said better")
    done = refreshed(folder)
    assert dict(done.files) == {FIRST: "unchanged", SECOND: "changed"}
    assert b"Subject: second, said better" in contents(folder)[SECOND]


def test_a_new_commit_becomes_a_new_patch_that_a_person_has_to_finish(folder: Path) -> None:
    before = contents(folder)
    git = tree_of()
    write(git, "src/d.txt", "d\n")
    as_a_person(git, "commit", "--quiet", "--message", "server : add D!\n\nWithout it\nD is missing.")
    done = refreshed(folder)
    name = "0003-server-add-d.patch"
    assert done.files == ((FIRST, "unchanged"), (SECOND, "unchanged"), (name, "new"))
    assert done.to_fill_in == ("server-add-d",)
    series = load_series(folder)
    entry = series.patches[-1].entry
    assert (entry.file, entry.name, entry.why) == (name, "server-add-d", "Without it D is missing.")
    assert entry.paths == ("src/d.txt",)
    raw = contents(folder)[name]
    assert b"Date: Wed, 1 Jul 2026 12:00:00 +0200" in raw
    assert b"=?UTF-8?q?Zo=C3=AB?= <z@example>" in raw
    assert {each.rule for each in audited(folder).findings} == {Rule.FILL_IN}
    path = folder / "series.yaml"
    path.write_text(path.read_text().replace(FILL_IN, "said"))
    assert audited(folder).good
    assert contents(folder)[FIRST] == before[FIRST]
    assert not refreshed(folder).changed


def test_a_new_patch_between_two_stands_between_them(folder: Path) -> None:
    git = tree_of()
    second = git.text("rev-parse", "HEAD")
    git.run("checkout", "--quiet", "HEAD~1")
    write(git, "src/d.txt", "d\n")
    as_a_person(git, "commit", "--quiet", "--message", "between")
    as_a_person(git, "cherry-pick", second)
    done = refreshed(folder)
    assert [patch.name for patch in load_series(folder).patches] == ["first", "between", "second"]
    assert dict(done.files)["0003-between.patch"] == "new"
    assert dict(done.files)[SECOND] == "unchanged"


def test_after_a_refresh_the_tree_is_what_a_rebase_gives(folder: Path) -> None:
    git = tree_of()
    write(git, "src/d.txt", "d\n")
    as_a_person(git, "commit", "--quiet", "--message", "more")
    own = git.text("rev-parse", "HEAD")
    refreshed(folder)
    stack = rebase(load_upstream(folder), load_series(folder))
    assert git.text("rev-parse", "HEAD") == stack.applied.head
    assert own != stack.applied.head
    kept = git.text("for-each-ref", "--format=%(objectname)", "refs/llt/backup/").split()
    assert own in kept


@pytest.mark.parametrize("add", [False, True])
def test_changes_that_are_not_committed_are_refused(folder: Path, add: bool) -> None:
    before = contents(folder)
    (tree_of().folder / "src" / ("new.txt" if add else "a.txt")).write_text("mine\n")
    with pytest.raises(CheckFailed, match=r"not committed \(src/(new|a).txt\): commit them there"):
        refreshed(folder)
    assert contents(folder) == before


def test_a_file_outside_the_declared_ones_is_refused(folder: Path) -> None:
    before = contents(folder)
    git = tree_of()
    (git.folder / "common").mkdir()
    write(git, "common/x.txt", "x\n")
    as_a_person(git, "commit", "--quiet", "--amend", "--no-edit")
    with pytest.raises(CheckFailed, match=r"touches common/x.txt.* add `- common/x.txt` to its paths"):
        refreshed(folder)
    assert contents(folder) == before


def test_a_fixup_and_a_merge_are_refused(folder: Path) -> None:
    git = tree_of()
    at = git.text("rev-parse", "HEAD")
    write(git, "src/a.txt", BASE["src/a.txt"])
    as_a_person(git, "commit", "--quiet", "--fixup", "HEAD")
    with pytest.raises(CheckFailed, match="autosquash"):
        refreshed(folder)
    git.run("checkout", "--quiet", at)
    as_a_person(git, "commit", "--quiet", "--allow-empty", "--message", "side")
    side = git.text("rev-parse", "HEAD")
    git.run("checkout", "--quiet", at)
    as_a_person(git, "merge", "--quiet", "--no-ff", "--message", "merge", side)
    with pytest.raises(CheckFailed, match="one line of commits"):
        refreshed(folder)


def test_an_empty_commit_is_refused(folder: Path) -> None:
    as_a_person(tree_of(), "commit", "--quiet", "--allow-empty", "--message", "nothing")
    with pytest.raises(CheckFailed, match="changes no file: take it out"):
        refreshed(folder)


def test_a_message_that_a_mail_would_cut_is_refused(folder: Path) -> None:
    before = contents(folder)
    as_a_person(tree_of(), "commit", "--quiet", "--amend", "--message", "second\n\nkept\n---\nlost")
    with pytest.raises(CheckFailed, match="does not survive as a patch file"):
        refreshed(folder)
    assert contents(folder) == before


def test_a_dropped_patch_goes_with_its_reason(folder: Path) -> None:
    done = refreshed(folder, drop=("first",), reason="upstream: took it in #7")
    assert dict(done.files) == {SECOND: "changed", FIRST: "dropped"}
    assert not (folder / FIRST).exists()
    series = load_series(folder)
    assert [patch.name for patch in series.patches] == ["second"]
    assert [(gone.name, gone.reason, gone.upstream) for gone in series.dropped] == [
        ("first", "upstream: took it in #7", "v1")
    ]
    assert audited(folder).good
    assert (tree_of().folder / "src" / "a.txt").read_text().splitlines()[19] == "a line 20"
    assert not refreshed(folder).changed


def test_a_number_that_was_dropped_is_not_used_again(folder: Path) -> None:
    refreshed(folder, drop=("second",), reason="not needed")
    git = tree_of()
    write(git, "src/d.txt", "d\n")
    as_a_person(git, "commit", "--quiet", "--message", "another")
    assert refreshed(folder).files[-1] == ("0003-another.patch", "new")


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"drop": ("third",), "reason": "x"}, "no patch 'third'"),
        ({"drop": ("first",)}, "needs --reason"),
        ({"reason": "x"}, "goes with --drop"),
        ({"drop": ("first", "second"), "reason": "x"}, "no patch would be left"),
        ({"onto": "v2"}, "with --out"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(folder: Path, wish: dict[str, object], why: str) -> None:
    before = contents(folder)
    with pytest.raises((BadInput, CheckFailed), match=why):
        refreshed(folder, **wish)
    assert contents(folder) == before


def test_a_patch_that_others_need_is_not_dropped_alone(folder: Path) -> None:
    git = tree_of()
    text = (git.folder / "src" / "a.txt").read_text()
    write(git, "src/a.txt", text.replace("first\n", "first and third\n"))
    as_a_person(git, "commit", "--quiet", "--message", "third")
    refreshed(folder)
    before = contents(folder)
    with pytest.raises(CheckFailed, match=r"third does not apply without first .*drop it too"):
        refreshed(folder, drop=("first",), reason="x")
    assert contents(folder) == before


def test_a_commit_that_is_gone_is_told_and_its_file_stays(folder: Path) -> None:
    before = contents(folder)
    git = tree_of()
    git.run("reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(CheckFailed, match=r"no commit for second \(its commit is gone\).*--drop second"):
        refreshed(folder)
    assert contents(folder) == before
    refreshed(folder, drop=("second",), reason="taken out by hand")
    assert [patch.name for patch in load_series(folder).patches] == ["first"]


def test_what_upstream_took_is_told_and_goes_only_with_drop(
    folder: Path, upstream: Upstream, edit: Edit
) -> None:
    before = contents(folder)
    took = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "first")}, "upstream takes it")
    with pytest.raises(Refused):
        rebase(load_upstream(folder), load_series(folder), "master", stop=True)
    out = folder / "next"
    with pytest.raises(CheckFailed, match=r"no commit for first \(upstream has this change already\)"):
        refreshed(folder, onto="master", out=out)
    assert contents(folder) == before
    done = refreshed(folder, onto="master", out=out, drop=("first",), reason="upstream took it")
    assert [patch.name for patch in load_series(out).patches] == ["second"]
    assert load_series(out).dropped[0].upstream == took
    assert done.folder == out
    assert contents(folder) == before


def test_another_version_gets_its_own_folder(folder: Path, upstream: Upstream) -> None:
    before = contents(folder)
    upstream.commit({"src/a.txt": "new\n" + BASE["src/a.txt"]}, "upstream moves lines")
    upstream.git.run("tag", "v2")
    tree = upstream.git.tree_of("v2")
    text = before["upstream.yaml"].decode()
    (folder / "upstream.yaml").write_text(
        text + f"  - tag: v2\n    date: 2026-02-01\n    identities: [{{tree: {tree}, seen: here}}]\n"
    )
    put_into_tree(folder, "v2")
    out = folder / "v2"
    done = refreshed(folder, onto="v2", out=out)
    assert dict(done.files)[FIRST] == "changed"
    assert {name: raw for name, raw in contents(folder).items() if name != "upstream.yaml"} == {
        name: raw for name, raw in before.items() if name != "upstream.yaml"
    }
    assert load_series(out).upstream == "v2"
    with pytest.raises(BadInput, match="has a series already"):
        refreshed(folder, onto="v2", out=out)
    from llamacpp_tools.stack.audit import audit

    verdict = audit(load_upstream(folder), out)
    assert verdict.good, verdict.findings
    again = contents(out)
    assert not refresh(load_upstream(folder), load_series(out)).changed
    assert contents(out) == again


def test_a_file_changed_after_the_tree_was_made_is_not_overwritten(folder: Path) -> None:
    raw = (folder / FIRST).read_bytes().replace(b"Why it is so.", b"Why it was so.")
    (folder / FIRST).write_bytes(raw)
    with pytest.raises(CheckFailed, match="was changed after the tree was made"):
        refreshed(folder)
    assert (folder / FIRST).read_bytes() == raw
    put_into_tree(folder)
    assert dict(refreshed(folder).files) == {FIRST: "unchanged", SECOND: "unchanged"}


def test_a_commit_of_a_patch_that_was_dropped_does_not_come_back_as_a_new_one(folder: Path) -> None:
    git = tree_of()
    head = git.text("rev-parse", "HEAD")
    refreshed(folder, drop=("first",), reason="gone")
    git.run("checkout", "--quiet", "--detach", head)
    record = homes.trees_dir() / "patched-v1.stack.json"
    raw = json.loads(record.read_text())
    raw["commits"].insert(0, {"name": "first", "commit": git.text("rev-parse", "HEAD~1"), "status": "clean"})
    record.write_text(json.dumps(raw))
    with pytest.raises(CheckFailed, match=r"is first, which series.yaml says was dropped: take it out"):
        refreshed(folder)


def test_hints_are_commands_that_work(
    folder: Path, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    put_into_tree(folder)
    upstream.commit(
        {"src/a.txt": Git(tree_of().folder).run("show", "HEAD:src/a.txt").stdout.decode()}, "took first"
    )
    assert run(["rebase", "--onto", "master", "--patches", str(folder)]) == 1
    said = capsys.readouterr().err
    (hint,) = re.findall(r"`llt (patches refresh .*?)`", said)
    words = shlex.split(hint.replace("TEXT", "'upstream has it'"))
    assert words[words.index("--out") + 1] == str(folder / "master")
    assert run(words) == 0, capsys.readouterr().err
    assert [patch.name for patch in load_series(folder / "master").patches] == ["second"]
    assert [patch.name for patch in load_series(folder).patches] == ["first", "second"]


def test_there_is_no_tree_yet(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = good_series(upstream, edit, patches)
    with pytest.raises(CheckFailed, match="no tree for v1 yet: make it with `llt rebase"):
        refreshed(folder)


@pytest.mark.build
def test_our_own_files_are_what_a_refresh_writes(tmp_path: Path) -> None:
    folder = tmp_path / "patches"
    shutil.copytree(PATCHES, folder)
    before = contents(folder)
    git = put_into_tree(folder)
    head = git.text("rev-parse", "HEAD")
    assert not refreshed(folder).changed
    assert contents(folder) == before
    assert git.text("rev-parse", "HEAD") == head
