"""The patch series: `patches/series.yaml`, the files it names, and the digest that stands for both.

The order in `series.yaml` is the order of application. The digest covers names, order and the bytes of the
files, so a build or a result can say exactly which patches it carries.
"""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from llamacpp_tools.errors import BadInput
from llamacpp_tools.stack.patchfile import PatchFile, read_patch
from llamacpp_tools.stack.upstream import load_strict

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


class _SeriesFile(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    schema_: Literal[1] = pydantic.Field(alias="schema")
    upstream: str
    patches: tuple[Entry, ...] = pydantic.Field(min_length=1)


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
    """Patches in order of application. `without` names those that were left out on purpose."""

    folder: Path
    patches: tuple[Patch, ...]
    without: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the order, names and bytes of the patches applied."""
        digest = hashlib.sha256()
        for patch in self.patches:
            digest.update(f"{patch.name}\0{len(patch.file.raw)}\0".encode())
            digest.update(patch.file.raw)
        return digest.hexdigest()

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
        return Series(self.folder, kept, tuple(name for name in known if name in names))


def load_series(folder: Path) -> Series:
    """Read `series.yaml` in `folder` and every patch it names, each checked before it is used.

    Raises:
        BadInput: a file is missing or malformed, a patch touches what its entry does not declare, or a
            `.patch` file lies in the folder that `series.yaml` does not name.
    """
    listed = load_strict(folder / "series.yaml", _SeriesFile)
    _refuse_repeats(folder, listed)
    patches = []
    for entry in listed.patches:
        file = read_patch(folder / entry.file)
        for path in file.paths:
            if not any(fnmatch.fnmatchcase(path, allowed) for allowed in entry.paths):
                raise BadInput(
                    f"{folder / entry.file} touches {path}, which series.yaml does not declare for it"
                )
        patches.append(Patch(entry, file))
    strays = sorted({path.name for path in folder.glob("*.patch")} - {entry.file for entry in listed.patches})
    if strays:
        raise BadInput(f"{folder / strays[0]} is not named in series.yaml: add an entry or remove the file")
    return Series(folder, tuple(patches))


def _refuse_repeats(folder: Path, listed: _SeriesFile) -> None:
    for values in ([entry.file for entry in listed.patches], [entry.name for entry in listed.patches]):
        for value in values:
            if values.count(value) > 1:
                raise BadInput(f"{folder / 'series.yaml'} names {value} twice")
