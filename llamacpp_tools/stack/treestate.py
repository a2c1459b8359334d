"""What a tree has at a few paths: the only part of upstream on which the outcome of a patch depends.

Trees are read as objects, level by level, in one `git cat-file --batch` a level, and each distinct tree once,
so thousands of commits cost a handful of git calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.stack.git import Git

State = tuple[str, ...]
ABSENT = "absent"
_FOLDER = "40000"
_Entry = tuple[str, str]
_AT_ONCE = 2000


def states(git: Git, trees: Sequence[str], paths: Sequence[str]) -> list[State]:
    """For each tree hash, what lies at each of `paths` (same order).

    A value is `MODE HASH` of a blob, `absent`, `folder` (git applies no patch to one, whatever it holds), or
    `under MODE` where a parent of the path is no folder. Equal values therefore mean equal behaviour of git.

    Raises:
        CheckFailed: a tree object is missing.
    """
    contents = _load(git, trees, paths)
    known: dict[str, State] = {}
    for tree in trees:
        if tree not in known:
            known[tree] = tuple(_look_up(contents, tree, path) for path in paths)
    return [known[tree] for tree in trees]


def blob_of(value: str) -> str | None:
    """The blob hash in a value of a `State`, or None if no file lies there."""
    mode, _, blob = value.partition(" ")
    return blob if blob and mode.startswith("100") else None


def read_objects(git: Git, objects: Iterable[str]) -> dict[str, bytes]:
    """The contents of objects by hash; one that this repository lacks is left out."""
    wanted = list(dict.fromkeys(objects))
    found: dict[str, bytes] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        asked = "".join(f"{name}\n" for name in wanted[start : start + _AT_ONCE])
        found |= _parse_batch(git.run("cat-file", "--batch", stdin=asked.encode()).stdout)
    return found


def missing_objects(git: Git, objects: Iterable[str]) -> set[str]:
    """Those of the objects (full hashes) that this repository lacks."""
    asked = "".join(f"{name}\n" for name in dict.fromkeys(objects))
    if not asked:
        return set()
    answers = git.run("cat-file", "--batch-check", stdin=asked.encode()).text.splitlines()
    return {line.split()[0] for line in answers if line.endswith(" missing")}


def _parse_batch(answer: bytes) -> dict[str, bytes]:
    found = {}
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        header = answer[at:end].split()
        at = end + 1
        if header[1] != b"missing":
            size = int(header[2])
            found[header[0].decode()] = answer[at : at + size]
            at += size + 1
    return found


def _load(git: Git, trees: Sequence[str], paths: Sequence[str]) -> dict[str, dict[str, _Entry]]:
    """Every tree object on the way to `paths`, with those of its entries that lie on the way."""
    parted = [path.split("/") for path in paths]
    wanted = {
        "/".join(parts[:depth]): {
            other[depth]
            for other in parted
            if len(other) > depth and other[:depth] == parts[:depth]
        }
        for parts in parted
        for depth in range(len(parts))
    }  # fmt: skip
    contents: dict[str, dict[str, _Entry]] = {}
    level = {("", tree) for tree in trees}
    while level:
        names: dict[str, set[bytes]] = {}
        for prefix, tree in level:
            names.setdefault(tree, set()).update(name.encode() for name in wanted[prefix])
        for tree, raw in (found := read_objects(git, names)).items():
            contents.setdefault(tree, {}).update(_parse_tree(raw, names[tree], len(tree) // 2))
        if gone := names.keys() - found.keys():
            raise CheckFailed(f"the tree {min(gone)} is missing in upstream's objects: name a full clone")
        level = {
            (below, entry[1])
            for prefix, tree in level
            for name, entry in contents[tree].items()
            if entry[0] == _FOLDER and (below := f"{prefix}/{name}".lstrip("/")) in wanted
        }
    return contents


def _parse_tree(raw: bytes, names: set[bytes], hash_bytes: int) -> dict[str, _Entry]:
    found = {}
    at = 0
    while at < len(raw):
        end = raw.index(b"\0", at)
        mode, _, name = raw[at:end].partition(b" ")
        if name in names:
            found[name.decode()] = (mode.decode(), raw[end + 1 : end + 1 + hash_bytes].hex())
        at = end + 1 + hash_bytes
    return found


def _look_up(contents: dict[str, dict[str, _Entry]], tree: str, path: str) -> str:
    *parents, name = path.split("/")
    for parent in parents:
        entry = contents[tree].get(parent)
        if entry is None:
            return ABSENT
        if entry[0] != _FOLDER:
            return f"under {entry[0]}"
        tree = entry[1]
    entry = contents[tree].get(name)
    if entry is None:
        return ABSENT
    return "folder" if entry[0] == _FOLDER else f"{entry[0]} {entry[1]}"
