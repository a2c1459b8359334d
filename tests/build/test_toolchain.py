import json
import os
import re
from pathlib import Path

import pytest

from llamacpp_tools.build.machine import Machine, Ran, join_mends, mend
from llamacpp_tools.build.options import BACKENDS, native_dir
from llamacpp_tools.build.toolchain import CMAKE_MINIMUM, missing, require, requirements
from llamacpp_tools.build.vulkan import driver_files, software_environ
from llamacpp_tools.errors import BadInput, MissingTool

DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
VERSIONS = {
    "cmake": "cmake version 3.28.3",
    "ninja": "1.11.1",
    "git": "git version 2.39.5",
    "ccache": "ccache version 4.7.5",
    "glslc": "shaderc v2023.2",
    "nvcc": "Cuda compilation tools, release 12.4, V12.4.131",
}
EVERYTHING = ("g++", "gcc", "cmake", "ninja", "git", "ccache", "glslc", "nvcc")


class Box:
    """A made-up machine: which programs are there, and which probe programs do not compile."""

    def __init__(self, programs=EVERYTHING, failing=(), printed="1.4.309"):
        self.programs = set(programs)
        self.failing = tuple(failing)  # texts; a probe that holds one does not compile
        self.printed = printed
        self.versions = dict(VERSIONS)
        self.commands = []

    def which(self, program):
        name = Path(program).name
        return f"/usr/bin/{name}" if name in self.programs else None

    def run(self, command):
        self.commands.append(list(command))
        program = Path(command[0]).name
        if "--version" in command:
            return Ran(0, self.versions.get(program, f"{program} (Debian 12.2.0-14) 12.2.0"))
        if program == "probe.out":
            return Ran(0, f"{self.printed}\nllt-device\t4\t1.4.305\tllvmpipe\n")
        if program == "cmake":
            return Ran(0, "-- llt-found /usr/share/cmake/SPIRV-Headers 1.5.5\n")
        if "-print-file-name=libvulkan.so" in command:
            return Ran(0, "/usr/lib/libvulkan.so\n")
        sources = [Path(word) for word in command if re.search(r"\.(c|cpp|cu|comp)$", word)]
        text = f"{program} {' '.join(command)} {sources[0].read_text()}"
        refused = next((word for word in self.failing if word in text), None)
        return Ran(1, f"{sources[0]}:1: error: no {refused}") if refused else Ran(0, "")

    def machine(self, **changes):
        given = {"environ": {"PATH": "/usr/bin"}, "scripts": Path("/nowhere"), "os_release": DEBIAN}
        given |= {"platform": "linux", "is_root": False, "cuda_folders": ()}
        return Machine(which=self.which, run=self.run, **(given | changes))


def test_a_machine_that_has_everything_gets_a_toolchain_for_every_backend():
    for backend in BACKENDS:
        tools = require(backend, Box().machine())
        assert (tools.cxx, tools.cc) == ("/usr/bin/g++", "/usr/bin/gcc")
        assert tools.ccache == "/usr/bin/ccache"
        assert "-DCMAKE_CXX_COMPILER=/usr/bin/g++" in tools.cmake_args
    assert "-DVulkan_GLSLC_EXECUTABLE=/usr/bin/glslc" in require("vulkan", Box().machine()).cmake_args
    assert "-DCMAKE_CUDA_COMPILER=/usr/bin/nvcc" in require("cuda", Box().machine()).cmake_args


@pytest.mark.parametrize(
    ("backend", "lost", "failing", "name", "cure"),
    [
        ("cpu", {"g++"}, (), "C++17 compiler", "sudo apt-get install -y g++"),
        ("cpu", {"gcc"}, (), "C compiler", "sudo apt-get install -y g++"),
        ("cpu", {"cmake"}, (), "cmake", "python -m pip install 'cmake>=3.28'"),
        ("cpu", {"ninja"}, (), "ninja", "python -m pip install ninja"),
        ("cpu", {"git"}, (), "git", "sudo apt-get install -y git"),
        ("vulkan", {"glslc"}, (), "glslc", "sudo apt-get install -y glslc"),
        ("vulkan", set(), ("--target-env=vulkan1.2",), "glslc", "sudo apt-get install -y glslc"),
        ("vulkan", set(), ("spirv.hpp",), "SPIRV-Headers", "sudo apt-get install -y spirv-headers"),
        (
            "vulkan",
            set(),
            ("vkEnumerateInstanceVersion",),
            "Vulkan loader",
            "sudo apt-get install -y libvulkan-dev",
        ),
        (
            "vulkan",
            set(),
            ("vulkan_core.h", "vulkan.hpp"),
            "Vulkan headers",
            "sudo apt-get install -y libvulkan-dev",
        ),
        ("cuda", {"nvcc"}, (), "CUDA compiler", "sudo apt-get install -y nvidia-cuda-toolkit"),
        ("cuda", set(), ("cublas_v2.h",), "CUDA compiler", "sudo apt-get install -y nvidia-cuda-toolkit"),
    ],
)
def test_one_thing_missing_is_named_with_the_command_that_mends_it(backend, lost, failing, name, cure):
    box = Box(set(EVERYTHING) - lost, failing)
    assert [each.name for each in missing(requirements(backend, box.machine()))] == [name]
    with pytest.raises(MissingTool) as caught:
        require(backend, box.machine())
    assert caught.value.exit_code == 3
    assert name in str(caught.value)
    assert str(caught.value).endswith(f"to mend it: {cure}")
    assert "llt-probe" not in str(caught.value)


def test_all_that_is_missing_is_one_sentence_and_one_command_per_installer():
    with pytest.raises(MissingTool) as caught:
        require("vulkan", Box(programs=()).machine())
    text = str(caught.value)
    assert "\n" not in text
    for name in ("C++17 compiler", "cmake", "ninja", "git", "Vulkan headers", "glslc", "SPIRV-Headers"):
        assert name in text
    assert text.count("apt-get") == 1
    assert "apt-get install -y g++ git libvulkan-dev glslc spirv-headers" in text
    assert "python -m pip install 'cmake>=3.28' ninja" in text


def test_what_the_cpu_lacks_is_not_asked_of_the_vulkan_packages():
    box = Box(programs={"g++", "gcc", "cmake", "ninja", "git"})
    assert require("cpu", box.machine()).ccache is None
    with pytest.raises(MissingTool, match="glslc"):
        require("vulkan", box.machine())


def test_headers_that_are_too_old_are_told_from_missing_ones():
    box = Box(failing=("LayerSettingEXT",), printed="1.3.239")
    headers = next(each for each in requirements("vulkan", box.machine()) if each.name == "Vulkan headers")
    assert headers.found is None
    assert headers.version == "1.3.239"
    with pytest.raises(MissingTool, match=r"1\.3\.239 .* is too old.*LLT_VULKAN_INCLUDE_DIR"):
        require("vulkan", box.machine())


def test_the_private_headers_folder_reaches_the_probe_and_cmake(tmp_path):
    box = Box()
    machine = box.machine(environ={"PATH": "/usr/bin", "LLT_VULKAN_INCLUDE_DIR": str(tmp_path)})
    assert f"-DVulkan_INCLUDE_DIR={tmp_path}" in require("vulkan", machine).cmake_args
    asked = [command for command in box.commands if "-isystem" in command]
    assert asked
    assert all(command[command.index("-isystem") + 1] == str(tmp_path) for command in asked)


@pytest.mark.parametrize("newer", [False, True])
def test_headers_are_judged_by_compiling_them(tmp_path, newer):
    # Real compiler, made-up headers: what decides is the type, not a file's name.
    folder = tmp_path / "vulkan"
    folder.mkdir()
    minor, patch = (4, 309) if newer else (3, 239)
    version = f"((1u << 22) | ({minor}u << 12) | {patch}u)"
    (folder / "vulkan_core.h").write_text(f"#define VK_HEADER_VERSION_COMPLETE {version}\n")
    kind = "struct LayerSettingEXT { unsigned valueCount = 0; };" if newer else ""
    (folder / "vulkan.hpp").write_text(f'#include "vulkan_core.h"\nnamespace vk {{ {kind} }}\n')
    machine = Machine(environ=dict(os.environ) | {"LLT_VULKAN_INCLUDE_DIR": str(tmp_path)})
    headers = next(each for each in requirements("vulkan", machine) if each.name == "Vulkan headers")
    assert headers.version == f"1.{minor}.{patch}"
    assert headers.found == (str(tmp_path) if newer else None)


def test_a_compiler_that_cannot_do_cxx17_is_passed_over_for_one_that_can():
    box = Box({*EVERYTHING, "clang++", "clang"}, failing=("g++ /usr/bin/g++",))
    tools = require("cpu", box.machine())
    assert (tools.cxx, tools.cc) == ("/usr/bin/clang++", "/usr/bin/clang")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("clang++", "/usr/bin/clang++"),
        ("ccache clang++", "/usr/bin/clang++"),
        ("g++ -m32", None),
        ("icpx", None),
    ],
)
def test_cxx_is_obeyed_or_refused_but_never_ignored(named, expected):
    box = Box({*EVERYTHING, "clang++", "clang"})
    machine = box.machine(environ={"PATH": "/usr/bin", "CXX": named})
    if expected:
        assert require("cpu", machine).cxx == expected
    else:
        with pytest.raises(MissingTool, match=re.escape(named)):
            require("cpu", machine)


def test_a_cmake_that_the_build_itself_would_refuse_is_too_old():
    asked = re.search(
        r"cmake_minimum_required\(VERSION (\d+)\.(\d+)", (native_dir() / "CMakeLists.txt").read_text()
    )
    assert tuple(map(int, asked.groups())) == CMAKE_MINIMUM
    box = Box()
    box.versions["cmake"] = "cmake version 3.27.9"
    for backend in BACKENDS:
        with pytest.raises(MissingTool, match=r"3\.27\.9 in /usr/bin/cmake is too old"):
            require(backend, box.machine())


def test_cuda_is_compiled_with_the_host_compiler_that_was_tried():
    box = Box({*EVERYTHING, "clang++", "clang"})
    made = require("cuda", box.machine(environ={"PATH": "/usr/bin", "CXX": "clang++"}))
    assert "-DCMAKE_CUDA_HOST_COMPILER=/usr/bin/clang++" in made.cmake_args
    tried = next(
        command for command in box.commands if Path(command[0]).name == "nvcc" and "-ccbin" in command
    )
    assert tried[tried.index("-ccbin") + 1] == "/usr/bin/clang++"


@pytest.mark.parametrize("flag", ["CFLAGS", "CXXFLAGS", "CUDAFLAGS", "LDFLAGS"])
def test_flags_of_the_environment_are_inputs_of_a_build(flag):
    plain, flagged = (
        require("cpu", Box().machine(environ={"PATH": "/usr/bin"} | more)).inputs
        for more in ({}, {flag: "-O0"})
    )
    assert plain != flagged


@pytest.mark.parametrize("program", ["gcc", "nvcc"])
def test_another_release_of_any_compiler_is_an_input_of_a_build(program):
    older, newer = Box(), Box()
    newer.versions[program] = f"{program} 99.1"
    assert require("cuda", older.machine()).inputs != require("cuda", newer.machine()).inputs


def test_a_wheels_ninja_beside_the_interpreter_comes_before_the_path(tmp_path):
    wheel = tmp_path / "ninja"
    wheel.write_text("#!/bin/sh\n")
    wheel.chmod(0o755)
    tools = require("cpu", Box().machine(scripts=tmp_path))
    assert tools.ninja == str(wheel)
    assert tools.env["PATH"].split(os.pathsep)[0] == str(tmp_path)
    assert tools.cmake == "/usr/bin/cmake"


def test_a_program_that_is_there_but_does_not_run_counts_as_missing():
    box = Box()
    machine = box.machine()
    broken = Machine(
        which=box.which,
        run=lambda command: Ran(127, "bad interpreter") if command[0].endswith("cmake") else box.run(command),
        environ=machine.environ, scripts=machine.scripts, os_release=DEBIAN, platform="linux", is_root=True,
    )  # fmt: skip
    with pytest.raises(MissingTool, match="cmake does not run: bad interpreter"):
        require("cpu", broken)


@pytest.mark.parametrize(
    ("fields", "platform", "expected"),
    [
        ({"ID": "debian"}, "linux", "sudo apt-get install -y glslc"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "linux", "sudo apt-get install -y glslc"),
        ({"ID": "fedora"}, "linux", "sudo dnf install -y glslc"),
        ({"ID": "arch"}, "linux", "sudo pacman -S --needed shaderc"),
        ({}, "darwin", "brew install shaderc"),
        ({"ID": "plan9"}, "linux", "install glslc the way your system does it"),
    ],
)
def test_the_mending_command_is_the_distributions_own(fields, platform, expected):
    machine = Box().machine(os_release=fields, platform=platform)
    assert mend(machine, "glslc", "glslc") == expected


def test_root_needs_no_sudo():
    assert mend(Box().machine(is_root=True), "glslc", "glslc") == "apt-get install -y glslc"


def test_mends_are_joined_without_repeats_and_sentences_stay_whole():
    machine = Box().machine()
    line = join_mends(
        machine, ["sudo apt-get install -y a", "do this", "sudo apt-get install -y a", "do this"]
    )
    assert line == "sudo apt-get install -y a; do this"


def test_the_same_probe_is_compiled_once_for_all_backends():
    box = Box()
    machine = box.machine()
    for backend in BACKENDS:
        requirements(backend, machine)
    assert sum("-std=c++17" in command and command[0] == "/usr/bin/g++" for command in box.commands) < 10
    assert sum("-std=c11" in command for command in box.commands) == 1


def test_an_unknown_backend_is_bad_input():
    with pytest.raises(BadInput, match="metal"):
        requirements("metal", Box().machine())


def test_a_software_device_is_named_as_such_and_asked_of_nobody():
    device = requirements("vulkan", Box().machine())[-1]
    assert device.found == "llvmpipe"
    assert device.version == "1.4.305"
    assert device.is_optional
    assert "GGML_VK_VISIBLE_DEVICES=0" in device.detail


def _manifest(folder, name, library):
    path = folder / "vulkan" / "icd.d" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"ICD": {"library_path": library}}))
    return path


def test_driver_manifests_are_those_the_loader_would_use(tmp_path):
    good = _manifest(tmp_path, "lvp_icd.x86_64.json", "libvulkan_lvp.so")
    _manifest(tmp_path, "gone_icd.json", "/no/such/library.so")
    (tmp_path / "vulkan/icd.d/torn_icd.json").write_text("{")
    nowhere = str(tmp_path / "none")
    environ = {"XDG_DATA_DIRS": str(tmp_path), "XDG_CONFIG_DIRS": nowhere, "XDG_DATA_HOME": nowhere}
    machine = Box().machine(environ=environ)
    # /etc is always looked at, so only this folder's are compared.
    assert [file for file in driver_files(machine) if tmp_path in file.parents] == [good]
    named = {"VK_DRIVER_FILES": str(good)}
    assert driver_files(Box().machine(environ=named)) == [good]
    assert software_environ(Box().machine(environ=named)) == {
        "GGML_VK_VISIBLE_DEVICES": "0",
        "VK_DRIVER_FILES": str(good),
        "VK_ICD_FILENAMES": str(good),
    }
    assert software_environ(Box().machine(environ={"VK_DRIVER_FILES": str(tmp_path / "none.json")})) == {}


def test_this_machine_can_build_for_the_cpu():
    tools = require("cpu")
    assert Machine().compile(tools.cxx, ".cpp", "int main() { return 0; }").ok
    assert re.search(r"\d+\.\d+", tools.cxx_version)
    assert tools.env["CXX"] == tools.cxx
    assert Path(tools.cmake).is_file()
    assert Path(tools.ninja).is_file()


@pytest.mark.vulkan
def test_this_machine_can_build_for_vulkan():
    lacking = missing(requirements("vulkan"))
    if lacking and os.environ.get("LLT_REQUIRE_VULKAN") != "1":
        pytest.skip("; ".join(f"{each.name}: {each.detail or each.needed}" for each in lacking))
    assert lacking == []
    assert requirements("vulkan")[-1].ok, "no Vulkan device"
