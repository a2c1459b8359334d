"""One patch file, read and checked before git sees it.

git trusts a hunk's header: one that counts fewer lines than its body has passes `git apply --check`, and
what is then written is a truncated file (seen with git 2.39). So the counts are checked here, and with them
everything a patch may not do: leave the tree, carry a binary, make a symbolic link, or change nothing.

`parse_patch` refuses at the first problem; `scan_patch` reads on and returns them all, for the audit.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llamacpp_tools.errors import BadInput

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$")
_DIFF = re.compile(rb"^diff --git a/(.+) b/(.+)$")
_MOVE = re.compile(rb"^(?:rename|copy) (?:from|to) (.+)$")
_MODE = re.compile(rb"^(?:(?:new file|deleted file|old|new) mode|index \S+) (120000|160000)$")
_INDEX = re.compile(rb"^index ([0-9a-f]{40})\.\.([0-9a-f]{40})(?: ([0-7]{6}))?$")
_CHANGE_WITHOUT_HUNK = (b"new file mode", b"deleted file mode", b"old mode", b"rename from", b"copy from")


class Trap(enum.StrEnum):
    """What a patch file may not do."""

    COUNT = "hunk-count"
    BINARY = "binary"
    SYMLINK = "symlink"
    PATH = "path"
    CRLF = "crlf"
    EMPTY = "empty"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a patch file; `line` is 1-based, 0 for the file as a whole."""

    trap: Trap
    line: int
    text: str


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
class Section:
    """What a patch does to one file.

    Attributes:
        old, new: its path before and after; None where the patch makes or removes it.
        old_blob, new_blob: full hashes of its content before and after; empty if the patch does not say.
        new_mode: its mode after; empty if the patch does not say.
        n_hunks: how many hunks change its content.
        raw: the section's bytes, from `diff --git` to the end of its last hunk.
    """

    old: str | None
    new: str | None
    old_blob: str
    new_blob: str
    new_mode: str
    n_hunks: int
    raw: bytes

    @property
    def path(self) -> str:
        """The path that git names the section by: the one after, or the one before where the file goes."""
        return self.new or self.old or ""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that the section touches."""
        return tuple(dict.fromkeys(path for path in (self.old, self.new) if path is not None))


@dataclass(frozen=True)
class PatchFile:
    """A patch: its path as the user gave it, its bytes, the files and hunks it touches, file by file."""

    path: Path
    raw: bytes
    paths: tuple[str, ...]
    hunks: tuple[Hunk, ...]
    sections: tuple[Section, ...]


def read_patch(path: Path) -> PatchFile:
    """Read and check one patch file.

    Raises:
        BadInput: it is missing, or does one of the things a patch may not do (module docstring).
    """
    return parse_patch(path, patch_bytes(path))


def patch_bytes(path: Path) -> bytes:
    """The bytes of a patch file.

    Raises:
        BadInput: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read the patch {path}: {error.strerror}") from error


def parse_patch(path: Path, raw: bytes) -> PatchFile:
    """Check the bytes of a patch; `path` is only used in messages.

    Raises:
        BadInput: see `read_patch`.
    """
    patch, problems = scan_patch(path, raw)
    if problems:
        first = problems[0]
        where = f"{path}, line {first.line}:" if first.line else f"{path}"
        raise BadInput(f"{where} {first.text}")
    return patch


def scan_patch(path: Path, raw: bytes) -> tuple[PatchFile, tuple[Problem, ...]]:
    """Read a patch to its end and return what could be read, and everything that is wrong with it."""
    scan = _Scan(raw)
    scan.read()
    paths, hunks = tuple(dict.fromkeys(scan.paths)), tuple(scan.hunks)
    return PatchFile(path, raw, paths, hunks, tuple(scan.sections)), tuple(scan.problems)


class _Scan:
    """One pass over the lines. `in_header` is true between a `diff --git` line and its first hunk."""

    def __init__(self, raw: bytes) -> None:
        self.lines = raw.split(b"\n")
        self.number = 0
        self.paths: list[str] = []
        self.hunks: list[Hunk] = []
        self.sections: list[Section] = []
        self.problems: list[Problem] = []
        self.in_header = False
        self.changes = True
        self.section_line = 0
        self.header_of_section: list[bytes] = []
        self.hunks_before = 0

    def read(self) -> None:
        """Fill `paths`, `hunks` and `problems`."""
        if any(line.endswith(b"\r") and not line.startswith((b" ", b"+", b"-")) for line in self.lines):
            # Nothing below would be recognised, so there is nothing more to say of this file.
            self._say(Trap.CRLF, "lines end in CR LF: convert the file back to LF, or refresh it", 1)
            return
        while self.number < len(self.lines):
            line = self.lines[self.number]
            if line.startswith(b"diff --git "):
                self._section(line)
            elif self.paths and self.in_header:
                self._header(line)
            elif self.paths and self._after_hunk(line):
                break
            self.number += 1
        self._end_section()
        if not self.paths and not self.problems:
            self._say(Trap.EMPTY, "changes no file: remove it from the series, or export it again", 0)

    def _say(self, trap: Trap, text: str, line: int | None = None) -> None:
        self.problems.append(Problem(trap, self.number + 1 if line is None else line, text))

    def _section(self, line: bytes) -> None:
        self._end_section()
        self.in_header, self.changes, self.section_line = True, False, self.number + 1
        found = _DIFF.match(line)
        if found is None:
            self._say(Trap.PATH, f"the paths of {_text(line)} are quoted or not plain")
            self.paths.append(_text(line.removeprefix(b"diff --git ")))
            return
        for name in dict.fromkeys(found.groups()):
            self._path(name)
        self.header_of_section = [line]

    def _end_section(self) -> None:
        if self.header_of_section:
            raw = b"".join(line + b"\n" for line in self.lines[self.section_line - 1 : self.number])
            n_hunks = len(self.hunks) - self.hunks_before
            self.sections.append(_section(self.header_of_section, n_hunks, raw))
            self.header_of_section = []
        self.hunks_before = len(self.hunks)
        if not self.changes:
            self._say(Trap.EMPTY, f"the section of {self.paths[-1]} changes nothing", self.section_line)

    def _path(self, raw: bytes) -> None:
        name = _text(raw)
        parts = PurePosixPath(name).parts
        if name.startswith(("/", '"')) or ".." in parts or ".git" in parts or "\\" in name:
            self._say(Trap.PATH, f"the path {name} leads out of the tree or is not plain")
        self.paths.append(name)

    def _header(self, line: bytes) -> None:
        if self.header_of_section:
            self.header_of_section.append(line)
        if line.startswith((b"GIT binary patch", b"Binary files ")):
            self._say(Trap.BINARY, "a binary change; a series carries text only")
            self.changes = True
        elif found := _MODE.match(line):
            what = "a symbolic link" if found[1] == b"120000" else "a submodule"
            self._say(Trap.SYMLINK, f"{what}; a series may not make or change one")
            self.changes = True
        elif found := _MOVE.match(line):
            target = self.paths[-1]
            self._path(found[1])
            # A hunk belongs to the name after the move, which the `diff --git` line gave last.
            self.paths.append(target)
            self.changes = True
        elif line.startswith(_CHANGE_WITHOUT_HUNK):
            self.changes = True
        elif found := _HUNK.match(line):
            self.in_header = False
            self._hunk(found)
        elif line.startswith(b"@@"):
            self._say(Trap.COUNT, f"{_text(line)} is no header of a hunk: export the patch again")
            self.changes = True

    def _after_hunk(self, line: bytes) -> bool:
        """Read a line that follows a hunk; True if the rest of the file is the mail's signature."""
        if found := _HUNK.match(line):
            self._hunk(found)
        elif line == b"-- " and sum(1 for rest in self.lines[self.number + 1 :] if rest.strip()) <= 1:
            return True
        elif line.startswith((b"GIT binary patch", b"Binary files ")):
            self._say(Trap.BINARY, "a binary change; a series carries text only")
        elif line.strip() and self.hunks:
            last = self.hunks[-1]
            self._say(
                Trap.COUNT,
                f"the hunk {last} of {last.path} has more lines than its header counts; git would apply a"
                " truncated change",
            )
            self._skip_to_next()
        return False

    def _skip_to_next(self) -> None:
        """One problem for a hunk that goes on too long, not one for each of its lines."""
        while self.number + 1 < len(self.lines):
            following = self.lines[self.number + 1]
            if following.startswith(b"diff --git ") or _HUNK.match(following):
                return
            self.number += 1

    def _hunk(self, found: re.Match[bytes]) -> None:
        old_start, old_lines, new_start, new_lines, section = found.groups()
        hunk = Hunk(
            self.paths[-1],
            int(old_start),
            1 if old_lines is None else int(old_lines),
            int(new_start),
            1 if new_lines is None else int(new_lines),
            _text(section).strip(),
        )
        self.hunks.append(hunk)
        self.changes = True
        header = self.number
        body = self._body(hunk)
        if not any(line.startswith((b"+", b"-")) for line in body) and hunk.old_lines == hunk.new_lines:
            self._say(Trap.EMPTY, f"the hunk {hunk} of {hunk.path} changes nothing", header + 1)
        gains = any(line.startswith(b"+") and line.endswith(b"\r") for line in body)
        if gains and not any(line.startswith((b" ", b"-")) and line.endswith(b"\r") for line in body):
            self._say(Trap.CRLF, f"the hunk {hunk} adds CR LF to {hunk.path}, which has LF there", header + 1)

    def _body(self, hunk: Hunk) -> list[bytes]:
        """The hunk's body, which must hold exactly what its header counts; `number` is left on its last line."""
        old = new = 0
        header = self.number
        at = header + 1
        while (old < hunk.old_lines or new < hunk.new_lines) and at < len(self.lines):
            kind = self.lines[at][:1]
            # An empty line is a context line whose one blank some mailer took.
            if kind in (b" ", b"") and at < len(self.lines) - 1:
                old, new = old + 1, new + 1
            elif kind == b"-":
                old += 1
            elif kind == b"+":
                new += 1
            elif kind != b"\\":
                break
            at += 1
        if (old, new) != (hunk.old_lines, hunk.new_lines):
            self._say(
                Trap.COUNT,
                f"the hunk {hunk} of {hunk.path} counts {hunk.old_lines} old and {hunk.new_lines} new lines,"
                f" its body has {old} and {new}",
                header + 1,
            )
        if at < len(self.lines) and self.lines[at][:1] == b"\\":
            at += 1
        self.number = at - 1
        return self.lines[header + 1 : at]


def _section(header: list[bytes], n_hunks: int, raw: bytes) -> Section:
    """Read the lines between a `diff --git` line, with it, and the first hunk."""
    found = _DIFF.match(header[0])
    assert found is not None
    old: str | None = _text(found[1])
    new: str | None = _text(found[2])
    old_blob = new_blob = new_mode = ""
    for line in header[1:]:
        if line.startswith(b"new file mode "):
            old, new_mode = None, _text(line[-6:])
        elif line.startswith(b"deleted file mode "):
            new = None
        elif line.startswith(b"new mode "):
            new_mode = _text(line[-6:])
        elif line.startswith((b"copy from ", b"copy to ")):
            # The file that is copied stays: only the copy is touched.
            old = None
        elif index := _INDEX.match(line):
            old_blob, new_blob = _text(index[1]), _text(index[2])
            new_mode = _text(index[3]) if index[3] else new_mode
    return Section(old, new, old_blob, new_blob, new_mode, n_hunks, raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
