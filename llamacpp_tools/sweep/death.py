"""Why a worker died, read from its exit status and from the last lines it printed."""

from __future__ import annotations

import itertools
import re
import signal

from llamacpp_tools.sweep.outcome import Status

# ggml prints `file:line: text` before it calls abort().
_ABORT = re.compile(
    r"^(?P<file>\S.*?\.(?:cpp|cc|cuh|cu|c|hpp|h|mm|m|comp)):(?P<line>\d+): (?P<text>.+)$", re.MULTILINE
)
_ASSERT = re.compile(r"GGML_ASSERT\(.*\) failed")
_WHAT = re.compile(r"^\s*what\(\):\s*(?P<text>.+)$", re.MULTILINE)
_NO_MEMORY = re.compile(
    r"failed to allocate|unable to allocate|out of memory|OutOfDeviceMemory|OutOfHostMemory|bad_alloc"
    r"|Cannot allocate memory|MemoryError",
    re.IGNORECASE,
)
# Vulkan's and CUDA's words for a GPU that was reset, hung or taken away under the process.
_LOST = re.compile(
    r"DeviceLost|DEVICE_LOST|device lost|illegal memory access|unspecified launch failure", re.IGNORECASE
)
# The folders of llama.cpp that hold sources; what lies before them is this machine's own.
_ROOTS = ("ggml", "src", "common", "include", "tools", "examples", "native")
_SIGNAL_HINTS = {
    "SIGKILL": " (the kernel does that when memory runs out)",
    "SIGILL": " (an instruction that this CPU does not have)",
    "SIGSEGV": " (a segmentation fault)",
    "SIGABRT": " (an abort)",
}


def short_source(path: str) -> str:
    """`path` from llama.cpp's own folder on: `/any/where/src/llama-graph.cpp` is `src/llama-graph.cpp`."""
    parts = path.replace("\\", "/").split("/")
    if "ggml" in parts:
        return "/".join(parts[parts.index("ggml", _last_checkout(parts)) :])
    for at in range(len(parts) - 2, -1, -1):
        if parts[at] in _ROOTS:
            return "/".join(parts[at:])
    return parts[-1]


def _last_checkout(parts: list[str]) -> int:
    # A checkout may itself lie below a folder called ggml: start at the last one that has `src` after it.
    pairs = itertools.pairwise(parts)
    found = [at for at, (part, below) in enumerate(pairs) if part == "ggml" and below in ("src", "include")]
    return found[-1] if found else 0


def abort_text(stderr: str) -> str | None:
    """The failed assert's text and place, with this machine's folders left out; None if there is none."""
    found = [match for match in _ABORT.finditer(stderr) if "GGML_ASSERT" in match["text"]]
    # An abort without an assert (`fatal error`) looks like any compiler's message, so the last one counts.
    match = found[0] if found else next(reversed(list(_ABORT.finditer(stderr))), None)
    if match is not None:
        return f"{match['text'].strip()} at {short_source(match['file'])}:{match['line']}"
    bare = _ASSERT.search(stderr)
    return bare[0] if bare else None


def ran_out_of_memory(stderr: str) -> bool:
    """Whether the printed lines tell of an allocation that failed."""
    return _no_memory_line(stderr) is not None


def explain(returncode: int, stderr: str) -> tuple[Status, str]:
    """The status and the reason of a worker that ended before it was done and said nothing itself.

    Args:
        returncode: as `subprocess` gives it, `-N` for a death by signal N.
        stderr: the last lines it printed.
    """
    text = abort_text(stderr)
    no_memory = _no_memory_line(stderr)
    if no_memory is not None:
        return "oom", f"memory ran out: {no_memory}"
    if lost := _LOST.search(stderr):
        return "crashed", f"the device was lost: {_line_of(stderr, lost)}"
    if text is not None and returncode < 0:
        return "crashed", text
    if returncode < 0:
        return "crashed", f"the worker was ended by {_signal_name(returncode)}{_thrown(stderr)}"
    return "crashed", f"the worker ended with exit code {returncode} before it was done{_last_line(stderr)}"


def _signal_name(returncode: int) -> str:
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        return f"signal {-returncode}"
    return name + _SIGNAL_HINTS.get(name, "")


def _thrown(stderr: str) -> str:
    match = _WHAT.search(stderr)
    return f": {match['text'].strip()}" if match else ""


def _no_memory_line(stderr: str) -> str | None:
    # Without pinned memory a GPU's transfers are slower, and that is all.
    for line in stderr.splitlines():
        if _NO_MEMORY.search(line) and "pinned" not in line:
            return line.strip()[:300]
    return None


def _line_of(stderr: str, match: re.Match[str]) -> str:
    return stderr[stderr.rfind("\n", 0, match.start()) + 1 :].splitlines()[0].strip()[:300]


def _last_line(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
