"""Which of upstream's tests are run, with which arguments, and what came of one run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.shelf import synthetic

TARGETS = ("test-llama-archs", "test-arg-parser", "test-recurrent-state-rollback")
TIMEOUT_S = 1800.0

_CELL = re.compile(r"\x1b\[1;3\dm(OK|SKIP|FAIL)\x1b")


@dataclass(frozen=True)
class Case:
    """One run of one of upstream's test programs.

    Attributes:
        name: the program's, and what it is run on.
        program: one of `TARGETS`.
        model: gives the model that is its `-m`; None for a program that takes none.
        arguments: the rest of its command line.
        says: what its output must hold. These programs end with status 0 also where they skip all they are for.
        is_online: it fetches pages of ggml.ai.
    """

    name: str
    program: str
    says: str
    model: Callable[[], Path] | None = None
    arguments: tuple[str, ...] = ()
    is_online: bool = False


def _rollback(on: str, model: Callable[[], Path]) -> Case:
    # Upstream runs it on a model without recurrent state, where it ends at once; qwen3next has no rollback at the pin.
    return Case(
        f"test-recurrent-state-rollback on {on}", "test-recurrent-state-rollback",
        "checkpoint restored successfully", model, ("-c", "512", "-t", "1"),
    )  # fmt: skip


CASES = (
    # Its weights are random, by default with another seed each time; the two trees must get the same.
    Case("test-llama-archs", "test-llama-archs", "NMSE vs. CPU", arguments=("-s", "1")),
    Case("test-arg-parser", "test-arg-parser", "all tests OK", is_online=True),
    _rollback("qwen35moe", lambda: synthetic("tiny")),
    _rollback("qwen35", lambda: synthetic("tiny-dense")),
    _rollback("the miniature", miniature),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a case on one tree: whether it passed, seconds, and what there is to say in a few words."""

    passed: bool
    seconds: float
    detail: str


def run(program: Path, case: Case, env: dict[str, str], log: Path) -> Outcome:
    """Run a case's program and keep what it said.

    Args:
        program: the built program.
        case: what to run it with.
        env: variables over the process's own.
        log: the file to write its output to.
    """
    command = [str(program), *(("-m", str(case.model())) if case.model else ()), *case.arguments]
    # Each of its options can also come from a variable LLAMA_ARG_*; the user's are not the test's.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", timeout=TIMEOUT_S, check=False, env=clean | {"GGML_NO_BACKTRACE": "1"} | env,
        )  # fmt: skip
        status, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        raw = error.stdout or b""
        status, said = None, raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    seconds = time.monotonic() - begun
    log.write_text(said, encoding="utf-8")
    return judge(status, said, case.says, seconds)


def judge(status: int | None, said: str, says: str, seconds: float) -> Outcome:
    """The outcome of a program that ended with `status` (negative: that signal; None: not in time)."""
    cells = Counter(_CELL.findall(said))
    counted = ", ".join(f"{count} {word}" for word, count in sorted(cells.items()))
    if status == 0 and says in said:
        return Outcome(True, seconds, counted)
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "nothing")
    if status is None:
        how = f"no end after {seconds:.0f} s"
    elif status < 0:
        how = f"killed by {signal.Signals(-status).name}"
    elif status > 0:
        how = f"status {status}"
    else:
        how = f"status 0, but never '{says}'"
    return Outcome(False, seconds, "; ".join(filter(None, (how, counted, f"last said: {last[:200]}"))))
