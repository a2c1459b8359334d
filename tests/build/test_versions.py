"""Every known version of upstream that has the MTP block: declared, measured and compared without hand work."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from llamacpp_tools.build.abi import load_abi
from llamacpp_tools.build.declarations import write_declarations
from llamacpp_tools.build.layout import write_layout
from llamacpp_tools.ffi.layout import check_functions, check_layout
from llamacpp_tools.ffi.symbols import FUNCTIONS, check_symbols
from llamacpp_tools.stack.source import obtain, repository
from llamacpp_tools.stack.upstream import load_upstream
from tests.conftest import PATCHES

from .header import compilers

UPSTREAM = load_upstream(PATCHES)
VERSIONS = [version.tag for version in UPSTREAM.versions if version.date >= UPSTREAM.pinned.date]


def headers(tag: str, folder: Path) -> Path:
    commit = obtain(UPSTREAM, tag).commit
    packed = repository().run("archive", "--format=tar", commit, "include", "ggml/include").stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def stand_in(names: list[str], folder: Path) -> Path:
    """A library that has a function of each name: to ask cffi for their types, which it gives with an address only."""
    source, library = folder / "stand_in.c", folder / "stand_in.so"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    command = [compilers()[0], "-w", "-fno-builtin", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    return library


@pytest.mark.build
@pytest.mark.parametrize("tag", VERSIONS)
def test_cffi_and_the_compiler_agree_on_a_versions_headers(tag: str, tmp_path: Path) -> None:
    tree = headers(tag, tmp_path / "tree")
    cc, cxx = compilers()
    write_declarations(tree, cc, tmp_path / "declarations.h")
    write_layout(tree, cxx, tmp_path / "declarations.h", tmp_path / "layout.json")
    ffi = load_abi(tmp_path / "declarations.h")
    measured = json.loads((tmp_path / "layout.json").read_text())
    check_layout(ffi, measured, tag)
    # Each version declares all that llt calls; the types of all its functions agree, called or not.
    functions = [name for name in measured["functions"] if name.islower()]
    lib = ffi.dlopen(str(stand_in(functions, tmp_path)))
    check_symbols(ffi, lib, tag)
    check_functions(ffi, lib, functions, measured, tag)
    assert set(FUNCTIONS) <= set(functions)
    records = measured["records"]
    assert records["struct llama_model_kv_override"]["members"] == 3
    assert len(records) > 30
    assert len(functions) > 800


def test_the_versions_reach_from_the_pin_to_the_newest_one() -> None:
    assert VERSIONS[0] == UPSTREAM.pin
    assert VERSIONS[-1] == UPSTREAM.versions[-1].tag
    assert len(VERSIONS) >= 5
