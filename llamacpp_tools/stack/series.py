"""The patch series: `patches/series.yaml`, the files it names, and the digest that stands for both.

The order in `series.yaml` is the order of application. The digest covers names, order and the bytes of the
files, so a build or a result can say exactly which patches it carries.

`load_series` refuses at the first problem; `stack.audit` reads the same file and says all of them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from llamacpp_tools import home
from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.patchfile import PatchFile, read_patch
from llamacpp_tools.stack.rewrite import is_unfinished
from llamacpp_tools.stack.source import slug
from llamacpp_tools.stack.upstream import Upstream, load_strict, load_upstream

Slug = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9]{4}-[A-Za-z0-9._-]+\.patch$")]


class Entry(pydantic.BaseModel):
    """What `series.yaml` says of one patch."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    file: FileName
    name: Slug
    why: str
    upstream: tuple[str, ...] = ()
    drop_when: str
    paths: tuple[str, ...] = pydantic.Field(min_length=1)
    check: str


class Dropped(pydantic.BaseModel):
    """A patch that is gone: why, and upstream's version at that time."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    name: Slug
    file: FileName
    reason: str
    upstream: str


class SeriesFile(pydantic.BaseModel):
    """The whole of `series.yaml`.

    Attributes:
        upstream: the version that the files are written for.
        head: the commit that the whole series gives there (`export.portable_head`); None in a new series.
        reaches: the last upstream version where the whole series still applies, as drift found it.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = pydantic.Field(alias="schema")
    upstream: str
    head: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{40}$")] | None = None
    reaches: str | None = None
    patches: tuple[Entry, ...] = pydantic.Field(min_length=1)
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True)
class Patch:
    """One patch of the series: its entry and its checked file."""

    entry: Entry
    file: PatchFile

    @property
    def name(self) -> str:
        """The short name, as `series.yaml` has it."""
        return self.entry.name


@dataclass(frozen=True)
class Series:
    """Patches in order of application. `without` names those that were left out on purpose.

    `upstream`, `head`, `reaches` and `dropped` are what `series.yaml` says of the series as a whole.
    """

    folder: Path
    patches: tuple[Patch, ...]
    without: tuple[str, ...] = ()
    upstream: str = ""
    head: str | None = None
    reaches: str | None = None
    dropped: tuple[Dropped, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the order, names and bytes of the patches applied."""
        digest = hashlib.sha256()
        for patch in self.patches:
            digest.update(f"{patch.name}\0{len(patch.file.raw)}\0".encode())
            digest.update(patch.file.raw)
        return digest.hexdigest()

    def command(self, verb: str, onto: str | None = None, out: Path | None = None) -> str:
        """An llt command line for this very series, in backquotes, to be named in a message."""
        words = []
        if onto is not None:
            words += ["--onto", onto]
        if out is not None:
            words += ["--out", str(out)]
        if self.folder.resolve() != home.shipped("patches").resolve():
            words += ["--patches", str(self.folder)]
        if not verb.startswith("patches"):
            words += [word for name in self.without for word in ("--without", name)]
        return f"`llt {verb}{''.join(f' {shlex.quote(word)}' for word in words)}`"

    def refresh_command(self, pin: str, label: str, what: str = "") -> str:
        """The command line that writes the files again from the tree of version `label`; see `command`.

        Files for another version than the series' own go into a folder of their own.

        Args:
            pin: the version that is taken where none is named.
            label: the version whose tree is meant.
            what: more words for the command line.
        """
        is_own = label in (pin, self.upstream)
        out = None if is_own else self.folder / slug(label)
        return self.command(f"patches refresh {what}".rstrip(), None if label == pin else label, out)

    def leave_out(self, names: tuple[str, ...]) -> Series:
        """The series without the named patches.

        Raises:
            BadInput: a name is not in the series.
        """
        known = [patch.name for patch in self.patches]
        for name in names:
            if name not in known:
                raise BadInput(f"no patch {name!r} in {self.folder}; the series has {', '.join(known)}")
        kept = tuple(patch for patch in self.patches if patch.name not in names)
        return replace(self, patches=kept, without=tuple(name for name in known if name in names))


def load_series(folder: Path) -> Series:
    """Read `series.yaml` in `folder` and every patch it names, each checked before it is used.

    Raises:
        BadInput: a file is missing or malformed, a patch touches what its entry does not declare, or a
            `.patch` file lies in the folder that `series.yaml` does not name.
    """
    _refuse_unfinished(folder)
    listed = load_strict(folder / "series.yaml", SeriesFile)
    for value in repeats(listed.patches):
        raise BadInput(f"{folder / 'series.yaml'} names {value} twice")
    patches = []
    for entry in listed.patches:
        file = read_patch(folder / entry.file)
        for path in undeclared(entry, file.paths):
            raise BadInput(f"{folder / entry.file} touches {path}, which series.yaml does not declare for it")
        patches.append(Patch(entry, file))
    for stray in strays(folder, listed.patches):
        raise BadInput(f"{folder / stray} is not named in series.yaml: add an entry or remove the file")
    # One that began while the files were read.
    _refuse_unfinished(folder)
    return Series(
        folder,
        tuple(patches),
        upstream=listed.upstream,
        head=listed.head,
        reaches=listed.reaches,
        dropped=listed.dropped,
    )


def _refuse_unfinished(folder: Path) -> None:
    if is_unfinished(folder):
        again = f"llt patches refresh --patches {shlex.quote(str(folder))}"
        raise BadInput(f"a refresh of {folder} is under way or was cut short: finish it with `{again}`")


def undeclared(entry: Entry, paths: Iterable[str]) -> list[str]:
    """Those of `paths` that the entry does not declare."""
    return [path for path in paths if not any(fnmatch.fnmatchcase(path, allowed) for allowed in entry.paths)]


def strays(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Names of the `.patch` files in `folder` that no entry names, in order."""
    return sorted({path.name for path in folder.glob("*.patch")} - {entry.file for entry in entries})


def repeats(entries: Sequence[Entry]) -> list[str]:
    """File names and names that more than one entry has."""
    values = [entry.file for entry in entries] + [entry.name for entry in entries]
    return sorted({value for value in values if values.count(value) > 1})


def upstream_folder(folder: Path) -> Path:
    """Where the `upstream.yaml` of a series lies: beside it, above it for `patches/<version>/`, else llt's own.

    Raises:
        BadInput: there is no such folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder: name one that holds a series.yaml with --patches")
    places = (folder, folder.absolute().parent)
    return next((place for place in places if (place / "upstream.yaml").is_file()), home.shipped("patches"))


def upstream_of(series: Series) -> Upstream:
    """The `upstream.yaml` of a series; where that lies elsewhere, the series' own version takes the pin's place.

    Raises:
        BadInput: the file is missing or malformed, or the version is neither known nor a commit.
    """
    place = upstream_folder(series.folder)
    upstream = load_upstream(place)
    return upstream if place == series.folder else upstream.pinned_at(series.upstream)
