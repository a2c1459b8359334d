"""What a build can be asked for, the cmake options that say it, and the key its folder is named by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

VARIANTS = ("patched", "stock")
LIBRARY_TARGETS = ("llt_shim", "llt_prove")
TOOL_TARGETS = ("llama-bench", "llama-server", "llama-cli", "llama-completion", "llama-quantize")

# Off: what needs the network, and what nobody asked for. `--tools` only adds targets, so that the folder,
# and with it libllama, is the same with and without the programs.
_COMMON = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAMA_BUILD_COMMON=ON",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_ALL_WARNINGS=OFF",
    "-DGGML_ALL_WARNINGS=OFF",
    "-DGGML_CCACHE=OFF",
)
# RDMA is off, so that what a server speaks does not depend on the libraries that happen to be there.
_RPC = ("-DGGML_RPC=ON", "-DGGML_RPC_RDMA=OFF")
RPC_SERVER = "ggml-rpc-server"

_BACKEND = {"cpu": (), "vulkan": ("-DGGML_VULKAN=ON",), "cuda": ("-DGGML_CUDA=ON",)}

BACKENDS = tuple(sorted(_BACKEND))

_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


@dataclass(frozen=True)
class Mitigation:
    """A way to build around something that this machine's compiler gets wrong.

    Attributes:
        name: as the manifest records it.
        cmake: the options that do it.
        cpu_flag: only worth trying on a CPU that reports a flag which begins so; empty for any.
        why: what it is known to help against.
    """

    name: str
    cmake: tuple[str, ...]
    cpu_flag: str
    why: str


NONE = Mitigation("none", ("-DGGML_NATIVE=ON",), "", "")
MITIGATIONS = (
    NONE,
    Mitigation(
        "no-amx",
        ("-DGGML_NATIVE=ON", f"-DCMAKE_C_FLAGS={_NO_AMX}", f"-DCMAKE_CXX_FLAGS={_NO_AMX}"),
        "amx",
        "gcc 12 drops stores to the AMX tile configuration, and quantised weights crash",
    ),
    Mitigation(
        "no-native", ("-DGGML_NATIVE=OFF",), "", "code for this very CPU is wrong, code for AVX2 may not be"
    ),
)


@dataclass(frozen=True)
class BuildOptions:
    """One thing to build.

    Attributes:
        backend: `cpu`, `vulkan` or `cuda` (the CPU backend is always in).
        variant: `patched` or `stock`, then `-without-NAME` and `-onto-REF` where that was asked.
        tools: also build upstream's own programs.
        rpc: with the RPC backend and its server, so that layers can lie on other machines; a build of its own, as
            one without it must not be able to reach for the network.
        added_cmake: options for cmake after ours, so that they win; what is not for everyone's build (upstream's
            tests, sanitizers) is asked for here, under a variant of its own.
        added_targets: programs to build besides, named in the manifest as upstream's other programs are.
    """

    backend: str = "cpu"
    variant: str = "patched"
    tools: bool = False
    rpc: bool = False
    added_cmake: tuple[str, ...] = ()
    added_targets: tuple[str, ...] = ()

    @property
    def targets(self) -> tuple[str, ...]:
        """What ninja is asked for."""
        server = (RPC_SERVER,) if self.rpc else ()
        return LIBRARY_TARGETS + (TOOL_TARGETS if self.tools else ()) + server + self.added_targets

    @property
    def name(self) -> str:
        """Variant and backend as they name folders: `patched-cpu`, `patched-cpu-rpc`."""
        return build_name(self.backend, self.variant, self.rpc)

    def cmake(self, mitigation: Mitigation = NONE) -> list[str]:
        """The options for cmake that the build's folder and libllama depend on."""
        rpc = _RPC if self.rpc else ()
        return [*_COMMON, *_BACKEND[self.backend], *rpc, *mitigation.cmake, *self.added_cmake]


def build_name(backend: str, variant: str, rpc: bool = False) -> str:
    """What names a build's folder and the file that points to it."""
    return f"{variant}-{backend}{'-rpc' if rpc else ''}"


def split_name(name: str) -> tuple[str, str, bool]:
    """(backend, variant, rpc) of what `build_name` gave."""
    plain = name.removesuffix("-rpc")
    variant, _, backend = plain.rpartition("-")
    return backend, variant, plain != name


def build_key(tree: str, cmake: list[str], compiler: str) -> str:
    """Twelve hex digits that name a build folder: the source tree, our native sources, options, compiler."""
    digest = hashlib.sha256()
    for part in (tree, native_digest(), compiler, *cmake):
        digest.update(part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def native_dir() -> Path:
    """The folder with our C++ sources and their CMakeLists.txt."""
    return Path(str(resources.files("llamacpp_tools.build") / "native"))


def native_digest() -> str:
    """SHA-256 (hex) over the names and bytes of our C++ sources."""
    digest = hashlib.sha256()
    for path in sorted(native_dir().iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
