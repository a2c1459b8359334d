"""Configuring and compiling: cmake and ninja as child processes, their progress as numbers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from llamacpp_tools.build.toolchain import Toolchain
from llamacpp_tools.errors import CheckFailed

Progress = Callable[[int, int, str], None]

_STEP = re.compile(r"^\[(\d+)/(\d+)\] (.*)$")
_COMMIT_DIGITS = "12"
_MAKE_PROGRAM = re.compile(r"^CMAKE_MAKE_PROGRAM:\w+=(.*)$", re.M)


def configure(
    toolchain: Toolchain, source: Path, upstream: Path, folder: Path, options: Sequence[str]
) -> None:
    """Run cmake for the sources in `source` with the llama.cpp tree `upstream`, into `folder`.

    Raises:
        CheckFailed: cmake refused; the sentence holds its first error, the log lies in `folder`.
    """
    command = [
        toolchain.cmake, "-S", str(source), "-B", str(folder), "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={toolchain.ninja}", f"-DLLT_UPSTREAM={upstream}",
        *toolchain.cmake_args, *options,
    ]  # fmt: skip
    if toolchain.ccache:
        command += [f"-DCMAKE_{lang}_COMPILER_LAUNCHER={toolchain.ccache}" for lang in ("C", "CXX")]
    folder.mkdir(parents=True, exist_ok=True)
    _forget_other_ninja(toolchain, folder)
    log = folder / "configure.log"
    env = compile_env(toolchain, folder)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=env, check=False)
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        first = next((number for number, line in enumerate(lines) if line.startswith("CMake Error")), None)
        said = " ".join(" ".join(lines[first : first + 4]).split()) if first is not None else "no message"
        raise CheckFailed(f"cmake could not configure the build ({said}); the whole log is {log}")


def compile_targets(toolchain: Toolchain, folder: Path, targets: Sequence[str], progress: Progress) -> None:
    """Run ninja for `targets` in a configured folder; calls `progress(done, total, what)` as it goes.

    On Ctrl-C ninja is stopped and waited for, so its own log stays usable and the next call goes on.

    Raises:
        CheckFailed: a step failed; the sentence names it, the log lies in `folder`.
    """
    log = folder / "build.log"
    tail: deque[str] = deque(maxlen=200)
    command = [toolchain.ninja, "-C", str(folder), *targets]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=compile_env(toolchain, folder), start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                tail.append(line.rstrip())
                if step := _STEP.match(line):
                    progress(int(step[1]), int(step[2]), step[3].rsplit("/", 1)[-1].strip())
            status = process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise
    if status != 0:
        raise CheckFailed(f"the build failed at {_failed_step(tail)}; the whole log is {log}")


def _forget_other_ninja(toolchain: Toolchain, folder: Path) -> None:
    """Remove what an external project (the Vulkan shader generator) was configured with another ninja for.

    Its cache keeps the ninja of the virtual environment that built here before, which may be gone; unlike the build's
    own cache it is given no other.
    """
    for cache in list(folder.rglob("CMakeCache.txt")):
        named = _MAKE_PROGRAM.search(cache.read_text(encoding="utf-8", errors="replace"))
        if cache.parent == folder or named is None or named[1] == toolchain.ninja:
            continue
        shutil.rmtree(cache.parent)
        # What it believes to have done lies beside it.
        stamps = cache.parent.with_name(cache.parent.name.removesuffix("-build") + "-stamp")
        shutil.rmtree(stamps, ignore_errors=True)


def compile_env(toolchain: Toolchain, folder: Path) -> dict[str, str]:
    """The environment of cmake and ninja.

    ccache sees paths relative to the build's folder, so stock and patched trees share what is equal. How many digits
    of the commit upstream writes into its libraries does not hang on how many objects git holds.
    """
    count = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    return (
        os.environ
        | toolchain.env
        | {
            "CCACHE_BASEDIR": str(folder.parent),
            "CCACHE_NOHASHDIR": "1",
            "NINJA_STATUS": "[%f/%t] ",
            "CLICOLOR_FORCE": "0",
            "GIT_CONFIG_COUNT": str(count + 1),
            f"GIT_CONFIG_KEY_{count}": "core.abbrev",
            f"GIT_CONFIG_VALUE_{count}": _COMMIT_DIGITS,
            "LC_ALL": "C",
        }
    )


def _failed_step(tail: deque[str]) -> str:
    lines = list(tail)
    for number, line in enumerate(lines):
        if line.startswith("FAILED: "):
            error = next((text for text in lines[number:] if ": error:" in text or "Error" in text), "")
            what = line.removeprefix("FAILED: ").split()[-1].rsplit("/", 1)[-1]
            return f"{what} ({error.strip()})" if error else what
    return lines[-1] if lines else "its start"
