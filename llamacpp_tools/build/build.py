"""`llt build`: a stack, compiled into a folder of its own, proved, and described by a manifest."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from llamacpp_tools import home
from llamacpp_tools.build import manifest as manifests
from llamacpp_tools.build.cmake import Progress, compile_targets, configure
from llamacpp_tools.build.declarations import write_declarations
from llamacpp_tools.build.manifest import Build, Manifest
from llamacpp_tools.build.options import MITIGATIONS, BuildOptions, Mitigation, build_key, native_digest, native_dir
from llamacpp_tools.build.proof import Proof, prove
from llamacpp_tools.build.toolchain import Toolchain
from llamacpp_tools.errors import CheckFailed
from llamacpp_tools.files import sha256_file
from llamacpp_tools.stack.rebase import Stack

log = logging.getLogger(__name__)

_SUFFIX = ".so"

Prover = Callable[[Path, Path], Proof]


def build(
    stack: Stack, options: BuildOptions, toolchain: Toolchain, proof_model: Callable[[], Path], progress: Progress
) -> Build:
    """Build a stack, or find that it is built.

    Each mitigation is tried in turn until a build proves itself; the manifest says which it was and why.

    Args:
        stack: a checked-out stack.
        options: backend, variant, tools.
        toolchain: what `toolchain.require` found.
        proof_model: gives the tiny f32 GGUF for the proof; only called when something was compiled.
        progress: called with (steps done, steps in all, what).

    Raises:
        CheckFailed: it does not compile, or no way of building it gives a library that works.
    """
    assert stack.tree_dir is not None
    refused: list[str] = []
    for mitigation in MITIGATIONS:
        if mitigation.cpu_flag and not _cpu_has(mitigation.cpu_flag):
            continue
        cmake = options.cmake(mitigation)
        key = build_key(stack.applied.tree, [*cmake, *toolchain.cmake_args], toolchain.cxx_version)
        folder = home.builds_dir() / f"{options.variant}-{options.backend}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / "lock", timeout=0):
                made = _finished(folder, stack, options)
                if made is None:
                    reason = "; ".join(refused)
                    made = _make(folder, stack, options, toolchain, mitigation, reason, proof_model, progress)
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


def _make(
    folder: Path,
    stack: Stack,
    options: BuildOptions,
    toolchain: Toolchain,
    mitigation: Mitigation,
    reason: str,
    proof_model: Callable[[], Path],
    progress: Progress,
) -> Build:
    assert stack.tree_dir is not None
    verdict = folder / "unproved.txt"
    if verdict.is_file():
        raise _Unproved(verdict.read_text(encoding="utf-8").strip())
    begun = time.monotonic()
    # Links of our own beside the build, so that no path that the compiler sees names the variant.
    upstream, native = _link(folder / "src", stack.tree_dir), _link(folder / "native", native_dir())
    made = folder / "out"
    configure(toolchain, native, upstream, made, options.cmake(mitigation))
    compile_targets(toolchain, made, options.targets, progress)
    write_declarations(upstream, toolchain.cc, folder / "declarations.h")
    previous = _previous(folder)
    proof = previous.manifest.proof if previous else _proved(made, options, proof_model, progress, verdict)
    manifest = _describe(folder, stack, options, toolchain, mitigation, reason, proof, time.monotonic() - begun)
    return manifests.write(folder, manifest)


def _proved(
    made: Path, options: BuildOptions, proof_model: Callable[[], Path], progress: Progress, verdict: Path
) -> list[dict[str, object]]:
    progress(0, 0, "proving the build on f16, q8_0 and q4_K")
    with tempfile.TemporaryDirectory(prefix="llt-proof-") as scratch:
        proof = prove(made / "bin" / "llt_prove", proof_model(), Path(scratch))
        if not proof.failure and options.backend != "cpu":
            gpu = prove(made / "bin" / "llt_prove", proof_model(), Path(scratch), n_gpu_layers=999)
            proof = Proof(gpu.failure and f"on the GPU: {gpu.failure}", proof.rows + gpu.rows)
    if proof.failure:
        verdict.write_text(proof.failure + "\n", encoding="utf-8")
        raise _Unproved(proof.failure)
    return list(proof.rows)


def _describe(
    folder: Path,
    stack: Stack,
    options: BuildOptions,
    toolchain: Toolchain,
    mitigation: Mitigation,
    reason: str,
    proof: list[dict[str, object]],
    seconds: float,
) -> Manifest:
    binaries = folder / "out" / "bin"
    library, shim = binaries / f"libllama{_SUFFIX}", binaries / f"libllt_shim{_SUFFIX}"
    tools = {name: f"out/bin/{name}" for name in options_tools(binaries)}
    return Manifest(
        schema=1,
        backend=options.backend,
        variant=options.variant,
        pin=stack.source.label,
        upstream_origin=stack.source.origin,
        upstream_commit=stack.source.commit,
        upstream_tree=stack.source.tree,
        head=stack.applied.head,
        tree=stack.applied.tree,
        series_digest=stack.series.digest,
        patches=[patch.name for patch in stack.series.patches],
        compiler=toolchain.cxx_version,
        cmake_options=options.cmake(mitigation),
        mitigation=mitigation.name,
        mitigation_reason=reason,
        native_digest=native_digest(),
        library=str(library.relative_to(folder)),
        library_sha256=sha256_file(library),
        shim=str(shim.relative_to(folder)),
        shim_sha256=sha256_file(shim),
        declarations="declarations.h",
        tools=tools,
        proof=proof,
        seconds=round(seconds, 1),
    )


def options_tools(binaries: Path) -> list[str]:
    """Which of upstream's programs lie in a folder of binaries."""
    from llamacpp_tools.build.options import TOOL_TARGETS

    return [name for name in TOOL_TARGETS if (binaries / name).is_file()]


def _finished(folder: Path, stack: Stack, options: BuildOptions) -> Build | None:
    """The build in `folder` if it is of this very stack and has all that is asked for."""
    made = _previous(folder)
    if made is None or made.manifest.head != stack.applied.head:
        return None
    if not set(options.targets[2:]) <= made.manifest.tools.keys():
        return None
    return made if made.library.is_file() and made.shim.is_file() else None


def _previous(folder: Path) -> Build | None:
    path = folder / "manifest.json"
    return manifests.load(path) if path.is_file() else None


def _link(link: Path, target: Path) -> Path:
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target, target_is_directory=True)
    return link


def _cpu_has(prefix: str) -> bool:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return any(flag.startswith(prefix) for flag in flags.split())


def jobs_note() -> str:
    """How many steps run at once, in words."""
    return f"{psutil.cpu_count() or 1} at a time"
