"""Drift heat: what upstream changes in a patch's files and functions, even while the patch still applies.

A function is what git shows as a hunk's head, read a little closer: it begins at a line that starts in the
first column with a letter, `_` or `$` (labels such as `private:` aside), and ends with the first `}` in the
first column. Both sides count, upstream's and the patch's: the lines that a change takes out are placed in the
old text, those that it puts in in the new one. Names are compared without types and arguments, so a function
whose signature changed is still the same one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llamacpp_tools.stack.apply import Applied
from llamacpp_tools.stack.git import Git
from llamacpp_tools.stack.history import Step
from llamacpp_tools.stack.series import Patch
from llamacpp_tools.stack.treestate import State, blob_of, read_objects, states

TOP = "(top of file)"

_HEAD = re.compile(rb"^[A-Za-z_$]")
_LABEL = re.compile(rb"^(?:[A-Za-z_]\w*\s*:\s*(?:$|/[/*])|template\b)")
_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_PAIR = re.compile(rb"^[0-9a-f]{40,64} [0-9a-f]{40,64}$")
_MAX_NAME = 80


@dataclass(frozen=True)
class Touch:
    """One upstream step that changed files of a patch; `functions` are those the patch changes too."""

    step: Step
    files: tuple[str, ...]
    functions: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """A function's name and its lines, 1-based, both ends included."""

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Range:
    """Changed lines of one hunk without context: first line (1-based) and count, before and after."""

    old_start: int
    old_lines: int
    new_start: int
    new_lines: int


Changed = dict[str, list[Range]]


def heat(
    git: Git, steps: Sequence[Step], patches: Sequence[Patch], at_pin: Applied
) -> list[tuple[Touch, ...]]:
    """For each patch the steps after the first that changed its files, in order.

    Args:
        git: the repository with all trees of `steps` and the commits of `at_pin`.
        steps: upstream, oldest first.
        patches: the series.
        at_pin: the same series applied at the pin: its commits tell which functions a patch changes.
    """
    paths = sorted({path for patch in patches for path in patch.file.paths})
    found = states(git, [step.tree for step in steps], paths)
    moved = [index for index in range(1, len(steps)) if found[index] != found[index - 1]]
    pairs = [(steps[index - 1].tree, steps[index].tree) for index in moved]
    names = _names(git, pairs, paths)
    own = _own_functions(git, patches, at_pin)
    touches: list[tuple[Touch, ...]] = []
    for patch, mine in zip(patches, own, strict=True):
        touched = []
        for index, changed in zip(moved, names, strict=True):
            files = tuple(path for path in patch.file.paths if path in changed)
            if files:
                both = {name for path in files for name in changed[path] if name in mine.get(path, set())}
                touched.append(Touch(steps[index], files, tuple(sorted(both))))
        touches.append(tuple(touched))
    return touches


def functions(text: bytes) -> list[Function]:
    """The functions of a source text, in order (module docstring)."""
    lines = text.split(b"\n")
    heads = [
        number for number, line in enumerate(lines, start=1) if _HEAD.match(line) and not _LABEL.match(line)
    ]
    found = []
    for number, after in zip(heads, [*heads[1:], len(lines) + 1], strict=True):
        line = lines[number - 1]
        if line.rstrip().endswith(b";"):
            last = number
        else:
            closing = (at for at in range(number + 1, after) if lines[at - 1].startswith(b"}"))
            last = next(closing, after - 1)
        found.append(Function(name_of(line), number, last))
    return found


def name_of(head: bytes) -> str:
    """The name in a function's first line, without types, arguments and what opens the body."""
    text = head.decode("utf-8", "replace").strip()
    before = re.split(r"[(={;]|\s:\s", text, maxsplit=1)
    if len(before) > 1 and text[len(before[0]) : len(before[0]) + 1] == "(" and before[0].split():
        return before[0].split()[-1].lstrip("*&")[:_MAX_NAME]
    return before[0].strip()[:_MAX_NAME]


def _own_functions(git: Git, patches: Sequence[Patch], at_pin: Applied) -> list[dict[str, set[str]]]:
    """Per patch and file the names of the functions it changes at the pin; by hunk heads if it fails there."""
    own: list[dict[str, set[str]]] = []
    parent = at_pin.base
    for patch, outcome in zip(patches, at_pin.outcomes, strict=True):
        if outcome.commit is None:
            names: dict[str, set[str]] = {}
            for hunk in patch.file.hunks:
                names.setdefault(hunk.path, set()).add(name_of(hunk.section.encode()) or TOP)
            own.append(names)
            continue
        pair = (git.tree_of(parent), git.tree_of(outcome.commit))
        own.append(_names(git, [pair], patch.file.paths)[0])
        parent = outcome.commit
    return own


def _names(git: Git, pairs: Sequence[tuple[str, str]], paths: Sequence[str]) -> list[dict[str, set[str]]]:
    """For each pair of trees, per changed path, the names of the functions that the change touches."""
    changes = _changes(git, pairs, paths)
    before = states(git, [old for old, _ in pairs], paths)
    after = states(git, [new for _, new in pairs], paths)
    blobs = {blob for state in [*before, *after] for value in state if (blob := blob_of(value)) is not None}
    known = {blob: functions(text) for blob, text in read_objects(git, sorted(blobs)).items()}
    result = []
    for changed, old, new in zip(changes, before, after, strict=True):
        result.append(
            {
                path: _touched(ranges, _of(known, old, paths.index(path)), _of(known, new, paths.index(path)))
                for path, ranges in changed.items()
            }
        )
    return result


def _of(known: dict[str, list[Function]], state: State, index: int) -> list[Function] | None:
    blob = blob_of(state[index])
    return None if blob is None else known.get(blob)


def _touched(ranges: list[Range], old: list[Function] | None, new: list[Function] | None) -> set[str]:
    names: set[str] = set()
    for each in ranges:
        names |= _inside(old, each.old_start, each.old_lines)
        names |= _inside(new, each.new_start, each.new_lines)
    return names


def _inside(known: list[Function] | None, start: int, count: int) -> set[str]:
    """Names of the functions that the lines lie in; a count of 0 is the gap after line `start`."""
    if known is None:
        return set()
    first, last = (start, start + count - 1) if count else (start + 1, start)
    names = {each.name for each in known if each.first <= last and first <= each.last}
    if not known or first <= known[0].first - (0 if count == 0 else 1):
        names.add(TOP)
    return names


def _changes(git: Git, pairs: Sequence[tuple[str, str]], paths: Sequence[str]) -> list[Changed]:
    """The changed lines between the trees of each pair, in one call to git."""
    asked = "".join(f"{old} {new}\n" for old, new in pairs)
    answer = git.run(
        "--literal-pathspecs", "diff-tree", "--stdin", "-r", "-p", "-U0", "--no-renames", "--no-ext-diff",
        "--no-textconv", "--no-color", "--", *paths, stdin=asked.encode(),
    )  # fmt: skip
    headers = {f"diff --git a/{path} b/{path}".encode(): path for path in paths}
    found: dict[bytes, Changed] = {}
    current: Changed = {}
    ranges: list[Range] = []
    for line in answer.stdout.split(b"\n"):
        if _PAIR.match(line):
            current = found.setdefault(line, {})
        elif line in headers:
            ranges = current.setdefault(headers[line], [])
        elif hunk := _HUNK.match(line):
            numbers = [1 if text is None else int(text) for text in hunk.groups()]
            ranges.append(Range(*numbers))
    return [found.get(f"{old} {new}".encode(), {}) for old, new in pairs]
