"""Edits of `series.yaml` as text: an entry in, an entry out, one line changed; every other byte stays.

The file is written by people and its comments matter. PyYAML says on which line each part begins, which is all
that these edits need, so no second YAML library is carried for them. After each edit the text is read again: a
layout that the edit did not understand is refused, and nothing is written.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable

import pydantic
import yaml

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.series import Dropped, Entry, SeriesFile

FILL_IN = "FILL IN"

_PLAIN = re.compile(r"^[A-Za-z0-9_.][A-Za-z0-9_./+-]*$")
_WIDTH = 106


def parse_series(text: str) -> SeriesFile:
    """The meaning of a text.

    Raises:
        BadInput: it is not a `series.yaml`.
    """
    try:
        return SeriesFile.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, pydantic.ValidationError) as error:
        raise BadInput(f"series.yaml is not of the expected form: {' '.join(str(error).split())}") from error


def set_value(text: str, key: str, value: str) -> str:
    """Set one of the values above `patches` (head, reaches, upstream), in its place or before `patches`.

    Raises:
        BadInput: the layout of the file is not one that this can edit.
    """

    def edited(lines: list[str]) -> None:
        line = f"{key}: {_scalar(value)}\n"
        at = _top(text).get(key)
        if at is not None:
            comment = re.search(r"\s+#.*$", lines[at].rstrip("\n"))
            lines[at] = line if comment is None else f"{line.rstrip()}{comment[0]}\n"
            return
        first = _top(text)["patches"]
        while first and _is_aside(lines[first - 1], 0):
            first -= 1
        lines.insert(first, line)

    return _edit(text, edited, lambda series: series.model_copy(update={key: value}))


def remove_value(text: str, key: str) -> str:
    """Take one of the optional values above `patches` (head, reaches) out.

    Raises:
        BadInput: the layout of the file is not one that this can edit.
    """

    def edited(lines: list[str]) -> None:
        del lines[_top(text)[key]]

    return _edit(text, edited, lambda series: series.model_copy(update={key: None}))


def insert_entry(text: str, entry: Entry, after: str | None) -> str:
    """Add an entry behind the one named `after`, or as the first.

    Raises:
        BadInput: the layout of the file is not one that this can edit.
    """
    texts = {key: _flat(getattr(entry, key)) for key in ("why", "drop_when", "check")}
    entry = entry.model_copy(update=texts)
    names = [known.name for known in parse_series(text).patches]
    index = 0 if after is None else names.index(after) + 1

    def edited(lines: list[str]) -> None:
        starts, indent = _entries(text, "patches")
        new = _entry_lines(entry, indent)
        if index == 0:
            lines[starts[0] : starts[0]] = [*new, "\n"]
            return
        at = _end_of_entry(lines, starts, index - 1, indent)
        lines[at:at] = ["\n", *new]

    def expected(series: SeriesFile) -> SeriesFile:
        patches = [*series.patches[:index], entry, *series.patches[index:]]
        return series.model_copy(update={"patches": tuple(patches)})

    return _edit(text, edited, expected)


def drop_entry(text: str, name: str, reason: str, upstream: str) -> str:
    """Take an entry out, with the comment right above it, and write down why in `dropped`.

    Raises:
        BadInput: the layout of the file is not one that this can edit, or it is the only entry.
    """
    series = parse_series(text)
    names = [known.name for known in series.patches]
    if len(names) == 1:
        raise BadInput(f"{name} is the only patch: a series needs one, so build with --variant stock instead")
    index = names.index(name)
    gone = Dropped(name=name, file=series.patches[index].file, reason=_flat(reason), upstream=upstream)

    def edited(lines: list[str]) -> None:
        known = _top(text).get("dropped")
        if known is None:
            lines += ["" if lines[-1].endswith("\n") else "\n", "\n", "dropped:\n", *_dropped_lines(gone, 2)]
        else:
            starts, indent = _entries(text, "dropped")
            at = _end_of_entry(lines, starts, len(starts) - 1, indent)
            lines[at:at] = _dropped_lines(gone, indent)
        starts, indent = _entries(text, "patches")
        first, last = starts[index], _end_of_entry(lines, starts, index, indent)
        while lines[first - 1].lstrip().startswith("#") and _is_aside(lines[first - 1], indent):
            first -= 1
        if index == len(starts) - 1:
            while not lines[first - 1].strip():
                first -= 1
        elif not lines[last].strip():
            last += 1
        del lines[first:last]

    def expected(series: SeriesFile) -> SeriesFile:
        kept = tuple(entry for entry in series.patches if entry.name != name)
        return series.model_copy(update={"patches": kept, "dropped": (*series.dropped, gone)})

    return _edit(text, edited, expected)


def _edit(
    text: str, edited: Callable[[list[str]], None], expected: Callable[[SeriesFile], SeriesFile]
) -> str:
    before = parse_series(text)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    try:
        edited(lines)
        made = "".join(lines)
        understood = parse_series(made) == expected(before)
    except (BadInput, LookupError) as error:
        raise BadInput(f"series.yaml has a layout that llt cannot edit: {error}") from error
    if not understood:
        raise BadInput(
            "series.yaml has a layout that llt cannot edit: write each entry as `  - file: ...`, a key a line"
        )
    return made


def _top(text: str) -> dict[str, int]:
    """Line (0-based) of each key at the top level."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return {key.value: key.start_mark.line for key, _ in root.value}


def _entries(text: str, key: str) -> tuple[list[int], int]:
    """First line (0-based) of each item of the list under `key`, and how far its dash is indented."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    node = next(value for name, value in root.value if name.value == key)
    if not isinstance(node, yaml.SequenceNode) or node.flow_style:
        raise BadInput(f"`{key}` is not a list with a dash for each entry")
    return [item.start_mark.line for item in node.value], node.start_mark.column


def _end_of_entry(lines: list[str], starts: list[int], index: int, indent: int) -> int:
    """The line behind the last line of an entry; blank lines and comments behind it are not its own."""
    end = starts[index] + 1
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent):
        end += 1
    while _is_aside(lines[end - 1], indent):
        end -= 1
    return end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _is_aside(line: str, indent: int) -> bool:
    """True for a blank line, or a comment that is no part of a longer text (it stands no deeper than the dash)."""
    return not line.strip() or (line.lstrip().startswith("#") and _indent(line) <= indent)


def _entry_lines(entry: Entry, indent: int) -> list[str]:
    values = [("file", entry.file), ("name", entry.name), ("why", entry.why)]
    lines = _mapping(values, indent)
    for key, listed in (("upstream", entry.upstream), ("paths", entry.paths)):
        block = [
            f"{' ' * indent}  {key}:\n",
            *(f"{' ' * indent}    - {_scalar(value)}\n" for value in listed),
        ]
        if key == "paths":
            lines += _mapping([("drop_when", entry.drop_when)], indent, first=False)
        lines += block if listed else []
    return lines + _mapping([("check", entry.check)], indent, first=False)


def _dropped_lines(gone: Dropped, indent: int) -> list[str]:
    values = [("name", gone.name), ("file", gone.file), ("reason", gone.reason), ("upstream", gone.upstream)]
    return _mapping(values, indent)


def _mapping(values: list[tuple[str, str]], indent: int, *, first: bool = True) -> list[str]:
    lines = []
    for number, (key, value) in enumerate(values):
        lead = " " * indent + ("- " if first and number == 0 else "  ")
        lines += _value(f"{lead}{key}:", value, indent + 4)
    return lines


def _value(lead: str, value: str, indent: int) -> list[str]:
    """`KEY: value` on one line, or folded over several if it is long."""
    scalar = _scalar(value)
    if len(lead) + 1 + len(scalar) <= _WIDTH and not (scalar.startswith('"') and " " in value):
        return [f"{lead} {scalar}\n"]
    wrapped = textwrap.wrap(value, _WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    return [f"{lead} >-\n", *(f"{' ' * indent}{line}\n" for line in wrapped)]


def _flat(value: str) -> str:
    """One paragraph with single blanks, which a folded text reads back as."""
    return " ".join(value.split())


def _scalar(value: str) -> str:
    """A string as YAML on one line: as it is where that reads back as the same string, else quoted."""
    if _PLAIN.match(value) and yaml.safe_load(value) == value:
        return value
    try:
        # A sentence may stand unquoted if nothing in it has a meaning in YAML, also behind `key: `.
        if yaml.safe_load(f"k: {value}") == {"k": value}:
            return value
    except yaml.YAMLError:
        pass
    return json.dumps(value, ensure_ascii=False)
