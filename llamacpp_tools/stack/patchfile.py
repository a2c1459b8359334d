"""One patch file, read and checked before git sees it.

git trusts a hunk's header: one that counts fewer lines than its body has passes `git apply --check`, and
what is then written is a truncated file (seen with git 2.39). So the counts are checked here, and with them
everything a patch may not do: leave the tree, carry a binary, make a symbolic link, or change nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llamacpp_tools.errors import BadInput

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$")
_DIFF = re.compile(rb"^diff --git a/(.+) b/(.+)$")
_SYMLINK = re.compile(rb"^(?:new file mode|old mode|new mode|deleted file mode) 120000$|^index .* 120000$")


@dataclass(frozen=True)
class Hunk:
    """One hunk: the file, its first line before and after (1-based), its line counts, its section text."""

    path: str
    old_start: int
    old_lines: int
    new_start: int
    new_lines: int
    section: str

    def __str__(self) -> str:
        where = f"@@ -{self.old_start},{self.old_lines} +{self.new_start},{self.new_lines} @@"
        return f"{where} {self.section}".rstrip()


@dataclass(frozen=True)
class PatchFile:
    """A checked patch: its path as the user gave it, its bytes, the files and hunks it touches."""

    path: Path
    raw: bytes
    paths: tuple[str, ...]
    hunks: tuple[Hunk, ...]


def read_patch(path: Path) -> PatchFile:
    """Read and check one patch file.

    Raises:
        BadInput: it is missing, or does one of the things a patch may not do (module docstring).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the patch {path}: {error.strerror}") from error
    return parse_patch(path, raw)


def parse_patch(path: Path, raw: bytes) -> PatchFile:
    """Check the bytes of a patch; `path` is only used in messages.

    Raises:
        BadInput: see `read_patch`.
    """
    lines = raw.split(b"\n")
    paths: list[str] = []
    hunks: list[Hunk] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        if found := _DIFF.match(line):
            paths += _checked_paths(path, number, found)
        elif line.startswith((b"GIT binary patch", b"Binary files ")):
            raise BadInput(f"{path}, line {number + 1}: a binary change; a series carries text only")
        elif paths and _SYMLINK.match(line):
            raise BadInput(f"{path}, line {number + 1}: a symbolic link; a series may not make or change one")
        elif paths and (found := _HUNK.match(line)):
            hunk = _hunk(paths[-1], found)
            number = _end_of_body(path, lines, number, hunk)
            hunks.append(hunk)
            continue
        elif hunks and line[:1] in (b"+", b"-", b" ") and not line.startswith((b"+++ ", b"--- ", b"-- ")):
            raise BadInput(
                f"{path}, line {number + 1}: the hunk {hunks[-1]} of {hunks[-1].path} has more lines than its"
                " header counts; git would apply a truncated change"
            )
        number += 1
    if not paths:
        raise BadInput(f"{path} changes no file: remove it from the series, or export it again")
    return PatchFile(path, raw, tuple(dict.fromkeys(paths)), tuple(hunks))


def _hunk(path: str, found: re.Match[bytes]) -> Hunk:
    old_start, old_lines, new_start, new_lines, section = found.groups()
    return Hunk(
        path,
        int(old_start),
        1 if old_lines is None else int(old_lines),
        int(new_start),
        1 if new_lines is None else int(new_lines),
        section.decode("utf-8", "replace").strip(),
    )


def _end_of_body(path: Path, lines: list[bytes], header: int, hunk: Hunk) -> int:
    """Index of the first line after the hunk's body; the body must hold exactly what the header counts."""
    old = new = 0
    number = header + 1
    while (old < hunk.old_lines or new < hunk.new_lines) and number < len(lines):
        kind = lines[number][:1]
        # An empty line is a context line whose one blank some mailer took.
        if kind in (b" ", b"") and number < len(lines) - 1:
            old, new = old + 1, new + 1
        elif kind == b"-":
            old += 1
        elif kind == b"+":
            new += 1
        elif kind != b"\\":
            break
        number += 1
    if (old, new) != (hunk.old_lines, hunk.new_lines):
        raise BadInput(
            f"{path}, line {header + 1}: the hunk {hunk} of {hunk.path} counts {hunk.old_lines} old and"
            f" {hunk.new_lines} new lines, its body has {old} and {new}"
        )
    return number + 1 if number < len(lines) and lines[number][:1] == b"\\" else number


def _checked_paths(patch: Path, number: int, found: re.Match[bytes]) -> list[str]:
    names = [name.decode("utf-8", "replace") for name in found.groups()]
    for name in names:
        parts = PurePosixPath(name).parts
        if name.startswith(("/", '"')) or ".." in parts or ".git" in parts or "\\" in name:
            raise BadInput(
                f"{patch}, line {number + 1}: the path {name} leads out of the tree or is not plain"
            )
    return list(dict.fromkeys(names))
