"""What the patch amx-tile-config is for, read from the compiler's own output: no CPU with AMX is needed."""

from __future__ import annotations

import platform
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from llamacpp_tools.build import toolchain
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import load_series
from llamacpp_tools.stack.upstream import load_upstream
from tests.conftest import PATCHES

pytestmark = pytest.mark.build
MMQ = "ggml/src/ggml-cpu/amx/mmq.cpp"
FLAGS = ("-std=gnu++17", "-O3", "-march=sapphirerapids", "-DNDEBUG", "-D_GNU_SOURCE", "-S")
# Bytes of the configuration from which `colsb` and `rows` begin (Intel's manual, LDTILECFG).
COLSB, ROWS = 16, 48


def stored(tree: Path, out: Path, compiler: str) -> set[int]:
    """Offsets within the configuration that are written between its clearing and its load."""
    include = [f"-I{tree / name}" for name in ("ggml/include", "ggml/src", "ggml/src/ggml-cpu")]
    subprocess.run([compiler, *FLAGS, *include, "-o", str(out), str(tree / MMQ)], check=True)
    before, load = re.split(r"\n\s*ldtilecfg\s+", out.read_text(), maxsplit=1)
    found = re.match(r"(-?\d*)\((%\w+)\)", load)
    assert found is not None
    base, register = int(found[1] or 0), re.escape(found[2])
    block = re.split(r"\n\.L\w+:|\n\s*j\w+\s", before)[-1]
    return {int(at or 0) - base for at in re.findall(rf", (-?\d*)\({register}\)", block)}


def test_the_patch_keeps_every_store_to_the_tile_configuration(tmp_path: Path) -> None:
    compiler = toolchain.require("cpu")
    said = subprocess.run([compiler.cxx, "-dumpversion"], capture_output=True, text=True, check=True).stdout
    if platform.machine() != "x86_64" or "clang" in compiler.cxx_version.lower():
        pytest.skip("the assembly that is read here is that of gcc on x86-64")
    series, upstream = load_series(PATCHES), load_upstream(PATCHES)
    trees = [rebase(upstream, each).tree_dir for each in (series, replace(series, patches=()))]
    assert trees[0] is not None and trees[1] is not None
    patched, stock = (stored(tree, tmp_path / "mmq.s", compiler.cxx) for tree in trees if tree is not None)
    assert {COLSB, ROWS} <= patched
    if int(said.split(".")[0]) <= 12:
        assert not {COLSB, ROWS} & stock, "this gcc does not drop the stores: the patch may go"
