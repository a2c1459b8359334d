"""What each backend's build needs, and whether this machine has it: asked before anything is compiled.

`requirements` lists; `require` hands out a `Toolchain` or names all that is missing with the command that
mends it. A check compiles or runs something tiny rather than trusting a name or a version.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from llamacpp_tools.build.machine import Machine, Ran, Requirement, join_mends, mend
from llamacpp_tools.build.options import BACKENDS
from llamacpp_tools.build.vulkan import VulkanPaths, device_requirement, vulkan_requirements
from llamacpp_tools.errors import BadInput, MissingTool

# cmake_minimum_required of `native/CMakeLists.txt`, above what upstream asks for at the pin.
CMAKE_MINIMUM = (3, 28)

# std::filesystem without a library of its own keeps out gcc 8, which upstream does not link with either.
_CXX_SOURCE = """
#include <filesystem>
#include <optional>
#include <string_view>
int main(int argc, char ** argv) {
    std::optional<std::filesystem::path> path;
    if (argc > 1) { path = std::string_view(argv[1]); }
    if constexpr (sizeof(void *) > 0) { return path && path->has_root_path() ? 1 : 0; }
}
"""
_C_SOURCE = '#include <stdint.h>\n_Static_assert(sizeof(int64_t) == 8, "");\nint main(void) { return 0; }\n'
_CUDA_SOURCE = """
#include <cublas_v2.h>
__global__ void probe() {}
int main() { probe<<<1, 1>>>(); return 0; }
"""
# Variables that cmake, the compilers and the linker heed.
_FLAGS = ("CFLAGS", "CXXFLAGS", "CUDAFLAGS", "LDFLAGS", "CPATH", "LIBRARY_PATH")
_CXX_PROGRAMS = ("g++", "clang++", "c++")


@dataclass(frozen=True)
class Toolchain:
    """The programs that a build uses, all checked.

    Attributes:
        cxx, cc: absolute paths of the C++ and the C compiler.
        cxx_version: the first line of the compiler's `--version`.
        cmake, ninja: their paths.
        ccache: its path, None where it is not installed.
        cmake_args: names these programs (and private headers) to cmake; no build options.
        inputs: what else a binary depends on: all that the compilers say of their versions, and the flags that cmake
            takes from the environment.
        env: variables to set over the process's own for every cmake and ninja call, so that a nested cmake
            (the Vulkan shader generator's) finds the same programs.
    """

    cxx: str
    cc: str
    cxx_version: str
    cmake: str
    ninja: str
    ccache: str | None
    cmake_args: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


def requirements(backend: str, machine: Machine | None = None) -> list[Requirement]:
    """All that `backend` needs, in the order a person would install it, found or not.

    Raises:
        BadInput: the backend is not one of `BACKENDS`.
    """
    machine = machine or Machine()
    found, tools = _survey(backend, machine)
    if backend == "vulkan":
        found.append(device_requirement(machine, tools.cxx if tools else None))
    return found


def missing(found: list[Requirement]) -> list[Requirement]:
    """Those that are not here and without which nothing can be built."""
    return [each for each in found if not each.ok and not each.is_optional]


def require(backend: str, machine: Machine | None = None) -> Toolchain:
    """The toolchain for `backend`.

    Raises:
        BadInput: the backend is not one of `BACKENDS`.
        MissingTool: something is missing; the sentence names all of it and the command that mends it.
    """
    machine = machine or Machine()
    found, tools = _survey(backend, machine)
    lacking = missing(found)
    if lacking or tools is None:
        raise MissingTool(_sentence(backend, lacking, machine))
    return tools


def _sentence(backend: str, lacking: list[Requirement], machine: Machine) -> str:
    names = ", ".join(f"{each.name} ({each.detail or each.needed})" for each in lacking)
    cure = join_mends(machine, [each.mend for each in lacking])
    return f"the {backend} backend cannot be built here, this machine lacks: {names}; to mend it: {cure}"


def _survey(backend: str, machine: Machine) -> tuple[list[Requirement], Toolchain | None]:
    if backend not in BACKENDS:
        raise BadInput(f"unknown backend '{backend}'; llt builds {', '.join(BACKENDS)}")
    cxx, cxx_need = _find_cxx(machine)
    cc, cc_need = _find_cc(machine, cxx)
    cmake_need = _find_cmake(machine, CMAKE_MINIMUM)
    ninja_need = _find_tool(machine, "ninja", "ninja that runs")
    found = [cxx_need, cc_need, cmake_need, ninja_need, _find_tool(machine, "git", "git that runs")]
    arguments: list[str] = []
    nvcc: str | None = None
    if backend == "vulkan":
        found += vulkan_requirements(machine, cxx, cmake_need.found)
        arguments = VulkanPaths.here(machine).cmake_args
    if backend == "cuda":
        cuda = _find_cuda(machine, cxx)
        found.append(cuda)
        nvcc = cuda.found
        # With the host compiler that it was tried with, not the one that it would take by itself.
        host = [f"-DCMAKE_CUDA_HOST_COMPILER={cxx}"] if cxx else []
        arguments = [f"-DCMAKE_CUDA_COMPILER={nvcc}", *host] if nvcc else []
    ccache = _find_tool(machine, "ccache", "makes later builds quicker", is_optional=True)
    found.append(ccache)
    if not (cxx and cc and cmake_need.found and ninja_need.found):
        return found, None
    named = {"CMAKE_CXX_COMPILER": cxx, "CMAKE_C_COMPILER": cc, "CMAKE_MAKE_PROGRAM": ninja_need.found}
    folders = dict.fromkeys(str(Path(tool).parent) for tool in (ninja_need.found, cmake_need.found))
    path = os.pathsep.join([*folders, *filter(None, [machine.environ.get("PATH", "")])])
    tools = Toolchain(
        cxx=cxx,
        cc=cc,
        cxx_version=machine.run([cxx, "--version"]).first_line,
        cmake=cmake_need.found,
        ninja=ninja_need.found,
        ccache=ccache.found,
        cmake_args=[*(f"-D{name}={value}" for name, value in named.items()), *arguments],
        inputs=_inputs(machine, [cxx, cc, *([nvcc] if nvcc else [])]),
        env={"CXX": cxx, "CC": cc, "PATH": path},
    )
    return found, tools


def _inputs(machine: Machine, compilers: list[str]) -> list[str]:
    flags = [f"{name}={machine.environ.get(name, '')}" for name in _FLAGS]
    return [*(machine.run([each, "--version"]).output for each in compilers), *flags]


def _compiler_words(machine: Machine, variable: str) -> tuple[str | None, str]:
    """The program that CXX or CC names, without a leading ccache, and what is wrong with it."""
    named = machine.named(variable)
    if named is None:
        return None, ""
    words = [word for word in shlex.split(named) if Path(word).name != "ccache"]
    if len(words) != 1:
        return None, f"{variable} is '{named}', but must name one program; flags belong into {variable}FLAGS"
    found = machine.which(words[0])
    return found, "" if found else f"{variable} names '{named}', which is not on the path"


def _find_cxx(machine: Machine) -> tuple[str | None, Requirement]:
    name, needed = "C++17 compiler", "compiles and links C++17"
    command = mend(machine, "cxx", "a C++17 compiler (gcc 9, clang 9 or newer)")
    named, detail = _compiler_words(machine, "CXX")
    candidates = [named] if named else []
    if machine.named("CXX") is None:
        candidates = [path for path in map(machine.which, _CXX_PROGRAMS) if path]
    for path in candidates:
        done = machine.compile(path, ".cpp", _CXX_SOURCE, ["-std=c++17"])
        if done.ok:
            version = _version(machine.run([path, "--version"]))
            return path, Requirement(name, path, version, needed, command)
        detail = detail or f"{path} fails: {done.complaint}"
    return None, Requirement(name, None, None, needed, command, detail=detail)


def _find_cc(machine: Machine, cxx: str | None) -> tuple[str | None, Requirement]:
    name, needed, command = "C compiler", "compiles and links C11", mend(machine, "cxx", "a C compiler")
    named, detail = _compiler_words(machine, "CC")
    candidates = [named] if named else []
    if machine.named("CC") is None:
        candidates = [path for path in map(machine.which, _c_programs(cxx)) if path]
    for path in candidates:
        done = machine.compile(path, ".c", _C_SOURCE, ["-std=c11"])
        if done.ok:
            return path, Requirement(name, path, _version(machine.run([path, "--version"])), needed, command)
        detail = detail or f"{path} fails: {done.complaint}"
    return None, Requirement(name, None, None, needed, command, detail=detail)


def _c_programs(cxx: str | None) -> tuple[str, ...]:
    if cxx is None:
        return ("gcc", "clang", "cc")
    # The sibling of the C++ compiler first: two vendors in one build is asking for trouble.
    own = Path(cxx).name.replace("clang++", "clang").replace("g++", "gcc").replace("c++", "cc")
    return (str(Path(cxx).with_name(own)), own, "cc")


def _find_cmake(machine: Machine, minimum: tuple[int, int]) -> Requirement:
    needed = f"{minimum[0]}.{minimum[1]} or newer"
    tool = _find_tool(machine, "cmake", needed)
    parts = tuple(int(part) for part in (tool.version or "0").split(".")[:2])
    if tool.ok and parts < minimum:
        detail = f"{tool.version} in {tool.found} is too old"
        return Requirement("cmake", None, tool.version, needed, tool.mend, detail=detail)
    return tool


def _find_tool(machine: Machine, program: str, needed: str, *, is_optional: bool = False) -> Requirement:
    """A program that must answer `--version`; this Python's own folder (a wheel's) comes before the path."""
    command = mend(machine, program, program)
    path = machine.find(program, [machine.scripts])
    detail = "" if path else "not on the path"
    version = None
    if path:
        answer = machine.run([path, "--version"])
        version = _version(answer)
        if not answer.ok:
            path, detail = None, f"{path} does not run: {answer.first_line}"
    return Requirement(program, path, version, needed, command, is_optional=is_optional, detail=detail)


def _find_cuda(machine: Machine, cxx: str | None) -> Requirement:
    needed = "nvcc that compiles C++17 with cuBLAS (CUDA 11 or newer)"
    command = mend(machine, "cuda", "the CUDA toolkit (from its maker)")
    roots = [machine.named(variable) for variable in ("CUDA_HOME", "CUDA_PATH")]
    folders = [Path(root) / "bin" for root in roots if root]
    named = machine.named("CUDACXX")
    nvcc = machine.which(named) if named else machine.find("nvcc", folders)
    if nvcc is None and named is None:
        nvcc = machine.find("nvcc", machine.cuda_folders)
    if nvcc is None:
        return Requirement("CUDA compiler", None, None, needed, command)
    version = _version(machine.run([nvcc, "--version"]), r"V(\d+\.\d+\.\d+)")
    host = ["-ccbin", cxx] if cxx else []
    done = machine.compile(nvcc, ".cu", _CUDA_SOURCE, ["-std=c++17", *host, "-lcublas"])
    if not done.ok:
        detail = f"{nvcc} fails: {done.complaint}"
        return Requirement("CUDA compiler", None, version, needed, command, detail=detail)
    return Requirement("CUDA compiler", nvcc, version, needed, command)


def _version(answer: Ran, pattern: str = r"(\d+\.\d+(?:\.\d+)*)") -> str | None:
    # gcc puts its package's name in brackets before the version: "g++ (Debian 12.2.0-14) 12.2.0".
    text = answer.output if pattern.startswith("V") else re.sub(r"\([^)]*\)", "", answer.first_line)
    found = re.search(pattern, text) if answer.ok else None
    return found[1] if found else None
