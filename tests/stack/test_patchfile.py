from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.patchfile import parse_patch

HEAD = b"""From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A <a@example>
Date: Mon, 29 Jun 2026 00:00:00 +0000
Subject: a change

Why it is made.

diff --git a/src/a.txt b/src/a.txt
index 1111111..2222222 100644
--- a/src/a.txt
+++ b/src/a.txt
"""
HUNK = b"@@ -1,3 +1,4 @@ section\n one\n-two\n+TWO\n+more\n three\n"


def parse(raw: bytes) -> None:
    parse_patch(Path("0001-x.patch"), raw)


def test_paths_hunks_and_sections_are_read() -> None:
    patch = parse_patch(Path("0001-x.patch"), HEAD + HUNK)
    assert patch.paths == ("src/a.txt",)
    assert [(hunk.old_start, hunk.old_lines, hunk.new_lines, hunk.section) for hunk in patch.hunks] == [
        (1, 3, 4, "section")
    ]


@pytest.mark.parametrize(
    "header", [b"@@ -1,2 +1,3 @@", b"@@ -1,3 +1,3 @@", b"@@ -1,4 +1,4 @@", b"@@ -1,3 +1,9 @@"]
)
def test_a_hunk_that_miscounts_its_body_is_refused(header: bytes) -> None:
    with pytest.raises(BadInput, match=r"hunk .* of src/a.txt"):
        parse(HEAD + HUNK.replace(b"@@ -1,3 +1,4 @@", header))


@given(st.integers(0, 8), st.integers(0, 8))
def test_only_the_true_counts_pass(old: int, new: int) -> None:
    raw = HEAD + HUNK.replace(b"-1,3 +1,4", f"-1,{old} +1,{new}".encode())
    if (old, new) == (3, 4):
        parse(raw)
    else:
        with pytest.raises(BadInput):
            parse(raw)


@pytest.mark.parametrize(
    ("path", "why"),
    [("../out", "leads out"), ("a/../../out", "leads out"), ("/etc/x", "leads out"), (".git/x", "out")],
)
def test_a_path_that_leaves_the_tree_is_refused(path: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse((HEAD + HUNK).replace(b"a/src/a.txt b/src/a.txt", f"a/{path} b/{path}".encode()))


def test_binary_changes_links_and_empty_patches_are_refused() -> None:
    with pytest.raises(BadInput, match="binary"):
        parse(HEAD + b"GIT binary patch\nliteral 3\n")
    with pytest.raises(BadInput, match="symbolic link"):
        parse(HEAD.replace(b"index 1111111..2222222 100644", b"new file mode 120000") + HUNK)
    with pytest.raises(BadInput, match="changes no file"):
        parse(HEAD.split(b"diff --git")[0])


def test_a_missing_newline_at_the_end_is_understood() -> None:
    raw = HEAD + b"@@ -1 +1 @@\n-one\n\\ No newline at end of file\n+two\n\\ No newline at end of file\n"
    assert len(parse_patch(Path("x"), raw).hunks) == 1


def test_a_garbled_hunk_header_is_named_with_its_line() -> None:
    raw = HEAD + HUNK.replace(b"@@ -1,3 +1,4 @@", b"@@ -x +y @@")
    line = raw[: raw.index(b"@@")].count(b"\n") + 1
    with pytest.raises(BadInput, match=rf"line {line}: @@ -x \+y @@ section is no header of a hunk"):
        parse_patch(Path("0001-x.patch"), raw)
