"""Opening a library in a process of its own, from a copy of a build that a test has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from llamacpp_tools.build.manifest import Build, load
from llamacpp_tools.files import sha256_file
from tests.conftest import ROOT

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
print(library.ffi.sizeof("struct llama_context_params"), library.lib.llama_n_ctx != library.ffi.NULL)
print(int(library.lib.ggml_backend_reg_count()), "backends")
print("\\n".join(line.split(maxsplit=5)[5] for line in open("/proc/self/maps") if ".so" in line))
"""


def opened(
    path: Path, env: dict[str, str] | None = None, cwd: Path = ROOT, before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Open the library of a manifest; `before` is Python that the process runs first."""
    return subprocess.run(
        [sys.executable, "-c", before + OPEN, str(path)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
        cwd=cwd,
        check=False,
    )


def refusal(path: Path, env: dict[str, str] | None = None, before: str = "") -> str:
    """The one sentence with which the library of a manifest is refused."""
    done = opened(path, env, before=before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.stdout.strip()


def copied(build: Build, folder: Path) -> Build:
    """What a process needs of a build, and no more, in a folder that may be changed."""
    for file in ("manifest.json", build.manifest.declarations, build.manifest.layout):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(build.folder / file, folder / file)
    for listed in build.manifest.libraries:
        (folder / listed.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(build.folder / listed.path, folder / listed.path)
    return load(folder / "manifest.json")


def sealed(build: Build) -> None:
    """Make the manifest say what its files are now, so that only what follows the hashes can refuse them."""
    manifest = json.loads(build.path.read_text())
    for listed in manifest["libraries"]:
        listed["sha256"] = sha256_file(build.folder / listed["path"])
    manifest["layout_sha256"] = sha256_file(build.layout)
    build.path.write_text(json.dumps(manifest))


def compiled(source: str, library: Path, flags: Sequence[str] = ()) -> Path:
    """A shared library of a few lines of C."""
    file = library.with_suffix(".c")
    file.write_text(source)
    command = ["cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-o", str(library), str(file), *flags]
    subprocess.run(command, check=True)
    return library
