from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamacpp_tools.stack.apply import apply_series
from llamacpp_tools.stack.drift import Drift, drift, groups, status_grid
from llamacpp_tools.stack.history import Kind, Step
from llamacpp_tools.stack.patchfile import parse_patch
from llamacpp_tools.stack.series import Entry, Patch, load_series
from llamacpp_tools.stack.source import repository
from llamacpp_tools.stack.status import Status
from llamacpp_tools.stack.upstream import load_upstream

from .conftest import BASE, Upstream
from .test_apply import Edit, Write, two_patches
from .test_history import squash, with_versions


@pytest.fixture
def folder(upstream: Upstream, edit: Edit, patches: Write) -> Path:
    return patches(two_patches(upstream, edit))


def followed(folder: Path, to: str = "master") -> Drift:
    return drift(load_upstream(folder), load_series(folder), to)


def test_a_break_that_upstream_reverts_is_said_with_its_end(
    home: Path, upstream: Upstream, edit: Edit, folder: Path
) -> None:
    upstream.commit({"src/c.txt": "c\n"})
    breaks = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "upstream's own")}, "break a")
    upstream.commit({"src/c.txt": "cc\n"})
    heals = upstream.commit({"src/a.txt": BASE["src/a.txt"]}, "revert break a")
    last = upstream.commit({"src/c.txt": "ccc\n"})
    report = followed(folder)
    first, second = report.patches
    assert first.first_break is not None
    assert (first.first_break.step.commit, first.first_break.status) == (breaks, Status.CONFLICT)
    assert first.first_break.before == report.steps[1]
    assert "src/a.txt: hunk @@ -17,7 +17,7 @@" in first.first_break.detail
    assert first.heals_at is not None and first.heals_at.commit == heals
    assert [(span.status, span.steps) for span in first.spans] == [
        (Status.CLEAN, 2), (Status.CONFLICT, 2), (Status.CLEAN, 2)
    ]  # fmt: skip
    assert second.first_break is None
    assert report.newest_clean is not None and report.newest_clean.commit == last
    assert report.complete
    assert (report.kind, len(report.steps)) == (Kind.HISTORY, 6)
    # Two states of src/a.txt, one of src/b.txt: src/c.txt is no patch's business.
    assert report.evaluated == 3


def test_a_break_that_stays(home: Path, upstream: Upstream, edit: Edit, folder: Path) -> None:
    good = upstream.commit({"src/c.txt": "c\n"})
    upstream.commit({"src/b.txt": edit(BASE["src/b.txt"], 10, "upstream's own")}, "break b")
    upstream.commit({"src/c.txt": "cc\n"})
    report = followed(folder)
    assert not report.complete
    assert report.newest_clean is not None and report.newest_clean.commit == good
    assert report.patches[1].heals_at is None
    assert report.patches[1].newest_clean == report.newest_clean
    assert report.patches[0].newest_clean == report.steps[-1]


def test_a_renamed_and_a_deleted_file(home: Path, upstream: Upstream, folder: Path) -> None:
    renames = upstream.commit({"src/a.txt": None, "src/z.txt": BASE["src/a.txt"]}, "rename")
    deletes = upstream.commit({"src/b.txt": None}, "delete")
    first, second = followed(folder).patches
    assert first.first_break is not None and second.first_break is not None
    assert first.first_break.step.commit == renames
    assert "upstream renamed src/a.txt to src/z.txt" in first.first_break.detail
    assert second.first_break.step.commit == deletes
    assert "renamed" not in second.first_break.detail


def test_what_upstream_takes_in_between_is_no_conflict(
    home: Path, upstream: Upstream, edit: Edit, folder: Path
) -> None:
    takes = upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 20, "first")}, "take the first")
    report = followed(folder)
    broken = report.patches[0].first_break
    assert broken is not None
    assert (broken.step.commit, broken.status) == (takes, Status.UPSTREAM)
    assert not report.complete


def test_heat_names_the_functions_of_the_patch_even_while_it_applies(
    home: Path, upstream: Upstream, patches: Write
) -> None:
    def text(one: str, two: str) -> str:
        fill = "".join(f"    step({number});\n" for number in range(8))
        return (
            "#include <a.h>\n\n"
            f"static int one(int a) {{\n{one}{fill}    return a;\n}}\n\n"
            f"int two(\n    int b) {{\n{fill}{two}    return b;\n}}\n"
        )

    upstream.commit({"src/f.cpp": text("", "")}, "a source")
    upstream.git.run("tag", "--force", "v1")
    made = upstream.commit({"src/f.cpp": text("", "    patched();\n")}, "patch two")
    folder = patches({"two": upstream.export(made)})
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    upstream.commit({"src/f.cpp": text("    other();\n", "")}, "touch one")
    source = text("    other();\n", "").replace("int two(\n    int b)", "long two(\n    long b)")
    upstream.commit({"src/f.cpp": source}, "touch two")
    upstream.commit({"src/g.cpp": "x\n"}, "elsewhere")
    (patch,) = followed(folder).patches
    assert [(touch.step.subject, touch.files, touch.functions) for touch in patch.heat] == [
        ("touch one", ("src/f.cpp",), ()),
        ("touch two", ("src/f.cpp",), ("two",)),
    ]
    assert patch.status.applies


def test_snapshots_in_order_with_squashed_commits(
    home: Path, tmp_path: Path, upstream: Upstream, edit: Edit, folder: Path
) -> None:
    upstream.commit({"src/a.txt": edit(BASE["src/a.txt"], 17, "nearby")})
    upstream.git.run("tag", "v2")
    upstream.commit({"src/b.txt": edit(BASE["src/b.txt"], 10, "upstream's own")})
    upstream.git.run("tag", "v3")
    with_versions(folder, upstream, ["v2", "v3"], str(tmp_path / "nowhere"))
    squash(upstream, repository(), ["v1", "v2", "v3"])
    report = drift(load_upstream(folder), load_series(folder))
    assert report.kind is Kind.SNAPSHOTS
    assert report.grid == [
        (Status.CLEAN, Status.CLEAN),
        (Status.THREE_WAY, Status.CLEAN),
        (Status.THREE_WAY, Status.CONFLICT),
    ]
    assert report.newest_clean is not None and report.newest_clean.label == "v2"
    assert [touch.step.label for touch in report.patches[0].heat] == ["v2"]
    assert [touch.step.label for touch in report.patches[1].heat] == ["v3"]


def patch_of(upstream: Upstream, name: str, files: dict[str, str | None]) -> Patch:
    raw = upstream.export(upstream.commit(files, name))
    entry = Entry(file=f"0001-{name}.patch", name=name, why="-", drop_when="-", paths=("*",), check="-")
    return Patch(entry, parse_patch(Path(f"{name}.patch"), raw))


def test_patches_that_share_a_path_are_one_group(upstream: Upstream) -> None:
    made = [
        patch_of(upstream, "one", {"x/one": "1\n"}),
        patch_of(upstream, "two", {"two": "2\n"}),
        patch_of(upstream, "three", {"x/one": "3\n", "y": "3\n"}),
        patch_of(upstream, "four", {"y": None, "x/one": None}),
    ]
    (upstream.folder / "x").rmdir()
    made.append(patch_of(upstream, "five", {"x": "a file where others want a folder\n"}))
    assert groups(made) == [(0, 2, 3, 4), (1,)]


LINES = 16
FILES = ("a", "b")
Move = tuple[str, int, str]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["line", "line", "insert", "delete", "restore", "patched", "other", "folder"]),
        st.integers(0, 2 * LINES - 1),
        st.sampled_from(["p", "q"]),
    ),
    min_size=1,
    max_size=9,
)


def base(name: str) -> list[str]:
    return [f"{name} {number}" for number in range(LINES)]


def joined(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def play(upstream: Upstream, moves: list[Move]) -> None:
    """Random upstream commits: lines changed, added, files removed, restored, patched, blocked by a file."""
    for kind, number, word in moves:
        name, line = FILES[number // LINES], number % LINES
        path = upstream.folder / name
        lines = path.read_text().splitlines() if path.is_file() else base(name)
        if kind == "line" and line < len(lines):
            lines[line] = word
        elif kind == "insert":
            lines.insert(line, word)
        elif kind == "restore":
            lines = base(name)
        elif kind == "patched":
            lines[7:8] = [f"{name} patched"]
        files: dict[str, str | None] = {name: joined(lines)}
        if kind == "delete" and path.is_file():
            files = {name: None}
        elif kind == "folder":
            files = {"new": None if (upstream.folder / "new").is_file() else "a file\n"}
        elif kind == "other":
            files = {"unrelated": f"{number}{word}\n"}
        for each, text in files.items():
            target = upstream.folder / each
            if text is None:
                target.unlink()
            else:
                target.write_text(text)
        upstream.git.run("add", "--all")
        upstream.git.run("commit", "--quiet", "--allow-empty", "--message", kind)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(moves=MOVES)
def test_equal_blobs_give_what_a_straight_apply_gives_at_every_commit(moves: list[Move]) -> None:
    with tempfile.TemporaryDirectory() as name:
        upstream = Upstream(Path(name) / "upstream")
        pin = upstream.commit({each: joined(base(each)) for each in FILES}, "base")
        one, two, three = base("a"), base("b"), base("a")
        one[7] = "a patched"
        two[7] = "b patched"
        three[7], three[12] = "a patched", "again"
        made = (
            patch_of(upstream, "one", {"a": joined(one)}),
            patch_of(upstream, "two", {"b": joined(two), "new/file": "new\n"}),
            patch_of(upstream, "three", {"a": joined(three)}),
        )
        upstream.git.run("reset", "--quiet", "--hard", pin)
        play(upstream, moves)
        commits = upstream.git.text("rev-list", "--reverse", "HEAD").splitlines()
        steps = [Step(each[:9], each, upstream.git.tree_of(each), "", "") for each in commits]
        grid, evaluated = status_grid(upstream.git, steps, made)
        straight = [
            tuple(outcome.status for outcome in apply_series(upstream.git, step.commit, made).outcomes)
            for step in steps
        ]
        assert grid == straight
        assert evaluated <= 2 * len(steps)
