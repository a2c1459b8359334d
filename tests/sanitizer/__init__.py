"""Our shim under AddressSanitizer, LeakSanitizer and UBSan: what a test's child processes need, and what was found.

`make sanitize` sets `LLT_TEST_SANITIZE` and runs `tests/engine`: the `patched` build then has a sanitized shim, and
the fixture in `tests/engine/conftest.py` lets each test's children run with the sanitizers' runtime and fails the test
if they found something. libllama itself is not sanitized.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

WANTED = bool(os.environ.get("LLT_TEST_SANITIZE"))
CMAKE = ("-DLLT_SANITIZE=ON",) if WANTED else ()

_HERE = Path(__file__).resolve().parent
_RUNTIME = re.compile(r"^\s*lib(?:asan|stdc\+\+)\.so\S* => (\S+)", re.MULTILINE)
_LEAK = re.compile(r"^(?:Direct|Indirect) leak of .*?(?=^\s*$|\Z)", re.MULTILINE | re.DOTALL)
# A frame names its source file where it can, else its library.
_OURS = re.compile(r"/llt_\w+\.(?:cpp|h):\d|/lib(?:llt_shim|llama|ggml)[\w.-]*\.so")


class NoRuntime(Exception):
    """The shim was not built with a sanitizer's shared runtime."""


def environ(shim: Path, folder: Path) -> dict[str, str]:
    """The variables with which a Python process can load a sanitized shim and is checked.

    Args:
        shim: the sanitized library.
        folder: an existing folder for the reports; pass it to `findings` when the processes have ended.

    Raises:
        NoRuntime: it is not sanitized, or by a compiler that links the runtime into programs only (clang).
    """
    # In a test these variables are set already, and of what is preloaded ldd tells less.
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    told = subprocess.run(["ldd", str(shim)], capture_output=True, text=True, env=plain, check=True).stdout
    # libstdc++ as well: a runtime that starts before it never finds what throws an exception.
    runtime = sorted(_RUNTIME.findall(told))
    if not any("asan" in path for path in runtime):
        raise NoRuntime(f"{shim} does not need libasan: build it with gcc and LLT_SANITIZE")
    common = f"log_path={folder / 'report'}:abort_on_error=1"
    return {
        "LD_PRELOAD": " ".join(runtime),
        # The leaks are looked for by our sitecustomize, while the libraries that the stacks lead through are loaded.
        "ASAN_OPTIONS": f"{common}:detect_leaks=1:leak_check_at_exit=0",
        "UBSAN_OPTIONS": f"{common}:print_stacktrace=1",
        # Python's own allocator would hide from the sanitizers where an object ends and who points to it.
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(_HERE), os.environ.get("PYTHONPATH")])),
    }


def findings(folder: Path) -> list[str]:
    """What the reports in `folder` say of us, a text each: every error, and the leaks that C++ allocated.

    UBSan writes none (gcc's has its own idea of a log): it ends the process with SIGABRT and says why on stderr.

    A suppressions file could not tell these from Python's own: it suppresses by any frame, and whatever we
    allocate has Python's frames below ours.
    """
    found = []
    for report in sorted(folder.glob("report*")):
        text = report.read_text(encoding="utf-8", errors="replace")
        if "ERROR: LeakSanitizer: detected memory leaks" in text:
            found += [leak for leak in _LEAK.findall(text) if _OURS.search(leak)]
        else:
            found.append(text)
    return found
