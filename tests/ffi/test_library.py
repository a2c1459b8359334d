"""The libraries that are loaded are the manifest's, byte for byte, whatever else lies in the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build, find, load
from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.ffi.symbols import FUNCTIONS
from llamacpp_tools.files import sha256_file

from .child import compiled, copied, opened, refusal, sealed

pytestmark = pytest.mark.build

# Leaves a file behind when it is loaded.
TELLTALE = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) { fclose(fopen(getenv("LLT_TELLTALE"), "w")); }
int ggml_backend_score(void) { return 1000; }
void * ggml_backend_init(void) { return 0; }
"""


def test_the_manifest_lists_what_a_process_loads_in_that_order(patched: Build) -> None:
    names = [path.name.partition(".so")[0] for path in patched.libraries]
    assert names == ["libggml-base", "libggml-cpu", "libggml", "libllama", "libllt_shim"]
    for listed, path in zip(patched.manifest.libraries, patched.libraries, strict=True):
        assert not path.is_symlink()
        assert sha256_file(path) == listed.sha256
    assert sha256_file(patched.layout) == patched.manifest.layout_sha256


def test_only_the_manifests_own_libraries_are_mapped(patched: Build, stock: Build) -> None:
    foreign = str(stock.library.parent)
    done = opened(patched.path, {"LD_LIBRARY_PATH": foreign})
    assert done.returncode == 0, done.stdout + done.stderr
    mapped = {
        line for line in done.stdout.splitlines() if Path(line).name.startswith(("libllama", "libggml"))
    }
    assert mapped == {str(path) for path in patched.libraries[:-1]}
    assert foreign not in done.stdout


def test_the_listed_files_are_enough_and_what_lies_beside_them_is_left_alone(
    patched: Build, stock: Build, tmp_path: Path
) -> None:
    build = copied(patched, tmp_path / "build")
    beside = build.library.parent
    for name in ("libggml-zzz.so", "libllama.so", "libllama.so.0", "libggml-base.so.0"):
        shutil.copy(stock.library, beside / name)
    done = opened(build.path, {"LD_LIBRARY_PATH": str(beside)})
    assert done.returncode == 0, done.stdout + done.stderr
    mapped = {Path(line).name for line in done.stdout.splitlines() if str(beside) in line}
    assert mapped == {path.name for path in build.libraries}


@pytest.mark.parametrize("index", range(5))
def test_a_file_that_was_changed_or_is_gone_is_refused(patched: Build, tmp_path: Path, index: int) -> None:
    build = copied(patched, tmp_path / "build")
    path = build.libraries[index]
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    said = refusal(build.path)
    assert said.startswith(f"{path} is not what its manifest says (sha256 {sha256_file(path)[:12]}, not ")
    path.unlink()
    assert refusal(build.path).startswith(f"{path} is not what its manifest says (it is missing)")


def test_another_builds_libllama_in_the_place_of_ours_is_refused(
    patched: Build, stock: Build, tmp_path: Path
) -> None:
    build = copied(patched, tmp_path / "build")
    shutil.copy(stock.library, build.library)
    assert f"{build.library} is not what its manifest says" in refusal(build.path)


def test_a_libllama_that_was_preloaded_is_refused(patched: Build, stock: Build) -> None:
    said = refusal(patched.path, {"LD_PRELOAD": str(stock.library)})
    assert str(stock.library.parent) in said
    assert f"is loaded beside {patched.library}: a process can hold one libllama only" in said


def test_a_libllama_that_another_binding_has_loaded_is_refused(patched: Build, stock: Build) -> None:
    before = f"import ctypes; ctypes.CDLL({str(stock.library)!r}, ctypes.RTLD_GLOBAL)\n"
    assert str(stock.library.parent) in refusal(patched.path, before=before)


def test_a_libllama_by_another_name_is_refused(patched: Build, stock: Build, tmp_path: Path) -> None:
    hidden = tmp_path / "innocent.so"
    shutil.copy(stock.library, hidden)
    # Its neighbours are found where ours are, so that nothing but the functions themselves can tell.
    env = {"LD_PRELOAD": str(hidden), "LD_LIBRARY_PATH": str(patched.library.parent)}
    said = refusal(patched.path, env)
    assert f"comes from {hidden}, which is loaded in front of {patched.library}" in said
    assert said.split()[0] in FUNCTIONS


def test_a_single_function_in_front_of_ours_is_refused(patched: Build, tmp_path: Path) -> None:
    thief = compiled("int llama_decode(void) { return 0; }", tmp_path / "thief.so")
    said = refusal(patched.path, {"LD_PRELOAD": str(thief)})
    assert said.startswith(f"llama_decode comes from {thief}, ")


def test_no_backend_is_searched_for(patched: Build, tmp_path: Path) -> None:
    for name in ("libggml-blas.so", "libggml-cpu-best.so"):
        compiled(TELLTALE, tmp_path / name)
    telltale = tmp_path / "loaded"
    env = {"LLT_TELLTALE": str(telltale), "GGML_BACKEND_PATH": str(tmp_path / "libggml-blas.so")}
    done = opened(patched.path, env, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 backends" in done.stdout
    assert not telltale.exists()


def test_a_shim_without_its_functions_is_refused_with_all_their_names(patched: Build, tmp_path: Path) -> None:
    build = copied(patched, tmp_path / "build")
    build.shim.unlink()
    linked = ["-Wl,--no-as-needed", str(build.library), f"-Wl,-soname,{build.shim.name}"]
    made = compiled("int llt_argmax(void) { return 0; }", tmp_path / "shim.so", linked)
    shutil.copy(made, build.shim)
    sealed(build)
    said = refusal(build.path)
    missing = [name for name in FUNCTIONS if name.startswith("llt_")]
    assert said.startswith(f"the library in {build.folder} lacks {', '.join(missing)}, which llt needs")


def renamed(library: Path, name: str) -> None:
    """Take a function out of a library's table by giving it another name of the same length."""
    found = library.read_bytes()
    entry = b"\0" + name.encode() + b"\0"
    assert found.count(entry) >= 1
    library.write_bytes(found.replace(entry, entry[:-2] + b"#\0"))


def test_a_libllama_without_functions_that_python_calls_is_refused_with_their_names(
    patched: Build, tmp_path: Path
) -> None:
    build = copied(patched, tmp_path / "build")
    for name in ("llama_model_desc", "llama_n_rs_seq"):
        renamed(build.library, name)
    sealed(build)
    assert " lacks llama_model_desc, llama_n_rs_seq, which llt needs" in refusal(build.path)


def test_a_libllama_without_a_function_that_the_shim_calls_is_refused_with_its_name(
    patched: Build, tmp_path: Path
) -> None:
    build = copied(patched, tmp_path / "build")
    renamed(build.library, "llama_memory_seq_rm")
    sealed(build)
    said = refusal(build.path)
    assert said.startswith(f"{build.shim} cannot be loaded (undefined symbol: llama_memory_seq_rm): ")


def test_a_manifest_of_an_older_llt_is_refused_and_built_again(
    home: Path, patched: Build, tmp_path: Path
) -> None:
    build = copied(patched, tmp_path / "build")
    old = json.loads(build.path.read_text())
    for name in ("libraries", "layout", "layout_sha256"):
        del old[name]
    build.path.write_text(json.dumps(old | {"schema": 1}))
    with pytest.raises(BadInput, match="not a build manifest of this version of llt: run `llt build` again"):
        load(build.path)
    builds = home / "builds"
    builds.mkdir(parents=True)
    build.folder.rename(builds / "older")
    (builds / "patched-cpu.current").write_text("older\n")
    with pytest.raises(MissingTool, match="run `llt build --cpu`"):
        find("cpu", "patched")
