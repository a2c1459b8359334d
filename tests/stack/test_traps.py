"""The traps that a series meets on a moving upstream, seen from its application.

What a patch file itself may not be (an under-counted hunk, a path with `..`, a binary) is in `test_patchfile`.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.stack.apply import Applied, apply_series
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.stack import check
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write, statuses, two_patches

A, B = "src/a.txt", "src/b.txt"


def applied(upstream: Upstream, folder: Path, base: str) -> Applied:
    return apply_series(upstream.git, upstream.git.text("rev-parse", base), load_series(folder).patches)


def elsewhere(tmp_path: Path, files: dict[str, str]) -> tuple[Git, str]:
    """A repository that has these files and nothing of upstream's objects besides."""
    other = Upstream(tmp_path / "elsewhere")
    return other.git, other.commit(dict(files))


def test_a_series_never_shrinks_silently_when_upstream_took_a_patch(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    upstream.commit({A: edit(BASE[A], 20, "first"), "src/new.txt": "more\n"}, "took it, and more")
    result = applied(upstream, folder, "HEAD")
    assert [outcome.status for outcome in result.outcomes] == [Status.UPSTREAM, Status.CLEAN]
    assert result.outcomes[0].commit is None
    assert not result.complete


def test_taken_with_other_context_is_still_seen_as_taken(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    taken = edit(edit(BASE[A], 20, "first"), 18, "and its context")
    assert statuses(upstream, folder, upstream.commit({A: taken})) == [Status.UPSTREAM, Status.CLEAN]


def test_a_missing_preimage_is_no_conflict(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    git, base = elsewhere(tmp_path, BASE | {A: edit(BASE[A], 17, "nearby")})
    result = apply_series(git, base, load_series(folder).patches)
    assert [outcome.status for outcome in result.outcomes] == [Status.MISSING, Status.CLEAN]
    assert f"{A}: hunk @@ -17,7 +17,7 @@ (the file that the patch was made from" in result.outcomes[0].detail
    # Where upstream has both versions the same series merges.
    assert (
        statuses(upstream, folder, upstream.commit({A: edit(BASE[A], 17, "nearby")}))[0] == Status.THREE_WAY
    )


@pytest.mark.parametrize("line", [17, 23])
def test_fuzz_is_never_taken(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write, line: int
) -> None:
    # GNU patch would apply both: only the outermost line of context differs.
    folder = patches(two_patches(upstream, edit))
    git, base = elsewhere(tmp_path, BASE | {A: edit(BASE[A], line, "nearby")})
    result = apply_series(git, base, load_series(folder).patches)
    assert result.outcomes[0].status is Status.MISSING
    assert git.text("rev-parse", f"{result.head}:{A}") == git.text("rev-parse", f"{base}:{A}")


def test_crlf_is_kept_and_never_taken_for_lf(upstream: Upstream, edit: Edit, patches: Write) -> None:
    dos = BASE[A].replace("\n", "\r\n")
    start = upstream.commit({A: dos}, "dos")
    change = upstream.commit({A: dos.replace("a line 20\r", "first\r")}, "first")
    folder = patches({"first": upstream.export(change)})
    result = applied(upstream, folder, start)
    assert result.outcomes[0].status is Status.CLEAN
    assert (
        upstream.git.run("show", f"{result.head}:{A}").stdout
        == dos.replace("a line 20\r", "first\r").encode()
    )
    assert statuses(upstream, folder, "v1") == [Status.CONFLICT]


def test_a_renamed_file_is_a_conflict_that_names_the_new_place(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    upstream.commit({A: None, "src/z.txt": BASE[A]}, "rename it")
    stack = check(load_upstream(folder), load_series(folder), "master")
    assert [outcome.status for outcome in stack.applied.outcomes] == [Status.CONFLICT, Status.CLEAN]
    assert stack.applied.outcomes[0].detail == f"{A}: the file is not there"
    assert stack.touched["first"].renamed == ((A, "src/z.txt"),)
    assert [commit.subject for commit in stack.touched["first"].commits] == ["rename it"]


def test_a_reverted_upstream_commit_applies_again(upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = patches(two_patches(upstream, edit))
    broken = upstream.commit({A: edit(BASE[A], 20, "upstream's own")})
    upstream.git.run("revert", "--no-edit", broken)
    assert statuses(upstream, folder, "v1") == [Status.CLEAN, Status.CLEAN]
    assert statuses(upstream, folder, broken) == [Status.CONFLICT, Status.CLEAN]
    assert statuses(upstream, folder, "HEAD") == [Status.CLEAN, Status.CLEAN]


def test_an_empty_patch_is_refused(upstream: Upstream, edit: Edit, patches: Write) -> None:
    raw = two_patches(upstream, edit)["first"]
    folder = patches({"first": raw.split(b"diff --git")[0]})
    with pytest.raises(BadInput, match="changes no file"):
        load_series(folder)


def test_blocked_is_told_from_a_conflict_of_its_own(upstream: Upstream, edit: Edit, patches: Write) -> None:
    first = edit(BASE[A], 20, "first")
    commits = {
        "first": upstream.commit({A: first}, "first"),
        "needs-first": upstream.commit({A: edit(first, 21, "more")}, "more"),
        "own-conflict": upstream.commit({B: edit(BASE[B], 10, "second")}, "second"),
    }
    folder = patches({name: upstream.export(commit) for name, commit in commits.items()})
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    upstream.commit({A: edit(BASE[A], 20, "x"), B: edit(BASE[B], 10, "x")})
    result = applied(upstream, folder, "HEAD")
    assert [outcome.status for outcome in result.outcomes] == [
        Status.CONFLICT,
        Status.BLOCKED,
        Status.CONFLICT,
    ]
    assert result.outcomes[1].blocked_by == ("first",)


def test_what_shifted_the_lines_is_told_from_what_changed_them(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    text = "one\ntwo\n" + BASE[A]
    upstream.commit({A: text}, "shift it")
    text = edit(text, 22, "x")
    upstream.commit({A: text}, "change it")
    upstream.commit({A: edit(text, 35, "y")}, "far away")
    upstream.commit({B: BASE[B] + "end\n"}, "another file")
    touched = check(load_upstream(folder), load_series(folder), "master").touched["first"]
    assert [(commit.subject, commit.in_hunks) for commit in touched.commits] == [
        ("shift it", False), ("change it", True), ("far away", False)
    ]  # fmt: skip


def test_snapshots_without_history_are_said(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    git, _ = elsewhere(tmp_path, BASE | {A: edit(BASE[A], 20, "x")})
    stack = check(load_upstream(folder), load_series(folder), str(git.folder))
    assert stack.applied.outcomes[0].status is Status.CONFLICT
    assert stack.touched["first"].note == (
        f"upstream changed these files between v1 and {git.folder}; by which commits cannot be told: snapshots"
        " only, no history here"
    )


@pytest.mark.parametrize("kind", ["clone", "shallow", "bundle", "relative"])
def test_onto_a_path(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write,
    monkeypatch: pytest.MonkeyPatch, kind: str,
) -> None:  # fmt: skip
    folder = patches(two_patches(upstream, edit))
    later = upstream.commit({A: "new\n" + BASE[A]}, "later")
    place = tmp_path / kind
    if kind == "bundle":
        upstream.git.run("bundle", "create", "--quiet", str(place), "master")
    else:
        depth = ("--depth=1",) if kind == "shallow" else ()
        upstream.git.run("clone", "--quiet", *depth, f"file://{upstream.folder}", str(place))
    monkeypatch.chdir(tmp_path)
    stack = check(load_upstream(folder), load_series(folder), kind if kind == "relative" else str(place))
    assert stack.source.commit == later
    assert [outcome.status for outcome in stack.applied.outcomes] == [Status.MOVED, Status.CLEAN]


def test_the_pins_files_come_along_for_the_merge(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    # The third patch was made from a file that no version of upstream has: the first patch's result.
    first = edit(BASE[A], 20, "first")
    commits = [upstream.commit({A: first}), upstream.commit({A: edit(first, 22, "third")})]
    folder = patches({f"p{number}": upstream.export(commit) for number, commit in enumerate(commits)})
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    git, _ = elsewhere(tmp_path, BASE | {A: edit(edit(BASE[A], 17, "nearby"), 25, "nearby")})
    stack = check(load_upstream(folder), load_series(folder), str(git.folder))
    assert [outcome.status for outcome in stack.applied.outcomes] == [Status.THREE_WAY, Status.THREE_WAY]


def test_a_blobless_clone_is_completed_or_refused(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    upstream.commit({A: "new\n" + BASE[A]}, "later")
    upstream.git.run("config", "uploadpack.allowFilter", "true")
    upstream.git.run("config", "uploadpack.allowAnySHA1InWant", "true")
    place = tmp_path / "blobless"
    command = [
        "git",
        "clone",
        "--quiet",
        "--filter=blob:none",
        "--no-checkout",
        f"file://{upstream.folder}",
        str(place),
    ]
    subprocess.run(command, check=True, capture_output=True)
    known = load_upstream(folder)
    away = upstream.folder.rename(tmp_path / "away")
    text = (folder / "upstream.yaml").read_text().replace(str(upstream.folder), str(away))
    (folder / "upstream.yaml").write_text(text)
    with pytest.raises(CheckFailed, match=r"clone without all its files .*git fetch --refetch --no-filter"):
        check(load_upstream(folder), load_series(folder), str(place))
    away.rename(upstream.folder)
    assert check(known, load_series(folder), str(place)).applied.complete


def test_a_path_that_is_nothing_is_bad_input(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    with pytest.raises(BadInput, match=r"\./nowhere: no such folder or bundle"):
        check(load_upstream(folder), load_series(folder), "./nowhere")


BODY = "    begin();\n    a = load();\n    check(a);\n    b = step(a);\n    keep(b);\n    done();\n    end();\n}\n"
TWINS = "".join(
    f"void {name}() {{\n" + "".join(f"    // {name} {n}\n" for n in range(6)) + BODY for name in "uvw"
)
STEP, OURS = "    b = step(a);\n", "    b = ours(a);\n"


def twins(**changed: str) -> str:
    """The file of look-alikes with the body of some of its functions replaced."""
    parts = TWINS.split(BODY)
    return "".join(part + changed.get(name, BODY) for part, name in zip(parts, "uvw", strict=False))


@pytest.fixture
def twin_patch(upstream: Upstream, patches: Write) -> Path:
    """A patch for function `v` of a file whose functions all look alike; upstream is back at the file without it."""
    start = upstream.commit({A: twins()}, "look-alikes")
    change = upstream.commit({A: twins(v=BODY.replace(STEP, OURS))}, "ours")
    upstream.git.run("reset", "--quiet", "--hard", start)
    return patches({"first": upstream.export(change)})


def test_what_upstream_took_is_not_applied_to_a_look_alike(upstream: Upstream, twin_patch: Path) -> None:
    # git would put the hunk into `w`, whose lines are the same.
    taken = upstream.commit({A: "// new\n" + twins(v=BODY.replace(STEP, OURS))})
    assert statuses(upstream, twin_patch, taken) == [Status.UPSTREAM]


def test_what_upstream_rewrote_is_not_applied_to_a_look_alike(upstream: Upstream, twin_patch: Path) -> None:
    base = upstream.commit({A: twins(v=BODY.replace(STEP, "    b = other(a);\n"))})
    outcome = applied(upstream, twin_patch, base).outcomes[0]
    assert outcome.status is Status.CONFLICT
    assert "its context is found, but upstream changed these lines where they stood" in outcome.detail


def test_a_look_alike_that_has_the_change_does_not_make_it_upstreams(
    upstream: Upstream, twin_patch: Path
) -> None:
    mine = BODY.replace("    keep(b);\n", "    keep(b);\n    more();\n")
    base = upstream.commit({A: twins(v=mine, w=BODY.replace(STEP, OURS))})
    result = applied(upstream, twin_patch, base)
    assert result.outcomes[0].status is Status.THREE_WAY
    written = upstream.git.run("show", f"{result.head}:{A}").stdout.decode()
    assert written == twins(v=mine.replace(STEP, OURS), w=BODY.replace(STEP, OURS))


def test_without_the_preimage_a_look_alike_is_not_guessed_at(
    tmp_path: Path, upstream: Upstream, twin_patch: Path
) -> None:
    git, base = elsewhere(tmp_path, BASE | {A: "// new\n" + twins(v=BODY.replace(STEP, OURS))})
    outcome = apply_series(git, base, load_series(twin_patch).patches).outcomes[0]
    assert outcome.status is Status.MISSING
    assert "can be put in and taken out" in outcome.detail


def test_a_patch_that_moved_without_its_preimage_stays_under_the_next(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit))
    git, base = elsewhere(tmp_path, BASE | {A: "a new first line\n" + BASE[A]})
    result = apply_series(git, base, load_series(folder).patches)
    assert [outcome.status for outcome in result.outcomes] == [Status.MOVED, Status.CLEAN]
    assert git.text("show", f"{result.head}:{A}").splitlines()[20] == "first"
    assert git.text("show", f"{result.head}:{B}").splitlines()[9] == "second"


def one_patch(upstream: Upstream, patches: Write, files: dict[str, str | None]) -> Path:
    """A series of one commit that makes these changes; upstream is back at v1."""
    folder = patches({"first": upstream.export(upstream.commit(files, "ours"))})
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    return folder


@pytest.mark.parametrize("what", ["made", "removed", "renamed", "removed and edited"])
def test_what_upstream_did_to_the_byte_is_taken(
    upstream: Upstream, edit: Edit, patches: Write, what: str
) -> None:
    changes: dict[str, dict[str, str | None]] = {
        "made": {"src/n.txt": "new\n"},
        "removed": {B: None},
        "renamed": {A: None, "src/z.txt": BASE[A]},
        "removed and edited": {B: None, A: edit(BASE[A], 20, "first")},
    }
    folder = one_patch(upstream, patches, changes[what])
    upstream.commit({**changes[what], "src/more.txt": "more\n"})
    assert statuses(upstream, folder, "HEAD") == [Status.UPSTREAM]


def test_files_that_upstream_took_do_not_stand_in_the_way_of_the_others(
    upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = one_patch(upstream, patches, {B: None, A: edit(BASE[A], 20, "first")})
    upstream.commit({B: None})
    outcome = applied(upstream, folder, "HEAD").outcomes[0]
    assert (outcome.status, outcome.detail) == (
        Status.THREE_WAY,
        "upstream already has 1 of 2 files: refresh the file",
    )
    upstream.commit({A: edit(BASE[A], 20, "upstream's own")})
    outcome = applied(upstream, folder, "HEAD").outcomes[0]
    assert (outcome.status, [file.path for file in outcome.failed]) == (Status.CONFLICT, [A])


def test_a_look_alike_in_one_file_is_not_guessed_at_because_of_another(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    start = upstream.commit({A: twins()}, "look-alikes")
    files = {A: twins(v=BODY.replace(STEP, OURS)), B: edit(BASE[B], 10, "second")}
    folder = patches({"first": upstream.export(upstream.commit(dict(files), "ours"))})
    upstream.git.run("reset", "--quiet", "--hard", start)
    git, base = elsewhere(tmp_path, BASE | {A: "// new\n" + files[A]})
    outcome = apply_series(git, base, load_series(folder).patches).outcomes[0]
    assert outcome.status is Status.MISSING
    assert [file.path for file in outcome.failed] == [A]


def test_a_file_that_could_be_merged_and_conflicts_is_a_conflict_whatever_another_lacks(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = one_patch(upstream, patches, {A: edit(BASE[A], 20, "first"), B: edit(BASE[B], 10, "second")})
    other = Upstream(tmp_path / "elsewhere")
    other.commit({A: edit(BASE[A], 2, "x"), B: BASE[B]})
    other.commit({B: edit(BASE[B], 10, "theirs")})
    outcome = apply_series(
        other.git, other.git.text("rev-parse", "HEAD"), load_series(folder).patches
    ).outcomes[0]
    assert (outcome.status, [file.path for file in outcome.failed]) == (Status.CONFLICT, [B])


def test_a_check_says_the_same_again_and_leaves_no_file_in_the_repository(
    home: Path, upstream: Upstream, patches: Write
) -> None:
    # git writes a file that a three-way merge makes into the folder it runs in, even with --cached.
    folder = one_patch(upstream, patches, {"src/n.txt": "ours\n"})
    upstream.commit({"src/n.txt": "theirs\n"})
    for _ in range(2):
        stack = check(load_upstream(folder), load_series(folder), "master")
        assert [outcome.status for outcome in stack.applied.outcomes] == [Status.CONFLICT]
    assert not list(home.rglob("n.txt"))


def test_a_conflict_in_a_renamed_file_names_its_hunk(upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = one_patch(upstream, patches, {A: None, "src/z.txt": edit(BASE[A], 20, "first")})
    upstream.commit({A: edit(BASE[A], 20, "x")})
    outcome = applied(upstream, folder, "HEAD").outcomes[0]
    assert outcome.detail == "src/z.txt: hunk @@ -17,7 +17,7 @@"
