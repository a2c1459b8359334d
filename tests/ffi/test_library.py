"""The library that is loaded is the manifest's, or none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build

pytestmark = pytest.mark.build

OPEN = """
import sys
from pathlib import Path
from llamacpp_tools.build.manifest import load
from llamacpp_tools.errors import LltError
from llamacpp_tools.ffi.library import open_library
try:
    library = open_library(load(Path(sys.argv[1])))
except LltError as error:
    print(error)
    sys.exit(error.exit_code)
print(library.ffi.sizeof("struct llama_context_params"), library.lib.llama_max_devices())
print("\\n".join(line.split()[5] for line in open("/proc/self/maps") if "libllama" in line))
"""


def opened(path: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", OPEN, str(path)],
        capture_output=True,
        text=True,
        env=os.environ | (env or {}),
        check=False,
    )


def test_only_the_manifests_own_libllama_is_mapped(patched: Build, stock: Build) -> None:
    foreign = str(stock.library.parent)
    done = opened(patched.path, {"LD_LIBRARY_PATH": foreign})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libllama" in done.stdout
    assert foreign not in done.stdout


def test_a_library_that_was_changed_is_refused(patched: Build, tmp_path: Path) -> None:
    copy = tmp_path / "build"
    shutil.copytree(patched.folder / "out" / "bin", copy / "out" / "bin", symlinks=True)
    for name in ("manifest.json", "declarations.h"):
        shutil.copy(patched.folder / name, copy / name)
    assert opened(copy / "manifest.json").returncode == 0
    with (copy / patched.manifest.library).resolve().open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    done = opened(copy / "manifest.json")
    assert done.returncode == 1
    assert "is not what its manifest says" in done.stdout
