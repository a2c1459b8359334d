from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput, CheckFailed, MissingTool
from llamacpp_tools.stack import history
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.history import Kind, open_history
from llamacpp_tools.stack.treestate import ABSENT, states
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write, two_patches


@pytest.fixture
def folder(upstream: Upstream, edit: Edit, patches: Write) -> Path:
    return patches(two_patches(upstream, edit))


def later(upstream: Upstream, count: int) -> list[str]:
    commits = []
    for number in range(count):
        file = upstream.folder / "src" / "c.txt"
        text = f"{file.read_text() if file.is_file() else ''}{number}\n"
        commits.append(upstream.commit({"src/c.txt": text}, f"change {number}"))
    return commits


def clone(upstream: Upstream, target: Path, *options: str) -> Path:
    upstream.git.run("clone", "--quiet", "--bare", *options, f"file://{upstream.folder}", str(target))
    return target


@pytest.mark.parametrize("kind", ["remote", "folder", "url", "bundle"])
def test_every_commit_from_the_pin_on(
    home: Path, tmp_path: Path, upstream: Upstream, folder: Path, kind: str
) -> None:
    commits = later(upstream, 3)
    source = {"folder": str(upstream.folder), "url": f"file://{upstream.folder}", "remote": None}.get(kind)
    if kind == "bundle":
        source = str(tmp_path / "all.bundle")
        upstream.git.run("bundle", "create", "--quiet", source, "master", "v1")
    with open_history(load_upstream(folder), "master", source) as history:
        assert history.kind is Kind.HISTORY
        assert [step.commit for step in history.steps[1:]] == commits
        assert history.steps[0].label == "v1"
        assert [step.subject for step in history.steps[1:]] == ["change 0", "change 1", "change 2"]
        scratch = history.git.folder
        assert history.git.text("cat-file", "-p", f"{commits[-1]}:src/c.txt") == "0\n1\n2"
    assert not scratch.exists()


def test_the_repository_of_the_user_is_not_written_to(home: Path, upstream: Upstream, folder: Path) -> None:
    later(upstream, 1)
    before = sorted(upstream.folder.rglob("*"))
    with open_history(load_upstream(folder), "master", str(upstream.folder)) as history:
        history.git.run("hash-object", "-w", "--stdin", stdin=b"new")
    assert sorted(upstream.folder.rglob("*")) == before


def test_a_blobless_clone_is_refused(home: Path, tmp_path: Path, upstream: Upstream, folder: Path) -> None:
    later(upstream, 2)
    upstream.git.run("config", "uploadpack.allowFilter", "true")
    source = clone(upstream, tmp_path / "blobless.git", "--filter=blob:none")
    with (
        pytest.raises(BadInput, match="partial clone"),
        open_history(load_upstream(folder), "master", str(source)),
    ):
        pass


def test_a_shallow_clone_is_refused_where_it_ends_before_the_pin(
    home: Path, tmp_path: Path, upstream: Upstream, folder: Path
) -> None:
    later(upstream, 3)
    known = load_upstream(folder)
    source = clone(upstream, tmp_path / "short.git", "--depth=3")
    with (
        pytest.raises(BadInput, match=r"it is shallow: its 3 commits end"),
        open_history(known, "master", str(source)),
    ):
        pass
    source = clone(upstream, tmp_path / "long.git", "--depth=4")
    with open_history(known, "master", str(source)) as history:
        assert len(history.steps) == 4


def test_a_history_without_the_pin_is_refused(
    home: Path, tmp_path: Path, upstream: Upstream, folder: Path
) -> None:
    other = Upstream(tmp_path / "other")
    other.commit({"x.txt": "x\n"})
    with (
        pytest.raises(BadInput, match="none of the 1 commits that lead to master is the pin"),
        open_history(load_upstream(folder), "master", str(other.folder)),
    ):
        pass
    with (
        pytest.raises(BadInput, match="does not know v9"),
        open_history(load_upstream(folder), "v9", str(other.folder)),
    ):
        pass


def test_a_broken_clone_never_leads_into_the_repository_around_it(
    home: Path, upstream: Upstream, folder: Path
) -> None:
    inside = upstream.folder / "broken"
    inside.mkdir()
    with (
        pytest.raises(BadInput, match="no git repository"),
        open_history(load_upstream(folder), "master", str(inside)),
    ):
        pass


def test_a_revert_to_the_pins_tree_does_not_hide_what_lies_between(
    home: Path, upstream: Upstream, folder: Path
) -> None:
    upstream.commit({"src/a.txt": "gone\n"})
    upstream.commit({"src/a.txt": BASE["src/a.txt"]}, "revert")
    with open_history(load_upstream(folder), "master") as history:
        assert [step.subject for step in history.steps] == ["base", "change", "revert"]


def with_versions(folder: Path, upstream: Upstream, tags: list[str], remote: str | None = None) -> None:
    """Make `tags` known versions beside the pin; with another `remote`, history cannot be had."""
    file = folder / "upstream.yaml"
    text = file.read_text().replace(f"remote: {upstream.folder}", f"remote: {remote or upstream.folder}")
    for tag in tags:
        tree = upstream.git.tree_of(tag)
        text += f"  - tag: {tag}\n    date: 2026-02-01\n    identities: [{{tree: {tree}, seen: here}}]\n"
    file.write_text(text)


def squash(upstream: Upstream, into: Git, tags: list[str]) -> None:
    """Each tag as a commit without parents, as a bundle carries a release."""
    for tag in tags:
        into.run("fetch", "--quiet", "--no-tags", str(upstream.folder), tag)
        made = into.text("commit-tree", upstream.git.tree_of(tag), "-m", "squashed")
        into.run("update-ref", f"refs/llt/upstream/{tag}", made)


def test_known_versions_serve_where_there_is_no_history(
    home: Path, tmp_path: Path, upstream: Upstream, folder: Path
) -> None:
    from llamacpp_tools.stack.source import repository

    for tag in ("v2", "v3"):
        later(upstream, 2)
        upstream.commit({"src/d.txt": f"{tag}\n"})
        upstream.git.run("tag", tag)
    with_versions(folder, upstream, ["v2", "v3"], str(tmp_path / "nowhere"))
    squash(upstream, repository(), ["v1", "v2", "v3"])
    known = load_upstream(folder)
    with open_history(known) as history:
        assert history.kind is Kind.SNAPSHOTS
        assert [step.label for step in history.steps] == ["v1", "v2", "v3"]
        assert "only known versions" in history.note
    with (
        pytest.raises(MissingTool, match=r"name a clone with --source, or a known version .*v1, v2, v3"),
        open_history(known, "master"),
    ):
        pass


def test_what_is_not_the_known_version_is_refused(home: Path, upstream: Upstream, folder: Path) -> None:
    later(upstream, 1)
    upstream.git.run("tag", "v2")
    with_versions(folder, upstream, ["v2"])
    later(upstream, 2)
    upstream.git.run("tag", "--force", "v2")
    with pytest.raises(CheckFailed, match="another identity"), open_history(load_upstream(folder), "v2"):
        pass


def test_a_target_before_the_pin_is_refused(home: Path, upstream: Upstream, folder: Path) -> None:
    later(upstream, 1)
    upstream.git.run("tag", "v2")
    with_versions(folder, upstream, ["v2"])
    file = folder / "upstream.yaml"
    file.write_text(file.read_text().replace("pin: v1", "pin: v2"))
    with pytest.raises(BadInput, match="lies before the pin v2"), open_history(load_upstream(folder), "v1"):
        pass


def test_the_state_of_a_tree_tells_blob_mode_folder_and_what_stands_in_the_way(upstream: Upstream) -> None:
    upstream.commit({"src/deep/er/x.txt": "x\n", "top": "t\n"})
    tree = upstream.git.tree_of("HEAD")
    asked = ["src/deep/er/x.txt", "src/deep", "top", "top/y.txt", "none/z.txt", "src/none", "src/deep/er"]
    (state,) = states(upstream.git, [tree], asked)
    x, t = (upstream.git.text("rev-parse", f"HEAD:{name}") for name in ("src/deep/er/x.txt", "top"))
    assert state == (f"100644 {x}", "folder", f"100644 {t}", "under 100644", ABSENT, ABSENT, "folder")
    (upstream.folder / "top").chmod(0o755)
    upstream.git.run("commit", "--quiet", "--all", "--message", "mode")
    assert states(upstream.git, [upstream.git.tree_of("HEAD")], ["top"]) == [(f"100755 {t}",)]


def test_the_path_of_a_clone_is_followed_to_its_head(home: Path, upstream: Upstream, folder: Path) -> None:
    upstream.commit({"src/b.txt": "more\n"}, "More")
    with open_history(load_upstream(folder), str(upstream.folder)) as history:
        assert history.steps[-1].commit == upstream.git.text("rev-parse", "HEAD")
    both = open_history(load_upstream(folder), str(upstream.folder), "somewhere")
    with pytest.raises(BadInput, match="name the version with --to and the path with --source"), both:
        pass


def test_another_run_may_fetch_another_label_meanwhile(
    home: Path, upstream: Upstream, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.git.run("branch", "other", later(upstream, 1)[0])
    last = later(upstream, 1)[0]
    known, url = load_upstream(folder), f"file://{upstream.folder}"
    scratch = history._scratch

    @contextmanager
    def after_the_other_run(stores: Sequence[Git]) -> Iterator[Git]:
        history._fetch_history(known, url, "other")
        with scratch(stores) as git:
            yield git

    monkeypatch.setattr(history, "_scratch", after_the_other_run)
    with open_history(known, "master", url) as found:
        assert found.steps[-1].commit == last
