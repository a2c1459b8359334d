"""What a Vulkan build asks for: headers, loader, glslc, SPIRV-Headers; and the drivers that are here.

Nothing is judged by a version number alone where a tiny program can ask the real question. What is asked is
what `ggml/src/ggml-vulkan` asks at the pin: `find_package(Vulkan COMPONENTS glslc)`,
`find_package(SPIRV-Headers CONFIG)`, `<spirv/unified1/spirv.hpp>`, and `vk::LayerSettingEXT`, which came with
the headers 1.3.272 (VK_EXT_layer_settings).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.build.machine import Machine, Requirement, mend

INCLUDE_VARIABLE = "LLT_VULKAN_INCLUDE_DIR"
HEADERS_NEEDED = "headers with vk::LayerSettingEXT (1.3.272 or newer)"
CPU_DEVICE = 4  # VK_PHYSICAL_DEVICE_TYPE_CPU

_VERSION_SOURCE = """
#include <vulkan/vulkan_core.h>
#include <cstdio>
int main() {
    unsigned v = VK_HEADER_VERSION_COMPLETE;
    std::printf("%u.%u.%u\\n", (v >> 22) & 0x7f, (v >> 12) & 0x3ff, v & 0xfff);
}
"""
_LAYER_SOURCE = """
#include <vulkan/vulkan.hpp>
int main() { vk::LayerSettingEXT setting; return setting.valueCount == 0 ? 0 : 1; }
"""
_LOADER_SOURCE = """
#include <cstdint>
extern "C" int vkEnumerateInstanceVersion(std::uint32_t *);
int main() { std::uint32_t version = 0; return vkEnumerateInstanceVersion(&version); }
"""
# Runs in a process of its own, so a driver that crashes takes nothing with it.
_DEVICES_SOURCE = """
#include <vulkan/vulkan.h>
#include <cstdio>
#include <vector>
int main() {
    VkApplicationInfo app = {};
    app.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
    app.apiVersion = VK_API_VERSION_1_2;
    VkInstanceCreateInfo info = {};
    info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
    info.pApplicationInfo = &app;
    VkInstance instance = nullptr;
    if (vkCreateInstance(&info, nullptr, &instance) != VK_SUCCESS) { return 1; }
    uint32_t count = 0;
    vkEnumeratePhysicalDevices(instance, &count, nullptr);
    std::vector<VkPhysicalDevice> devices(count);
    vkEnumeratePhysicalDevices(instance, &count, devices.data());
    for (VkPhysicalDevice device : devices) {
        VkPhysicalDeviceProperties is;
        vkGetPhysicalDeviceProperties(device, &is);
        unsigned v = is.apiVersion;
        std::printf("llt-device\\t%d\\t%u.%u.%u\\t%s\\n", static_cast<int>(is.deviceType), (v >> 22) & 0x7f,
                    (v >> 12) & 0x3ff, v & 0xfff, is.deviceName);
    }
}
"""
_SPIRV_SOURCE = """
#include <spirv/unified1/spirv.hpp>
int main() { return spv::OpCodeMask == 0xffff ? 0 : 1; }
"""
_SPIRV_CMAKE = """
cmake_minimum_required(VERSION 3.19)
project(probe CXX)
if (DEFINED ENV{VULKAN_SDK})
    list(APPEND CMAKE_PREFIX_PATH "$ENV{VULKAN_SDK}")
endif()
find_package(SPIRV-Headers CONFIG REQUIRED)
message(STATUS "llt-found ${SPIRV-Headers_DIR} ${SPIRV-Headers_VERSION}")
"""
_SHADER = "#version 450\nlayout(local_size_x = 1) in;\nvoid main() {}\n"


@dataclass(frozen=True)
class VulkanPaths:
    """Where the build is told to look; None means "where the compiler and cmake look by themselves"."""

    include_dir: Path | None
    library_dir: Path | None
    glslc: str | None

    @classmethod
    def here(cls, machine: Machine) -> VulkanPaths:
        """From LLT_VULKAN_INCLUDE_DIR, then VULKAN_SDK, then the path."""
        named, sdk = machine.named(INCLUDE_VARIABLE), machine.named("VULKAN_SDK")
        folder = Path(named).expanduser().absolute() if named else None
        root = Path(sdk) if sdk else None
        return cls(
            include_dir=folder or (root / "include" if root else None),
            library_dir=root / "lib" if root else None,
            glslc=machine.find("glslc", [root / "bin"] if root else []),
        )

    @property
    def compile_flags(self) -> list[str]:
        """The compiler's flags for these headers."""
        return ["-std=c++17", *(["-isystem", str(self.include_dir)] if self.include_dir else [])]

    @property
    def link_flags(self) -> list[str]:
        """The linker's flags for the loader."""
        return [*([f"-L{self.library_dir}"] if self.library_dir else []), "-lvulkan"]

    @property
    def cmake_args(self) -> list[str]:
        """What cmake's FindVulkan must be told to come to the same answer."""
        arguments = [f"-DVulkan_INCLUDE_DIR={self.include_dir}"] if self.include_dir else []
        return [*arguments, *([f"-DVulkan_GLSLC_EXECUTABLE={self.glslc}"] if self.glslc else [])]


def vulkan_requirements(machine: Machine, cxx: str | None, cmake: str | None) -> list[Requirement]:
    """The Vulkan part of what a build requires.

    Without a compiler (or cmake) what can only be judged with one counts as missing.
    """
    paths = VulkanPaths.here(machine)
    return [
        _headers(machine, cxx, paths),
        _loader(machine, cxx, paths),
        _glslc(machine, paths),
        _spirv(machine, cxx, cmake, paths),
    ]


def _headers(machine: Machine, cxx: str | None, paths: VulkanPaths) -> Requirement:
    version, usable = None, False
    if cxx:
        version = _output(machine, cxx, _VERSION_SOURCE, paths.compile_flags).partition("\n")[0] or None
        usable = version is not None and machine.compile(cxx, ".cpp", _LAYER_SOURCE, paths.compile_flags).ok
    place = str(paths.include_dir) if paths.include_dir else "the compiler's own folders"
    command = mend(machine, "vulkan-headers", "the Vulkan headers (Vulkan-Hpp included)")
    detail = ""
    if version and not usable:
        detail = f"{version} in {place} is too old"
        # The distribution's own package is what is too old, so its command would mend nothing.
        command = (
            "bash .ci/vulkan-deps.sh vulkan.env && . ./vulkan.env (in a checkout of llt, on Debian 12), or "
            f"unpack a newer release's Vulkan headers into a folder and set {INCLUDE_VARIABLE} to it"
        )
    elif not usable and machine.named(INCLUDE_VARIABLE):
        detail = f"{INCLUDE_VARIABLE} is set, but there is no usable vulkan/vulkan.hpp in {place}"
    found = place if usable else None
    return Requirement("Vulkan headers", found, version, HEADERS_NEEDED, command, detail=detail)


def _output(machine: Machine, cxx: str, source: str, flags: list[str]) -> str:
    """What the program printed, empty where it does not compile or fails."""
    with tempfile.TemporaryDirectory(prefix="llt-probe-") as folder:
        file, program = Path(folder) / "probe.cpp", Path(folder) / "probe.out"
        file.write_text(source, encoding="utf-8")
        if not machine.run([cxx, "-o", str(program), str(file), *flags]).ok:
            return ""
        done = machine.run([str(program)])
        return done.output if done.ok else ""


def _loader(machine: Machine, cxx: str | None, paths: VulkanPaths) -> Requirement:
    linked = cxx is not None and machine.compile(cxx, ".cpp", _LOADER_SOURCE, paths.link_flags).ok
    place = None
    if cxx and linked:
        named = machine.run([cxx, "-print-file-name=libvulkan.so"]).first_line
        place = os.path.normpath(named) if named.startswith("/") else "libvulkan"
    command = mend(machine, "vulkan-loader", "the Vulkan loader with its development files")
    return Requirement("Vulkan loader", place, None, "libvulkan to link with", command)


def _glslc(machine: Machine, paths: VulkanPaths) -> Requirement:
    command = mend(machine, "glslc", "glslc (of shaderc)")
    needed = "glslc that compiles for Vulkan 1.2"
    if paths.glslc is None:
        return Requirement("glslc", None, None, needed, command)
    version = machine.run([paths.glslc, "--version"]).first_line or None
    with tempfile.TemporaryDirectory(prefix="llt-probe-") as folder:
        shader = Path(folder) / "probe.comp"
        shader.write_text(_SHADER, encoding="utf-8")
        output = Path(folder) / "probe.spv"
        flags = ["-fshader-stage=compute", "--target-env=vulkan1.2"]
        done = machine.run([paths.glslc, *flags, str(shader), "-o", str(output)])
    if not done.ok:
        detail = f"{paths.glslc} does not compile a shader: {done.complaint}"
        return Requirement("glslc", None, version, needed, command, detail=detail)
    return Requirement("glslc", paths.glslc, version, needed, command)


def _spirv(machine: Machine, cxx: str | None, cmake: str | None, paths: VulkanPaths) -> Requirement:
    needed = "spirv/unified1/spirv.hpp and its cmake package"
    command = mend(machine, "spirv-headers", "SPIRV-Headers")
    detail, found, version = "", None, None
    if cxx and cmake and machine.compile(cxx, ".cpp", _SPIRV_SOURCE, paths.compile_flags).ok:
        place = _spirv_package(machine, cxx, cmake)
        if place:
            found, version = place
        else:
            detail = "spirv.hpp is here, but cmake finds no SPIRV-Headers package"
    return Requirement("SPIRV-Headers", found, version, needed, command, detail=detail)


def _spirv_package(machine: Machine, cxx: str, cmake: str) -> tuple[str, str | None] | None:
    with tempfile.TemporaryDirectory(prefix="llt-probe-") as folder:
        (Path(folder) / "CMakeLists.txt").write_text(_SPIRV_CMAKE, encoding="utf-8")
        build = Path(folder) / "build"
        ninja = machine.find("ninja", [machine.scripts])
        tool = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        done = machine.run([cmake, "-S", folder, "-B", str(build), f"-DCMAKE_CXX_COMPILER={cxx}", *tool])
    found = re.search(r"llt-found (\S+) ?(\S*)", done.output) if done.ok else None
    return (found[1], found[2] or None) if found else None


def device_requirement(machine: Machine, cxx: str | None) -> Requirement:
    """The Vulkan devices that the installed drivers offer; needed to run, not to build.

    The loader is asked in a small program; without a compiler only the installed drivers can be named.
    """
    drivers = ", ".join(sorted({_driver_name(path) for path in driver_files(machine)}))
    devices = _devices(machine, cxx) if cxx else []
    detail = f"installed drivers: {drivers}; none offers a device" if drivers else "no driver is installed"
    if devices and all(kind == CPU_DEVICE for kind, _, _ in devices):
        detail = "software only: ggml hides it unless GGML_VK_VISIBLE_DEVICES=0 is set"
    elif devices:
        detail = ""
    return Requirement(
        "Vulkan device",
        ", ".join(name for _, _, name in devices) or None,
        devices[0][1] if devices else None,
        "to run (not to build): a driver that offers a device",
        mend(machine, "vulkan-driver", "a Vulkan driver"),
        is_optional=True,
        detail=detail,
    )


def _devices(machine: Machine, cxx: str) -> list[tuple[int, str, str]]:
    """Type, API version and name of each device."""
    paths = VulkanPaths.here(machine)
    printed = _output(machine, cxx, _DEVICES_SOURCE, [*paths.compile_flags, *paths.link_flags])
    rows = [line.split("\t", 3) for line in printed.splitlines() if line.startswith("llt-device\t")]
    return [(int(kind), version, name) for _, kind, version, name in rows]


def driver_files(machine: Machine) -> list[Path]:
    """The driver manifests the Vulkan loader would read, in its order of folders.

    VK_DRIVER_FILES (or the older VK_ICD_FILENAMES) replaces the folders, as it does for the loader.
    """
    named = machine.named("VK_DRIVER_FILES") or machine.named("VK_ICD_FILENAMES")
    if named:
        listed = [Path(part) for part in named.split(os.pathsep) if part]
        files = [
            file for path in listed for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])
        ]
    else:
        data = machine.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        config = machine.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
        home = machine.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
        roots = [*config.split(os.pathsep), "/etc", home, *data.split(os.pathsep)]
        files = [file for root in roots if root for file in sorted(Path(root).glob("vulkan/icd.d/*.json"))]
    return [file for file in files if _names_library(file)]


def software_environ(machine: Machine) -> dict[str, str]:
    """The variables that make ggml run on Mesa's software driver (llvmpipe) and on nothing else.

    Empty where that driver is not installed. ggml hides devices of type CPU unless they are named by
    number; with no other driver loaded, llvmpipe is number 0.
    """
    files = [str(path) for path in driver_files(machine) if _driver_name(path) == "lvp"]
    if not files:
        return {}
    # Loaders before 1.3.207 know the older name only.
    return {"GGML_VK_VISIBLE_DEVICES": "0", "VK_DRIVER_FILES": files[0], "VK_ICD_FILENAMES": files[0]}


def _names_library(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        library = content["ICD"]["library_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # A bare name is looked up by the dynamic loader; a path must be there.
    return isinstance(library, str) and ("/" not in library or (manifest.parent / library).exists())


def _driver_name(manifest: Path) -> str:
    # lvp_icd.json, lvp_icd.x86_64.json -> lvp
    return re.sub(r"_icd$", "", manifest.name.partition(".")[0])
