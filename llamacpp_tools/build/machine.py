"""What a machine offers, as seen by the toolchain checks: programs, environment, distribution.

Every check of `build.toolchain` and `build.vulkan` asks a `Machine` and nothing else, so a test can hand in
one that lacks any single thing.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

RUN_SECONDS = 60.0


@dataclass(frozen=True)
class Ran:
    """How a short command ended: its exit code, and both its streams as one text."""

    code: int
    output: str

    @property
    def ok(self) -> bool:
        """The command ended with 0."""
        return self.code == 0

    @property
    def first_line(self) -> str:
        """The first line of the output that is not empty, or an empty string."""
        return next((line.strip() for line in self.output.splitlines() if line.strip()), "")

    @property
    def complaint(self) -> str:
        """The line that says what went wrong, at most 200 characters, without the probe's own folder."""
        lines = [line.strip() for line in self.output.splitlines()]
        wanted = next((line for line in lines if "error" in line.lower() or "cannot" in line.lower()), "")
        text = wanted or self.first_line or f"exit code {self.code}"
        return re.sub(r"\S*/llt-probe-[^/\s]+/", "", text)[:200]


def run_command(command: Sequence[str]) -> Ran:
    """Run a short command without a shell or input; a program that cannot start or hangs is code 127."""
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=RUN_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Ran(127, str(error))
    return Ran(done.returncode, done.stdout)


def _os_release() -> Mapping[str, str]:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: "".join(shlex.split(value)) for key, _, value in pairs if not key.startswith("#")}


@dataclass(frozen=True)
class Machine:
    """The machine to be judged; the defaults are the one this runs on.

    Attributes:
        which: finds a program on the path, or None.
        run: runs a short command.
        environ: the environment variables.
        scripts: the folder of this Python's own programs (a wheel's cmake and ninja lie there).
        os_release: the fields of /etc/os-release; empty where there is none.
        platform: as `sys.platform`.
        is_root: whether commands need no sudo.
        cuda_folders: where nvcc lies when it is not on the path.
    """

    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], Ran] = run_command
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    # Not resolved: in a virtual environment the interpreter is a link, and the wheels lie beside the link.
    scripts: Path = field(default_factory=lambda: Path(sys.executable).parent)
    os_release: Mapping[str, str] = field(default_factory=_os_release)
    platform: str = sys.platform
    is_root: bool = field(default_factory=lambda: hasattr(os, "geteuid") and os.geteuid() == 0)
    cuda_folders: tuple[Path, ...] = (Path("/usr/local/cuda/bin"), Path("/opt/cuda/bin"))
    _compiled: dict[tuple[str, ...], Ran] = field(default_factory=dict, init=False, repr=False, compare=False)

    def named(self, variable: str) -> str | None:
        """The variable's value without outer blanks, None where it is unset or empty."""
        return self.environ.get(variable, "").strip() or None

    def find(self, program: str, folders: Iterable[Path] = ()) -> str | None:
        """The program in one of `folders`, else on the path."""
        for folder in folders:
            candidate = folder / program
            if candidate.is_file() and os.access(candidate, os.X_OK):
                return str(candidate)
        return self.which(program)

    def compile(self, compiler: str, suffix: str, source: str, flags: Sequence[str] = ()) -> Ran:
        """Compile `source` to a program in a folder of its own, which is removed again.

        `flags` come after the source, so libraries may stand there. The same question is asked once only:
        the backends have most of theirs in common.
        """
        key = (compiler, suffix, source, *flags)
        if key not in self._compiled:
            with tempfile.TemporaryDirectory(prefix="llt-probe-") as folder:
                file = Path(folder) / f"probe{suffix}"
                file.write_text(source, encoding="utf-8")
                command = [compiler, "-o", str(file.with_suffix(".out")), str(file), *flags]
                self._compiled[key] = self.run(command)
        return self._compiled[key]


@dataclass(frozen=True)
class Requirement:
    """One thing that a backend's build asks for, and what became of it here.

    Attributes:
        name: what it is, for people ("C++17 compiler").
        found: where or as what it was found; None where it is missing or not good enough.
        version: its version, also where it was refused for it; None where unknown.
        needed: what is asked for.
        mend: the command that brings it here, or a sentence where no command does.
        is_optional: reported, but the build does without it.
        detail: why what is there was refused, or what to know about it; may be empty.
    """

    name: str
    found: str | None
    version: str | None
    needed: str
    mend: str
    is_optional: bool = False
    detail: str = ""

    @property
    def ok(self) -> bool:
        """It is here and good enough."""
        return self.found is not None


@dataclass(frozen=True)
class _Installer:
    command: str
    packages: Mapping[str, str]


_APT = _Installer(
    "apt-get install -y",
    {
        "cxx": "g++",
        "git": "git",
        "ccache": "ccache",
        "vulkan-headers": "libvulkan-dev",
        "vulkan-loader": "libvulkan-dev",
        "glslc": "glslc",
        "spirv-headers": "spirv-headers",
        "vulkan-driver": "mesa-vulkan-drivers",
        "cuda": "nvidia-cuda-toolkit",
    },
)
_DNF = _Installer(
    "dnf install -y",
    {
        "cxx": "gcc-c++",
        "git": "git",
        "ccache": "ccache",
        "vulkan-headers": "vulkan-headers",
        "vulkan-loader": "vulkan-loader-devel",
        "glslc": "glslc",
        "spirv-headers": "spirv-headers-devel",
        "vulkan-driver": "mesa-vulkan-drivers",
    },
)
_PACMAN = _Installer(
    "pacman -S --needed",
    {
        "cxx": "gcc",
        "git": "git",
        "ccache": "ccache",
        "vulkan-headers": "vulkan-headers",
        "vulkan-loader": "vulkan-icd-loader",
        "glslc": "shaderc",
        "spirv-headers": "spirv-headers",
        "vulkan-driver": "vulkan-swrast",
        "cuda": "cuda",
    },
)
_BREW = _Installer(
    "brew install",
    {
        "cxx": "llvm",
        "git": "git",
        "ccache": "ccache",
        "vulkan-headers": "vulkan-headers",
        "vulkan-loader": "vulkan-loader",
        "glslc": "shaderc",
        "spirv-headers": "spirv-headers",
        "vulkan-driver": "molten-vk",
    },
)
_INSTALLERS = {"debian": _APT, "ubuntu": _APT, "fedora": _DNF, "rhel": _DNF, "arch": _PACMAN}
_WHEELS = {"cmake": "cmake>=3.28", "ninja": "ninja"}


def _installer(machine: Machine) -> _Installer | None:
    if machine.platform == "darwin":
        return _BREW
    fields = machine.os_release
    known = [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]
    return next((_INSTALLERS[name] for name in known if name in _INSTALLERS), None)


def _prefix(machine: Machine, installer: _Installer) -> str:
    # brew refuses to run as root; the others need it.
    needs_sudo = installer is not _BREW and not machine.is_root
    return f"sudo {installer.command}" if needs_sudo else installer.command


def mend(machine: Machine, thing: str, label: str) -> str:
    """The command that installs `thing` (a key such as "glslc") here.

    On a distribution that is not known it is a sentence that names `label` instead.
    """
    if thing in _WHEELS:
        return f"python -m pip install {shlex.quote(_WHEELS[thing])}"
    installer = _installer(machine)
    if installer is None or thing not in installer.packages:
        return f"install {label} the way your system does it"
    return f"{_prefix(machine, installer)} {installer.packages[thing]}"


def join_mends(machine: Machine, mends: Iterable[str]) -> str:
    """One line out of many mends: commands of the same installer become one, in the order given."""
    installer = _installer(machine)
    prefixes = ["python -m pip install", *([_prefix(machine, installer)] if installer else [])]
    merged: dict[str, list[str]] = {}
    for text in mends:
        prefix = next((known for known in prefixes if text.startswith(f"{known} ")), "")
        arguments = text.removeprefix(f"{prefix} ") if prefix else ""
        kept = merged.setdefault(prefix or text, [])
        if arguments and arguments not in kept:
            kept.append(arguments)
    return "; ".join(" ".join([head, *arguments]) for head, arguments in merged.items())
