"""The build that a sweep wants, as it travels: pin, series and options. The library itself never does.

A box with no such build makes one from the files in the parcel; one whose build is of something else is refused.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llamacpp_tools import home
from llamacpp_tools.build import manifest
from llamacpp_tools.build.build import build
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.options import BuildOptions, native_digest
from llamacpp_tools.build.toolchain import require
from llamacpp_tools.errors import BadInput, CheckFailed, MissingTool
from llamacpp_tools.models.shelf import proof_model
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import Series, load_series
from llamacpp_tools.stack.upstream import load_upstream

Progress = Callable[[int, int, str], None]
MOST_BYTES = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


@dataclass(frozen=True)
class Parcel:
    """What a box must have built.

    Attributes:
        backend, variant: of the build.
        pin: upstream's version.
        series_digest: of the patches applied.
        native_digest: of llt's own C++ sources.
        without: patches left out.
        files: `series.yaml`, `upstream.yaml` and the patches, by name.
    """

    backend: str
    variant: str
    pin: str
    series_digest: str
    native_digest: str
    without: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"without": list(self.without)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Parcel:
        """The parcel that `to_json` wrote."""
        return cls(**{**row, "without": tuple(row["without"])})


def pack(backend: str, variant: str, folder: Path | None = None) -> Parcel:
    """The parcel for a backend and a variant as a sweep file names them.

    Args:
        backend: of the build.
        variant: `patched` or `stock`, then `-without-NAME`.
        folder: the series; llt's own by default.

    Raises:
        BadInput: a build onto another version, which no sweep over boxes can ask for, or a series that is not sound.
    """
    base, *left_out = variant.split("-without-")
    if base not in ("patched", "stock"):
        raise BadInput(
            f"`build.variant: {variant}` cannot be made on other boxes: only patched, stock and -without-NAME"
        )
    source = folder or home.shipped("patches")
    upstream, series = load_upstream(source), load_series(source)
    names = ["series.yaml", "upstream.yaml", *(patch.entry.file for patch in series.patches)]
    # Bytes that are no UTF-8 must arrive as they are: the digest is over bytes.
    files = {name: (source / name).read_bytes().decode("latin-1") for name in names}
    wanted = _chosen(series, base, tuple(left_out))
    return Parcel(backend, variant, upstream.pin, wanted.digest, native_digest(), tuple(left_out), files)


def unpack(parcel: Parcel, progress: Progress, *, rebuild: bool = False) -> Build:
    """The build that `parcel` asks for, made now where there is none.

    Args:
        parcel: what is wanted.
        progress: called with (steps done, steps in all, what).
        rebuild: where a build of something else is the current one, make the wanted one in its place.

    Raises:
        CheckFailed: this box's build is of another pin or series, or what was built is.
        MissingTool: it cannot be built here.
    """
    try:
        found = manifest.find(parcel.backend, parcel.variant)
    except MissingTool:
        found = None
    if found is not None:
        differs = difference(parcel, found)
        if differs is None:
            return found
        if not rebuild:
            command = manifest.build_command(parcel.backend, parcel.variant)
            raise CheckFailed(
                f"its {parcel.variant} build for {parcel.backend} is of {differs}: run `{command}` there with the "
                "sweep's patches, or start its worker with --rebuild"
            )
    made = _make(parcel, progress)
    differs = difference(parcel, made)
    if differs is not None:
        raise CheckFailed(f"what it built is of {differs}: is llt there of the same version?")
    return made


def difference(parcel: Parcel, build: Build) -> str | None:
    """What a build is of that the parcel does not want; None if they are of the same."""
    known = build.manifest
    pairs = (
        ("pin", known.pin, parcel.pin),
        ("series", known.series_digest, parcel.series_digest),
        ("shim", known.native_digest, parcel.native_digest),
        ("variant", known.variant, parcel.variant),
        ("backend", known.backend, parcel.backend),
    )
    told = [f"{name} {has[:12]}, not {wants[:12]}" for name, has, wants in pairs if has != wants]
    return " and ".join(told) or None


def _make(parcel: Parcel, progress: Progress) -> Build:
    found = require(parcel.backend)
    progress(0, 0, "getting upstream and applying the series")
    with _laid_out(parcel) as folder:
        series = _chosen(
            load_series(folder), parcel.variant.split("-without-", maxsplit=1)[0], parcel.without
        )
        if series.digest != parcel.series_digest:
            raise CheckFailed("the series that came does not have the digest that was announced")
        stack = rebase(load_upstream(folder), series)
        return build(stack, BuildOptions(parcel.backend, parcel.variant), found, proof_model, progress)


@contextmanager
def _laid_out(parcel: Parcel) -> Iterator[Path]:
    if sum(map(len, parcel.files.values())) > MOST_BYTES:
        raise CheckFailed("the series that came is larger than any series is")
    with tempfile.TemporaryDirectory(prefix="llt-series-") as scratch:
        for name, text in parcel.files.items():
            if not _NAME.fullmatch(name):
                raise CheckFailed(f"the series that came names a file {name!r}")
            (Path(scratch) / name).write_bytes(text.encode("latin-1"))
        yield Path(scratch)


def _chosen(series: Series, base: str, left_out: tuple[str, ...]) -> Series:
    return Series(series.folder, ()) if base == "stock" else series.leave_out(left_out)
