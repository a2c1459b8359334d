from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.audit import Audit, Finding, Rule, audit
from llamacpp_tools.stack.export import export
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.seriesedit import FILL_IN, set_value
from llamacpp_tools.stack.upstream import load_upstream
from tests.conftest import PATCHES, ROOT

from .conftest import BASE, Upstream
from .test_apply import Edit, Write

Damage = Callable[[bytes], bytes]
FIRST, SECOND = "0001-first.patch", "0002-second.patch"


def audited(folder: Path) -> Audit:
    return audit(load_upstream(folder), folder)


def good_series(upstream: Upstream, edit: Edit, patches: Write) -> Path:
    """Two patches in the stable form; the second touches two files and adds a third."""
    first = upstream.commit(
        {"src/a.txt": edit(BASE["src/a.txt"], 20, "first")}, "first: a line\n\nWhy it is so."
    )
    after = edit(edit(BASE["src/a.txt"], 20, "first"), 35, "second")
    files = {"src/a.txt": after, "src/b.txt": edit(BASE["src/b.txt"], 10, "second"), "src/c.txt": "new\n"}
    second = upstream.commit(files, "second: more lines")
    made = {"first": export(upstream.git, first), "second": export(upstream.git, second)}
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    folder = patches(made)
    head = audited(folder).head
    assert head is not None
    path = folder / "series.yaml"
    path.write_text(set_value(path.read_text(), "head", head))
    return folder


@pytest.fixture
def folder(home: Path, upstream: Upstream, edit: Edit, patches: Write) -> Path:
    return good_series(upstream, edit, patches)


def found(verdict: Audit, rule: Rule, file: str) -> list[Finding]:
    return [each for each in verdict.findings if (each.rule, each.file) == (rule, file)]


def test_a_good_series_has_no_findings(folder: Path) -> None:
    verdict = audited(folder)
    assert verdict.good, verdict.findings
    assert verdict.patches == ("first", "second")
    assert len(str(verdict.head)) == 40


BINARY = b"diff --git a/src/d.bin b/src/d.bin\nnew file mode 100644\nGIT binary patch\nliteral 3\nKcmZQz\n\n"
LINK = (
    b"diff --git a/src/l b/src/l\nnew file mode 120000\nindex " + b"0" * 40 + b".." + b"1" * 40
    + b"\n--- /dev/null\n+++ b/src/l\n@@ -0,0 +1 @@\n+/etc/passwd\n\\ No newline at end of file\n"
)  # fmt: skip
MODULE = LINK.replace(b"120000", b"160000")


@pytest.mark.parametrize(
    ("rule", "damage"),
    [
        (Rule.COUNT, lambda raw: raw.replace(b"@@ -17,7 +17,7 @@", b"@@ -17,6 +17,6 @@")),
        (Rule.COUNT, lambda raw: raw.replace(b"@@ -17,7 +17,7 @@", b"@@ -17,7 +17,9 @@")),
        (Rule.COUNT, lambda raw: raw.replace(b"+first\n", b"+first\n+another\n")),
        (Rule.COUNT, lambda raw: raw + b"--- a/src/b.txt\n+++ b/src/b.txt\n@@ -1 +1 @@\n-b line 1\n+x\n"),
        (Rule.BINARY, lambda raw: raw + BINARY),
        (Rule.SYMLINK, lambda raw: raw + LINK),
        (Rule.SYMLINK, lambda raw: raw + MODULE),
        (Rule.PATH, lambda raw: raw.replace(b"src/a.txt", b"src/../../a.txt")),
        (Rule.PATH, lambda raw: raw.replace(b"src/a.txt", b".git/config")),
        (Rule.PATH, lambda raw: raw.replace(b"a/src/a.txt b/src/a.txt", b'"a/src/a.txt" "b/src/a.txt"')),
        (Rule.UNDECLARED, lambda raw: raw.replace(b"src/a.txt", b"common/a.txt")),
        (Rule.CRLF, lambda raw: raw.replace(b"\n", b"\r\n")),
        (Rule.CRLF, lambda raw: raw.replace(b"+first\n", b"+first\r\n")),
        (Rule.EMPTY, lambda raw: raw.split(b"diff --git")[0]),
        (Rule.EMPTY, lambda raw: b""),
        (Rule.EMPTY, lambda raw: raw.replace(b"-a line 20\n+first\n", b" a line 20\n")),
        (Rule.FORM, lambda raw: raw.replace(b"From " + b"0" * 40, b"From " + b"1" * 40)),
        (Rule.FORM, lambda raw: raw.replace(b"Subject: first", b"Subject: [PATCH 1/2] first")),
        (Rule.FORM, lambda raw: raw.replace(b"From: llt <llt@localhost>\n", b"")),
        (Rule.FORM, lambda raw: raw.replace(b"Date: ", b"Dated: ")),
        (Rule.FORM, lambda raw: raw + b"-- \n2.39.5\n\n"),
        (Rule.FORM, lambda raw: raw.replace(b"\ndiff", b"---\n src/a.txt | 2 +-\n\ndiff", 1)),
        (Rule.FORM, lambda raw: re.sub(rb"index (.{7}).*\.\.(.{7}).* ", rb"index \1..\2 ", raw)),
        (Rule.FORM, lambda raw: b"diff --git" + raw.split(b"diff --git")[1]),
        (Rule.APPLY, lambda raw: raw.replace(b" a line 19\n", b" a line nineteen\n")),
        (Rule.APPLY, lambda raw: raw.replace(b"@@ -17,7 +17,7 @@", b"@@ -16,7 +16,7 @@")),
        (Rule.EXPORT, lambda raw: raw.replace(b"@@ -17,7 +17,7 @@", b"@@ -17,7 +17,7 @@ mine")),
        (Rule.EXPORT, lambda raw: raw.replace(b"Why it is so.", b"Why it is so.\n\n")),
        (Rule.EXPORT, lambda raw: raw.replace(b"+0000", b"-0000")),
        (Rule.HEAD, lambda raw: raw.replace(b"Why it is so.", b"Why it was so.")),
        (Rule.HEAD, lambda raw: raw.replace(b"00:00:00 +0000", b"00:00:01 +0000")),
    ],
)  # fmt: skip
def test_each_damage_to_a_file_is_named(folder: Path, rule: Rule, damage: Damage) -> None:
    path = folder / FIRST
    before = path.read_bytes()
    path.write_bytes(damage(before))
    assert path.read_bytes() != before
    verdict = audited(folder)
    assert not verdict.good
    assert found(verdict, rule, "series.yaml" if rule is Rule.HEAD else FIRST), verdict.findings


@pytest.mark.parametrize(
    ("rule", "file", "old", "new"),
    [
        (Rule.SERIES, "series.yaml", "why: a test, ", ""),
        (Rule.SERIES, "series.yaml", "name: second", "name: first"),
        (Rule.SERIES, "series.yaml", "upstream: v1", "upstream: v7"),
        (Rule.SERIES, "series.yaml", "upstream: v1", "upstream: v1\nreaches: v7"),
        (Rule.SERIES, "series.yaml", "upstream: v1", "upstream: v1\nunknown: 1"),
        (Rule.SERIES, "0003-third.patch", SECOND, "0003-third.patch"),
        (Rule.STRAY, SECOND, SECOND, "0003-third.patch"),
        (Rule.FILL_IN, "series.yaml", "check: none", f"check: '{FILL_IN}: what'"),
        (Rule.FILL_IN, "series.yaml", "why: a test", "why: ''"),
        (Rule.UNDECLARED, SECOND, "'src/*'", "'src/a.txt'"),
        (Rule.HEAD, "series.yaml", "head: ", "head: '" + "0" * 40 + "' # "),
        (Rule.HEAD, "series.yaml", "head: ", "# "),
    ],
)
def test_each_damage_to_the_series_file_is_named(
    folder: Path, rule: Rule, file: str, old: str, new: str
) -> None:
    path = folder / "series.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    verdict = audited(folder)
    assert not verdict.good
    assert found(verdict, rule, file), verdict.findings


def test_all_findings_of_all_patches_are_told_at_once(folder: Path) -> None:
    first, second = (folder / FIRST).read_bytes(), (folder / SECOND).read_bytes()
    (folder / FIRST).write_bytes(first.replace(b"@@ -17,7 +17,7 @@", b"@@ -17,6 +17,6 @@") + LINK)
    (folder / SECOND).write_bytes(second.replace(b"+second\n", b"+second\r\n") + b"-- \n2.39.5\n\n")
    (folder / "0007-stray.patch").write_bytes(b"")
    verdict = audited(folder)
    rules = {(each.rule, each.file) for each in verdict.findings}
    assert {
        (Rule.COUNT, FIRST), (Rule.SYMLINK, FIRST), (Rule.CRLF, SECOND), (Rule.FORM, SECOND),
        (Rule.STRAY, "0007-stray.patch"),
    } <= rules  # fmt: skip
    assert all(each.text and each.file for each in verdict.findings)
    assert verdict.head is None


def test_a_finding_names_the_line(folder: Path) -> None:
    raw = (folder / SECOND).read_bytes()
    header = next(line for line in raw.split(b"\n") if line.startswith(b"@@ -7,7"))
    (folder / SECOND).write_bytes(raw.replace(header, b"@@ -7,7 +7,8 @@"))
    (finding,) = found(audited(folder), Rule.COUNT, SECOND)
    assert raw.split(b"\n")[finding.line - 1] == header
    assert str(finding).startswith(f"{SECOND}:{finding.line}: ")


def test_a_rename_cannot_hide_a_path(folder: Path) -> None:
    raw = (folder / FIRST).read_bytes()
    head = raw.split(b"diff --git")[0]
    moved = b"diff --git a/src/a.txt b/src/d.txt\nsimilarity index 100%\n"
    moved += b"rename from common/a.txt\nrename to src/d.txt\n"
    (folder / FIRST).write_bytes(head + moved)
    assert found(audited(folder), Rule.UNDECLARED, FIRST)
    with pytest.raises(BadInput, match=r"touches common/a.txt"):
        load_series(folder)


def test_what_only_looks_like_damage_is_sound(
    home: Path, upstream: Upstream, edit: Edit, patches: Write
) -> None:
    """A file of upstream's with CR LF stays one; a last line needs no newline."""
    upstream.commit({"src/crlf.txt": "one\r\ntwo\r\nthree\r\n"}, "upstream has CR LF here")
    upstream.git.run("tag", "--force", "v1")
    changed = {"src/crlf.txt": "one\r\n2\r\nthree\r\n", "src/a.txt": BASE["src/a.txt"] + "no newline"}
    made = {"looks-odd": export(upstream.git, upstream.commit(changed, "looks odd"))}
    upstream.git.run("reset", "--quiet", "--hard", "v1")
    verdict = audited(patches(made))
    assert {each.rule for each in verdict.findings} == {Rule.HEAD}, verdict.findings


def test_a_series_file_that_is_not_there_is_bad_input(folder: Path) -> None:
    (folder / "series.yaml").unlink()
    with pytest.raises(BadInput, match=r"series.yaml is missing"):
        audited(folder)


def test_another_machine_user_and_day_give_the_same_head(folder: Path, upstream: Upstream) -> None:
    """Two homes, two users, two sources whose commits differ although their content is the same."""
    recorded = load_series(folder).head
    upstream.git.run(
        "commit", "--quiet", "--amend", "--message", "the same content in another commit",
        env={"GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z", "GIT_AUTHOR_NAME": "Someone"},
    )  # fmt: skip
    upstream.git.run("tag", "--force", "v1")
    strange = {
        "LLT_HOME": str(folder.parent / "another" / "home"), "HOME": str(folder.parent / "another"),
        "USER": "someone", "LOGNAME": "someone", "EMAIL": "someone@example", "TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8",
        "GIT_AUTHOR_NAME": "Someone", "GIT_AUTHOR_EMAIL": "s@example", "GIT_COMMITTER_NAME": "Someone",
        "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z", "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
        "GIT_INDEX_FILE": str(folder / "no-index"), "GIT_DIR": str(folder),
    }  # fmt: skip
    for words in (["patches", "audit"], ["rebase"]):
        done = subprocess.run(
            [sys.executable, "-m", "llamacpp_tools", *words, "--patches", str(folder)],
            env=os.environ | strange | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"series head {recorded}" in done.stdout


@pytest.mark.build
def test_our_own_series_is_sound() -> None:
    verdict = audited(PATCHES)
    assert verdict.good, [str(each) for each in verdict.findings]
