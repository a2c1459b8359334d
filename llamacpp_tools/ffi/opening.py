"""Opening exactly the files that a manifest lists, by hash, and seeing that nothing else took their place."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import sha256_file

_OURS = ("libllama", "libggml", "libllt_shim")

Mapping = tuple[int, int, str]


def check_files(build: Build) -> None:
    """Compare every file that will be opened, and the RPC server, with its hash in the manifest.

    Raises:
        CheckFailed: one is missing or was changed.
    """
    expected = {build.folder / file.path: file.sha256 for file in build.manifest.libraries}
    expected[build.layout] = build.manifest.layout_sha256
    if build.manifest.rpc_server is not None:
        expected[build.rpc_server] = build.manifest.rpc_server.sha256
    for path, sha256 in expected.items():
        found = sha256_file(path) if path.is_file() else ""
        if found != sha256:
            said = f"sha256 {found[:12]}, not {sha256[:12]}" if found else "it is missing"
            raise CheckFailed(f"{path} is not what its manifest says ({said}): run `llt build` again")


def open_files(ffi: Any, build: Build) -> tuple[Any, list[Any]]:
    """Load the manifest's libraries in its order; the last one is the shim, through which all are called.

    Each is opened by its absolute path before another one asks for it by name: a name that is loaded is not
    searched for again, so LD_LIBRARY_PATH and the system's own libllama have no say.

    Returns:
        The library to call, and what must stay referenced as long as it is: cffi unloads what is let go.

    Raises:
        CheckFailed: one cannot be loaded.
    """
    held = []
    flags = ffi.RTLD_NOW | ffi.RTLD_GLOBAL
    for path in build.libraries:
        try:
            held.append(ffi.dlopen(str(path), ffi.RTLD_NOW if path == build.shim else flags))
        except OSError as error:
            # cffi says "cannot load library '/path': " before the linker's own words, which begin with the path.
            reason = str(error).rpartition(f"{path}: ")[2]
            raise CheckFailed(f"{path} cannot be loaded ({reason}): run `llt build` again") from error
    return held[-1], held


def check_origin(ffi: Any, lib: Any, build: Build, names: Iterable[str]) -> None:
    """See that no foreign libllama or ggml is in this process, and that each function is one of our files'.

    A library that was there before (LD_PRELOAD, another binding) would answer our libraries' own calls to each
    other, whatever its file is called.

    Args:
        ffi: the cffi instance.
        lib: the opened library.
        build: the build it is of.
        names: functions, all of which `lib` has.

    Raises:
        CheckFailed: there is one; the sentence names its file.
    """
    mappings = _mappings()
    if not mappings:
        return
    own = {os.path.realpath(path) for path in build.libraries}
    for path in dict.fromkeys(mapping[2] for mapping in mappings):
        if Path(path).name.startswith(_OURS) and path not in own:
            raise CheckFailed(
                f"{path} is loaded beside {build.library}: a process can hold one libllama only"
            )
    # The process's own scope is where the dynamic linker looks first for what one library wants of another.
    process = ffi.dlopen(None)
    for name in names:
        for scope in (process, lib):
            try:
                address = int(ffi.cast("uintptr_t", getattr(scope, name)))
            except (AttributeError, ffi.error):
                continue
            path = _file_at(mappings, address)
            if path not in own:
                raise CheckFailed(
                    f"{name} comes from {path}, which is loaded in front of {build.library}: take it out of"
                    " LD_PRELOAD, or use a process that has not loaded it"
                )


def _mappings() -> list[Mapping]:
    """(begin, end, file) of what is mapped from files into this process, in order; empty where /proc has no say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5].startswith("/"):
            begin, _, end = parts[0].partition("-")
            found.append((int(begin, 16), int(end, 16), parts[5]))
    return found


def _file_at(mappings: list[Mapping], address: int) -> str:
    index = bisect.bisect_right(mappings, address, key=lambda mapping: mapping[0]) - 1
    if index < 0 or address >= mappings[index][1]:
        return "memory of no file"
    return mappings[index][2]
