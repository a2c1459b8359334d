from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.stack import check
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write, two_patches


def test_the_tree_is_ready_and_a_second_run_leaves_it_untouched(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    stack = rebase(load_upstream(folder), load_series(folder))
    assert stack.tree_dir is not None
    file = stack.tree_dir / "src" / "a.txt"
    assert file.read_text().splitlines()[19] == "first"
    before = file.stat().st_mtime_ns
    assert rebase(load_upstream(folder), load_series(folder)).applied.head == stack.applied.head
    assert file.stat().st_mtime_ns == before


def test_a_patch_that_does_not_apply_leaves_the_tree_as_it_was(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    good = two_patches(upstream, edit)
    folder = patches(good)
    stack = rebase(load_upstream(folder), load_series(folder))
    assert stack.tree_dir is not None
    bad = patches(good | {"second": good["second"].replace(b" b line 9\n", b" b line nine\n")})
    with pytest.raises(CheckFailed, match=r"second .*: conflict, src/b.txt: hunk @@ -7,7 \+7,7 @@"):
        rebase(load_upstream(bad), load_series(bad))
    assert Git(stack.tree_dir).text("rev-parse", "HEAD") == stack.applied.head
    assert Git(stack.tree_dir).text("status", "--porcelain") == ""


def test_a_check_moves_no_ref_and_makes_no_tree(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    assert check(load_upstream(folder), load_series(folder)).applied.complete
    assert not (home / "trees").exists()


def test_own_changes_in_the_tree_are_never_overwritten(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    stack = rebase(load_upstream(folder), load_series(folder))
    assert stack.tree_dir is not None
    (stack.tree_dir / "src" / "a.txt").write_text("mine\n")
    with pytest.raises(CheckFailed, match="changes of its own"):
        rebase(load_upstream(folder), load_series(folder).leave_out(()))
    assert (stack.tree_dir / "src" / "a.txt").read_text() == "mine\n"


def test_onto_a_branch_of_the_remote(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = patches(two_patches(upstream, edit))
    later = upstream.commit({"src/c.txt": "new\n"})
    stack = rebase(load_upstream(folder), load_series(folder), onto="master")
    assert stack.source.commit == later
    assert stack.tree_dir is not None
    assert (stack.tree_dir / "src" / "c.txt").is_file()


def test_what_is_not_the_pinned_tree_is_refused(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    upstream.commit({"src/a.txt": "tampered\n"})
    upstream.git.run("tag", "--force", "v1")
    with pytest.raises(CheckFailed, match=r"upstream.yaml accepts only tree .*: refused"):
        rebase(load_upstream(folder), load_series(folder))
    assert not (home / "trees" / "patched-v1").exists()


@pytest.mark.parametrize("kind", ["folder", "bundle"])
def test_a_named_source_is_asked_first(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write, kind: str
) -> None:
    folder = patches(two_patches(upstream, edit))
    named = upstream.folder
    if kind == "bundle":
        named = tmp_path / "upstream.bundle"
        upstream.git.run("bundle", "create", "--quiet", str(named), "HEAD", "v1")
    text = (folder / "upstream.yaml").read_text().replace(str(upstream.folder), str(tmp_path / "nowhere"))
    (folder / "upstream.yaml").write_text(text)
    assert check(load_upstream(folder), load_series(folder), source=str(named)).applied.complete


def test_a_source_that_is_nothing_is_bad_input(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    with pytest.raises(BadInput, match="no such folder or bundle"):
        check(load_upstream(folder), load_series(folder), source="not-there")


def test_the_users_git_configuration_has_no_say(
    home: Path,
    tmp_path: Path,
    upstream: Upstream,
    edit: Edit,
    patches: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = patches(two_patches(upstream, edit))
    before = check(load_upstream(folder), load_series(folder)).applied.head
    hostile = tmp_path / "gitconfig"
    hostile.write_text(
        "[user]\n name = Someone\n email = someone@example\n[commit]\n gpgsign = true\n[core]\n autocrlf = true\n"
        " hooksPath = /nowhere\n[apply]\n whitespace = fix\n"
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(hostile))
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z")
    assert check(load_upstream(folder), load_series(folder)).applied.head == before


def test_a_left_out_patch_is_named_in_the_tree(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    stack = rebase(load_upstream(folder), load_series(folder).leave_out(("first",)))
    assert stack.tree_dir is not None
    assert stack.tree_dir.name == "patched-without-first-v1"
    assert (stack.tree_dir / "src" / "a.txt").read_text() == BASE["src/a.txt"]
    with pytest.raises(BadInput, match="no patch 'third'"):
        load_series(folder).leave_out(("third",))


def test_a_branch_of_the_same_last_name_is_never_taken(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    wanted = upstream.git.text("rev-parse", "master")
    upstream.git.run("switch", "--quiet", "--create", "zz/master")
    upstream.commit({"src/b.txt": "another\n"}, "someone's own master")
    assert check(load_upstream(folder), load_series(folder), "master").source.commit == wanted


def test_a_tag_goes_before_a_branch(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = patches(two_patches(upstream, edit))
    tagged = upstream.git.text("rev-parse", "HEAD")
    upstream.git.run("tag", "--annotate", "--message", "x", "both")
    upstream.git.run("branch", "both")
    upstream.git.run("switch", "--quiet", "both")
    upstream.commit({"src/b.txt": "another\n"})
    assert check(load_upstream(folder), load_series(folder), "both").source.commit == tagged


def test_a_version_that_came_from_elsewhere_before_is_kept(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    first = check(load_upstream(folder), load_series(folder)).source.commit
    upstream.git.run("commit", "--quiet", "--amend", "--message", "the same content")
    upstream.git.run("tag", "--force", "v1")
    again = check(load_upstream(folder), load_series(folder), source=str(upstream.folder)).source.commit
    assert again != first
    assert repository().text("rev-parse", "refs/llt/backup/upstream/v1/1") == first
