from __future__ import annotations

from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.series import Entry, load_series, undeclared, upstream_folder
from llamacpp_tools.stack.seriesedit import FILL_IN, drop_entry, insert_entry, parse_series, set_value
from tests.conftest import PATCHES

from .conftest import Upstream
from .test_apply import Edit, Write, two_patches

TEXT = (PATCHES / "series.yaml").read_text(encoding="utf-8")
NEW = Entry(
    file="0009-new.patch",
    name="new",
    why="# Not a comment: a text  of\n\ntwo paragraphs, " + "long " * 40,
    upstream=("#1 says so", "no: not there"),
    drop_when="never",
    paths=("src/*", "a b/c", "on"),
    check=f"{FILL_IN}: what",
)


def test_each_entry_says_why_it_is_there_and_when_it_goes() -> None:
    series = load_series(PATCHES)
    assert len(series.patches) >= 3
    assert series.head is not None
    assert series.reaches is not None
    for patch in series.patches:
        texts = (patch.entry.why, patch.entry.drop_when, patch.entry.check, *patch.entry.upstream)
        assert patch.entry.upstream
        assert all(text.strip() and FILL_IN not in text for text in texts), patch.name
        assert undeclared(patch.entry, patch.file.paths) == []


@pytest.mark.parametrize("after", [None, "amx-tile-config", "bench-dynsparse-swa"])
def test_an_entry_put_in_adds_lines_and_changes_none(after: str | None) -> None:
    made = insert_entry(TEXT, NEW, after)
    names = [entry.name for entry in parse_series(made).patches]
    assert names.index("new") == (0 if after is None else names.index(after) + 1)
    entry = next(entry for entry in parse_series(made).patches if entry.name == "new")
    assert entry.paths == NEW.paths
    assert entry.why == " ".join(NEW.why.split())
    start = made.index("  - file: 0009-new.patch")
    assert made[:start].rstrip() == TEXT[:start].rstrip()
    left = made.splitlines()
    for line in TEXT.splitlines():
        assert line in left
        left.remove(line)
    assert any("drop_when: never" in line for line in left)


def test_an_entry_put_in_and_taken_out_leaves_only_the_reason() -> None:
    made = drop_entry(insert_entry(TEXT, NEW, "mtp-iswa"), "new", "upstream: #7 took it", "v0.5.0")
    assert made.startswith(TEXT)
    gone = parse_series(made).dropped
    assert [(each.name, each.file, each.reason, each.upstream) for each in gone] == [
        ("new", "0009-new.patch", "upstream: #7 took it", "v0.5.0")
    ]


def test_the_last_entry_taken_out_leaves_one_blank_line() -> None:
    last = parse_series(TEXT).patches[-1]
    made = drop_entry(TEXT, last.name, "why", "v0.5.0")
    assert "\n\n\n" not in made
    before = TEXT[: TEXT.index(f"  - file: {last.file}")]
    assert made == (
        f"{before}dropped:\n  - name: {last.name}\n"
        f"    file: {last.file}\n    reason: why\n    upstream: v0.5.0\n"
    )


def test_a_second_drop_is_added_to_the_first_and_comments_stay() -> None:
    text = TEXT.replace("  - file: 0003", "  # about the third\n  - file: 0003")
    text = text.replace("  - file: 0004", "  # about the fourth\n  - file: 0004")
    made = drop_entry(drop_entry(text, "mtp-iswa", "one", "b9842"), "amx-tile-config", "two", "v0.5.0")
    series = parse_series(made)
    kept = [entry.name for entry in parse_series(TEXT).patches]
    assert [entry.name for entry in series.patches] == [
        name for name in kept if name not in ("mtp-iswa", "amx-tile-config")
    ]
    assert [gone.reason for gone in series.dropped] == ["one", "two"]
    assert "# about the fourth" in made
    assert "# about the third" not in made
    assert made.startswith(TEXT[: TEXT.index("patches:")])


def test_a_value_is_set_in_its_place_with_its_comment() -> None:
    made = set_value(TEXT, "head", "1" * 40)
    assert parse_series(made).head == "1" * 40
    assert len(made.splitlines()) == len(TEXT.splitlines())
    commented = set_value("schema: 1\nupstream: v1 # ours\n\n# the list\n" + _entry("a"), "upstream", "v2")
    assert "upstream: v2 # ours\n" in commented
    fresh = set_value(commented, "head", "a" * 40)
    assert fresh.index("head:") < fresh.index("# the list")


def _entry(name: str) -> str:
    return (
        f"patches:\n- {{file: 0001-{name}.patch, name: {name}, why: w, drop_when: d, paths: [x], check: c}}\n"
    )


def test_a_layout_that_cannot_be_edited_is_refused() -> None:
    entry = "{file: 0001-a.patch, name: a, why: w, drop_when: d, paths: [x], check: c}"
    flow = f"{{schema: 1, upstream: v1, patches: [{entry}]}}"
    with pytest.raises(BadInput, match="cannot edit"):
        insert_entry(flow, NEW, "a")
    with pytest.raises(BadInput, match="only patch"):
        drop_entry("schema: 1\nupstream: v1\n" + _entry("a"), "a", "why", "v1")


def test_a_folder_for_a_later_version_uses_the_file_above(tmp_path: Path) -> None:
    (tmp_path / "upstream.yaml").write_text("schema: 1\n")
    (tmp_path / "v2").mkdir()
    assert upstream_folder(tmp_path) == tmp_path
    assert upstream_folder(tmp_path / "v2") == tmp_path


def test_the_first_mistake_of_a_series_is_refused(upstream: Upstream, edit: Edit, patches: Write) -> None:
    folder = patches(two_patches(upstream, edit))
    (folder / "0009-stray.patch").write_bytes(b"")
    with pytest.raises(BadInput, match=r"0009-stray.patch is not named"):
        load_series(folder)
    (folder / "0009-stray.patch").unlink()
    text = (folder / "series.yaml").read_text()
    (folder / "series.yaml").write_text(text.replace("name: second", "name: first"))
    with pytest.raises(BadInput, match="names first twice"):
        load_series(folder)
    (folder / "series.yaml").write_text(text.replace("'src/*'", "'src/a*'"))
    with pytest.raises(BadInput, match=r"touches src/b.txt, which series.yaml does not declare"):
        load_series(folder)


def test_a_named_command_can_be_pasted(
    tmp_path: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    folder = patches(two_patches(upstream, edit)).rename(tmp_path / "my patches")
    series = load_series(folder).leave_out(("second",))
    assert (
        series.command("rebase", "master")
        == f"`llt rebase --onto master --patches '{folder}' --without second`"
    )
    assert series.refresh_command("v1", "v1") == f"`llt patches refresh --patches '{folder}'`"
    assert series.refresh_command("v1", "master", "--drop first") == (
        f"`llt patches refresh --drop first --onto master --out '{folder / 'master'}' --patches '{folder}'`"
    )
