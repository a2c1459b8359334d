"""Building for real: nothing to do the second time, built again when the proof says no, refused when it must."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import time
from pathlib import Path

import pytest

from llamacpp_tools.build import manifest, toolchain
from llamacpp_tools.build.build import build
from llamacpp_tools.build.cmake import compile_targets, configure
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.build.options import (
    TOOL_TARGETS,
    BuildOptions,
    build_key,
    build_name,
    native_dir,
    split_name,
)
from llamacpp_tools.build.proof import Proof, prove
from llamacpp_tools.errors import CheckFailed, MissingTool
from llamacpp_tools.files import sha256_file
from llamacpp_tools.models.shelf import synthetic
from llamacpp_tools.stack.rebase import rebase
from llamacpp_tools.stack.series import Series, load_series
from llamacpp_tools.stack.stack import Stack
from llamacpp_tools.stack.upstream import load_upstream
from tests.conftest import PATCHES, Llt


@pytest.mark.build
def test_the_manifest_describes_what_was_built(patched: Build) -> None:
    told = patched.manifest
    assert sha256_file(patched.library) == told.library_sha256
    assert told.series_digest == load_series(PATCHES).digest
    assert told.patches == [patch.name for patch in load_series(PATCHES).patches]
    assert told.upstream_tree == "d44f81844337033c39fd9f412f60bd613c503f52"
    assert told.tools.keys() == set(TOOL_TARGETS)


@pytest.mark.build
def test_a_second_call_with_nothing_changed_does_nothing(patched: Build, llt: Llt) -> None:
    before = patched.path.stat().st_mtime_ns
    begun = time.monotonic()
    done = llt("build", "--cpu", "--json")
    assert done.returncode == 0, done.stderr
    # A bound on what it must not do (configure, compile, prove), not on how fast it is.
    assert time.monotonic() - begun < 20
    assert json.loads(done.stdout)["library_sha256"] == patched.manifest.library_sha256
    assert patched.path.stat().st_mtime_ns == before


@pytest.mark.build
def test_a_build_that_lost_a_file_is_not_found_and_is_finished_again(patched: Build, llt: Llt) -> None:
    # As it is now: whoever works on the sources while the tests run has had it built anew since the first test.
    before = manifest.find("cpu", patched.manifest.variant).manifest
    patched.layout.unlink()
    with pytest.raises(MissingTool, match=r"the .* build for cpu has lost files: run `llt build --cpu"):
        manifest.find("cpu", before.variant)
    onto = before.variant.partition("-onto-")[2]
    done = llt("build", "--cpu", "--tools", *(["--onto", onto] if onto else []))
    assert done.returncode == 0, done.stderr
    again = manifest.find("cpu", before.variant).manifest
    assert (again.layout_sha256, again.libraries) == (before.layout_sha256, before.libraries)


@pytest.mark.build
def test_a_library_is_the_same_in_another_folder_and_without_ccache(patched: Build, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to((patched.path.parent / "src").resolve())
    (tmp_path / "native").symlink_to(native_dir())
    tools = dataclasses.replace(toolchain.require("cpu"), ccache=None)
    configure(tools, tmp_path / "native", tmp_path / "src", tmp_path / "out", patched.manifest.cmake_options)
    compile_targets(tools, tmp_path / "out", ["ggml-base"], lambda *_: None)
    (there,) = [each for each in patched.manifest.libraries if "libggml-base" in each.path]
    here = tmp_path / there.path
    assert sha256_file(here) == there.sha256
    assert str(tmp_path).encode() not in here.read_bytes()


@pytest.mark.build
def test_a_build_that_fails_its_proof_is_built_again_without_what_breaks_it_or_refused(
    home: Path, tmp_path: Path
) -> None:
    upstream, found = load_upstream(PATCHES), toolchain.require("cpu")
    stack = rebase(upstream, Series(PATCHES, ()))
    tried: list[str] = []

    def only_without_native(program: Path, model: Path, folder: Path, n_gpu_layers: int) -> Proof:
        cache = (program.parent.parent / "CMakeCache.txt").read_text()
        tried.append("native" if "GGML_NATIVE:BOOL=ON" in cache else "portable")
        return (
            Proof("killed by SIGSEGV", ())
            if tried[-1] == "native"
            else prove(program, model, folder, n_gpu_layers)
        )

    def quiet(_done: int, _total: int, _what: str) -> None:
        pass

    model = lambda: synthetic("tiny")  # noqa: E731
    options = BuildOptions("cpu", "stock")
    made = build(stack, options, found, model, quiet, only_without_native)
    assert tried[-1] == "portable"
    assert made.manifest.mitigation == "no-native"
    assert "none: killed by SIGSEGV" in made.manifest.mitigation_reason
    assert manifest.find("cpu", "stock").path == made.path

    # The verdict on the first way is remembered: nothing is compiled or proved again.
    tried.clear()
    assert build(stack, options, found, model, quiet, only_without_native).path == made.path
    assert tried == []
    _what_it_is_made_of_counts(stack, options, found, made)

    made.path.unlink()
    # What disturbed a proof is no verdict: the next call tries again.
    with pytest.raises(CheckFailed, match=r"could not be proved \(no memory\)"):
        build(stack, options, found, model, quiet, lambda *_: Proof("no memory", (), disturbed=True))
    with pytest.raises(CheckFailed, match=r"no build of b9842 works .*no-native: q8_0 wrong"):
        build(stack, options, found, model, quiet, lambda *_: Proof("q8_0 wrong", ()))


def _what_it_is_made_of_counts(
    stack: Stack, options: BuildOptions, found: toolchain.Toolchain, made: Build
) -> None:
    """Bytes that changed are made again, another text of the series is told, and a tree at work is left alone."""
    first = made.path.stat().st_mtime_ns

    def again(stack: Stack) -> Build:
        return build(stack, options, found, lambda: synthetic("tiny"), lambda *_: None)

    with made.library.open("r+b") as file:
        file.truncate(4096)
    whole = again(stack)
    assert whole.path == made.path and whole.path.stat().st_mtime_ns != first
    assert whole.damaged == [] and whole.manifest.libraries == made.manifest.libraries

    named = dataclasses.replace(stack, series=_Renamed(stack.series.folder, ()))
    assert again(named).manifest.series_digest == "ab" * 32
    assert again(stack).manifest.series_digest == stack.series.digest

    assert stack.tree_dir is not None
    (stack.tree_dir / "LICENSE").write_text("a person at work")
    with pytest.raises(CheckFailed, match=r"has changed .* just now: run it again"):
        again(stack)
    subprocess.run(["git", "checkout", "-q", "LICENSE"], cwd=stack.tree_dir, check=True)


class _Renamed(Series):
    """A series whose text is another and which makes the same tree."""

    @property
    def digest(self) -> str:
        return "ab" * 32


def test_no_build_says_how_to_make_one(home: Path) -> None:
    with pytest.raises(MissingTool, match="run `llt build --vulkan --variant stock`"):
        manifest.find("vulkan", "stock")
    with pytest.raises(MissingTool, match=r"run `llt build --cpu --without mtp-iswa`"):
        manifest.find("cpu", "patched-without-mtp-iswa")
    with pytest.raises(MissingTool, match=r"run `llt build --cpu --variant stock --onto v0\.5\.0`"):
        manifest.find("cpu", "stock-onto-v0.5.0")
    with pytest.raises(
        MissingTool, match=r"no stock build for cuda with RPC .* `llt build --cuda --rpc --variant stock`"
    ):
        manifest.find("cuda", "stock", rpc=True)


@pytest.mark.build
def test_the_rpc_backend_is_in_a_build_of_its_own(patched: Build, with_rpc: Build) -> None:
    def names(build: Build) -> set[str]:
        return {path.name.split(".")[0] for path in build.libraries}

    assert names(with_rpc) == {*names(patched), "libggml-rpc"}
    told = with_rpc.manifest.rpc_server
    assert told is not None and sha256_file(with_rpc.rpc_server) == told.sha256
    assert manifest.find("cpu", patched.manifest.variant).path == patched.path != with_rpc.path
    with pytest.raises(MissingTool, match="run `llt build --cpu --rpc`"):
        _ = patched.rpc_server


@pytest.mark.parametrize("rpc", [False, True])
@pytest.mark.parametrize("variant", ["patched", "stock", "patched-without-mtp-iswa", "stock-onto-v0.5.0"])
def test_a_builds_name_says_what_it_is(variant: str, rpc: bool) -> None:
    assert split_name(build_name("vulkan", variant, rpc)) == ("vulkan", variant, rpc)


def test_a_builds_folder_depends_on_tree_options_and_compiler() -> None:
    keys = {build_key(*parts) for parts in (("t", ["-a"], "gcc"), ("u", ["-a"], "gcc"), ("t", ["-b"], "gcc"))}
    assert len(keys | {build_key("t", ["-a"], "clang")}) == 4


def test_what_is_added_to_a_build_comes_last_so_that_it_wins() -> None:
    plain, more = (
        BuildOptions(),
        BuildOptions(added_cmake=("-DLLAMA_BUILD_TESTS=ON",), added_targets=("a-test",)),
    )
    assert more.cmake() == [*plain.cmake(), "-DLLAMA_BUILD_TESTS=ON"]
    assert "-DLLAMA_BUILD_TESTS=OFF" in plain.cmake()
    assert more.targets == (*plain.targets, "a-test")
