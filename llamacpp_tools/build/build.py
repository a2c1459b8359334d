"""`llt build`: a stack, compiled into a folder of its own, proved, and described by a manifest."""

from __future__ import annotations

import logging
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from llamacpp_tools import home
from llamacpp_tools.build import manifest as manifests
from llamacpp_tools.build.cmake import Progress, compile_targets, configure
from llamacpp_tools.build.declarations import write_declarations
from llamacpp_tools.build.layout import write_layout
from llamacpp_tools.build.manifest import Build, LibraryFile, Manifest
from llamacpp_tools.build.options import (
    LIBRARY_TARGETS,
    MITIGATIONS,
    RPC_SERVER,
    TOOL_TARGETS,
    BuildOptions,
    Mitigation,
    build_key,
    native_digest,
    native_dir,
)
from llamacpp_tools.build.proof import Proof, prove
from llamacpp_tools.build.toolchain import Toolchain
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.files import sha256_file, write_text_atomic
from llamacpp_tools.stack.lock import hold
from llamacpp_tools.stack.stack import Stack
from llamacpp_tools.stack.worktree import Tree

log = logging.getLogger(__name__)

_SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
_ALL_LAYERS = 999
_PROGRAM = re.compile(r"-DCMAKE_(MAKE_PROGRAM|C(XX)?_COMPILER)=")

Prover = Callable[[Path, Path, Path, int], Proof]


@dataclass(frozen=True)
class _Job:
    """What every step of one build needs."""

    stack: Stack
    options: BuildOptions
    toolchain: Toolchain
    proof_model: Callable[[], Path]
    progress: Progress
    prover: Prover


def build(
    stack: Stack,
    options: BuildOptions,
    toolchain: Toolchain,
    proof_model: Callable[[], Path],
    progress: Progress,
    prover: Prover = prove,
) -> Build:
    """Build a stack, or find that it is built.

    Each mitigation is tried in turn until a build proves itself; the manifest says which it was and why.

    Args:
        stack: a checked-out stack.
        options: backend, variant, tools.
        toolchain: what `toolchain.require` found.
        proof_model: gives the tiny f32 GGUF for the proof; only called when something was compiled.
        progress: called with (steps done, steps in all, what).
        prover: how a finished build is tried; see `proof.prove`.

    Raises:
        CheckFailed: it does not compile, or no way of building it gives a library that works.
    """
    with _undisturbed(stack):
        return _built(_Job(stack, options, toolchain, proof_model, progress, prover))


@contextmanager
def _undisturbed(stack: Stack) -> Iterator[None]:
    """Hold the tree as it is: another llt that rebases it meanwhile would change what is compiled."""
    assert stack.tree_dir is not None
    with hold(home.trees_dir() / f"{stack.tree_dir.name}.lock", wait=True) as lock:
        tree = Tree(stack.tree_dir.name, lock)
        if tree.head != stack.applied.head or not tree.is_clean():
            raise CheckFailed(f"another llt or a person has changed {stack.tree_dir} just now: run it again")
        yield


def _built(job: _Job) -> Build:
    stack, options, toolchain = job.stack, job.options, job.toolchain
    refused: list[str] = []
    for mitigation in MITIGATIONS:
        if mitigation.cpu_flag and not _cpu_has(mitigation.cpu_flag):
            continue
        cmake = options.cmake(mitigation)
        # Not by the paths of ninja and the compilers: two virtual environments share one build.
        named = [arg for arg in toolchain.cmake_args if not _PROGRAM.match(arg)]
        machine = [_cpu()] if "-DGGML_NATIVE=ON" in cmake else []
        key = build_key(
            stack.applied.tree, [*cmake, *named, *toolchain.inputs, *machine], toolchain.cxx_version
        )
        folder = home.builds_dir() / f"{options.name}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "lock", timeout=0):
                made = _finished(folder, stack, options)
                if made is None:
                    made = _make(job, folder, mitigation, "; ".join(refused))
        except Timeout as error:
            raise CheckFailed(f"another `llt build` is at work in {folder}: wait for it to end") from error
        except _Unproved as error:
            refused.append(f"{mitigation.name}: {error}")
            log.warning("the build does not work (%s)", error)
            continue
        manifests.point_to(made)
        return made
    raise CheckFailed(
        f"no build of {stack.source.label} works on this machine ({'; '.join(refused)}): try another compiler"
        " with CC and CXX"
    )


class _Unproved(Exception):
    """A build compiled, but its proof failed; the text says how."""


def _make(job: _Job, folder: Path, mitigation: Mitigation, reason: str) -> Build:
    assert job.stack.tree_dir is not None
    verdict = folder / "unproved.txt"
    if verdict.is_file():
        raise _Unproved(
            f"{verdict.read_text(encoding='utf-8').strip()} (as seen before; remove {verdict} to retry)"
        )
    begun = time.monotonic()
    # Links of our own beside the build, so that no path that the compiler sees names the variant.
    upstream, native = _link(folder / "src", job.stack.tree_dir), _link(folder / "native", native_dir())
    made = folder / "out"
    configure(job.toolchain, native, upstream, made, job.options.cmake(mitigation))
    compile_targets(job.toolchain, made, job.options.targets, job.progress)
    declarations = folder / "declarations.h"
    write_declarations(upstream, job.toolchain.cc, declarations)
    write_layout(upstream, job.toolchain.cxx, declarations, folder / "layout.json")
    previous = _previous(folder)
    is_proved = previous is not None and previous.manifest.is_proved
    proof = previous.manifest.proof if previous and is_proved else _proved(job, made, verdict)
    return manifests.write(
        folder, _describe(job, folder, mitigation, reason, proof, time.monotonic() - begun)
    )


def _proved(job: _Job, made: Path, verdict: Path) -> list[dict[str, Any]]:
    job.progress(0, 0, "proving the build on f16, q8_0 and q4_K")
    program = made / "bin" / "llt_prove"
    with tempfile.TemporaryDirectory(prefix="llt-proof-") as scratch:
        proof = job.prover(program, job.proof_model(), Path(scratch), 0)
        if not proof.failure and job.options.backend != "cpu":
            gpu = job.prover(program, job.proof_model(), Path(scratch), _ALL_LAYERS)
            proof = Proof(gpu.failure and f"on the GPU: {gpu.failure}", proof.rows + gpu.rows, gpu.disturbed)
            if not gpu.failure and not gpu.rows:
                log.warning(
                    "no GPU is here to prove the %s kernels on: run the same command again where there is one",
                    job.options.backend,
                )
    if proof.failure and proof.disturbed:
        raise CheckFailed(f"the build could not be proved ({proof.failure}): mend that, and run it again")
    if proof.failure:
        write_text_atomic(verdict, proof.failure + "\n")
        raise _Unproved(proof.failure)
    return list(proof.rows)


def _describe(
    job: _Job, folder: Path, mitigation: Mitigation, reason: str, proof: list[dict[str, Any]], seconds: float
) -> Manifest:
    stack, binaries = job.stack, folder / "out" / "bin"
    programs = (*TOOL_TARGETS, *job.options.added_targets)
    files = [_hashed(folder, path) for path in _libraries(binaries)]
    library, shim = files[-2:]
    return Manifest(
        schema=2,
        backend=job.options.backend,
        variant=job.options.variant,
        pin=stack.source.label,
        upstream_origin=stack.source.origin,
        upstream_commit=stack.source.commit,
        upstream_tree=stack.source.tree,
        head=stack.applied.head,
        series_head=stack.series_head,
        tree=stack.applied.tree,
        series_digest=stack.series.digest,
        patches=[patch.name for patch in stack.series.patches],
        compiler=job.toolchain.cxx_version,
        cmake_options=job.options.cmake(mitigation),
        mitigation=mitigation.name,
        mitigation_reason=reason,
        native_digest=native_digest(),
        library=library.path,
        library_sha256=library.sha256,
        shim=shim.path,
        shim_sha256=shim.sha256,
        libraries=files,
        declarations="declarations.h",
        layout="layout.json",
        layout_sha256=sha256_file(folder / "layout.json"),
        tools={name: f"out/bin/{name}" for name in programs if (binaries / name).is_file()},
        rpc_server=_hashed(folder, binaries / RPC_SERVER) if job.options.rpc else None,
        proof=proof,
        seconds=round(seconds, 1),
    )


def _hashed(folder: Path, path: Path) -> LibraryFile:
    return LibraryFile(path=str(path.relative_to(folder)), sha256=sha256_file(path))


def _libraries(binaries: Path) -> list[Path]:
    """The real files of ggml, libllama and the shim, each after those that it is linked with."""
    # The plain names, without a version, are links that cmake makes; what is opened is what was hashed.
    backends = sorted(p.name for p in binaries.glob(f"libggml-*{_SUFFIX}") if p.name.count(".") == 1)
    first, last = f"libggml-base{_SUFFIX}", [f"lib{name}{_SUFFIX}" for name in ("ggml", "llama", "llt_shim")]
    names = [first, *(name for name in backends if name != first), *last]
    return [binaries / (binaries / name).resolve().name for name in names]


def _finished(folder: Path, stack: Stack, options: BuildOptions) -> Build | None:
    """The build in `folder` if it is of this very stack and has all that is asked for."""
    made = _previous(folder)
    if made is None or made.manifest.head != stack.applied.head:
        return None
    # The digest is of the patches' text, which may change and give the same tree.
    patches = [patch.name for patch in stack.series.patches]
    if (made.manifest.series_digest, made.manifest.patches) != (stack.series.digest, patches):
        return None
    if not made.manifest.is_proved:
        return None
    if not set(options.targets) <= {*LIBRARY_TARGETS, RPC_SERVER, *made.manifest.tools}:
        return None
    if not made.is_whole:
        return None
    damaged = made.damaged
    for path in damaged:
        # Newer than what it is made of, it would pass for made.
        log.warning("%s is not the file that was built: it is made again", path.name)
        path.unlink()
    return None if damaged else made


def _previous(folder: Path) -> Build | None:
    try:
        return manifests.load(folder / "manifest.json")
    except BadInput:
        return None


def _link(link: Path, target: Path) -> Path:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target, target_is_directory=True)
    return link


def _cpu_has(prefix: str) -> bool:
    return any(flag.startswith(prefix) for flag in _cpuinfo("flags").split())


def _cpu() -> str:
    """What code for this very CPU is for: two machines may share a folder of builds."""
    return f"{platform.processor()} {_cpuinfo('model name')} {_cpuinfo('flags')}"


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith(key)), "")
