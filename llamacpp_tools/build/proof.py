"""A finished build proves itself before anyone measures with it.

A child process (`native/llt_prove.cpp`) decodes a tiny model in f32, f16, q8_0 and q4_K at batches of 1 to 64
and reports how far each is from f32 and from batch 1. A build that dies, or is farther off than the format's
own rounding explains, is not handed out. The reason this exists: gcc 12 builds a ggml whose quantised
kernels crash on CPUs with AMX, while everything that a quick look tries (f16, batch 1) works.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Normalised mean squared errors. A wrong kernel gives about 2 (unrelated logits), so the bounds need not be
# tight; they are several times what correct CPU and Vulkan builds of the pin gave on the tiny model.
NMSE_F32 = {"f32": 1e-4, "f16": 1e-2, "q8_0": 5e-2, "q4_K": 0.2}
NMSE_SINGLE = 2e-2
TIMEOUT_S = 900.0

Runner = Callable[[Sequence[str], float], "Ended"]


@dataclass(frozen=True)
class Ended:
    """How a child ended: status as subprocess gives it (negative: killed by that signal), and what it said."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Proof:
    """The verdict: `failure` is empty for a build that may be used; `rows` is what was measured.

    Without rows and failure there was nothing to try it on: no GPU is here. It says nothing of the build if it is
    `disturbed`: no memory, a full disk, a GPU that others have, no end in time.
    """

    failure: str
    rows: tuple[dict[str, Any], ...]
    disturbed: bool = False


def prove(
    program: Path, model: Path, folder: Path, n_gpu_layers: int = 0, runner: Runner | None = None
) -> Proof:
    """Run the proof program of a build on a tiny f32 model.

    Args:
        program: the build's `llt_prove`.
        model: a tiny f32 GGUF.
        folder: an existing folder for the quantised copies.
        n_gpu_layers: layers on the GPU; 0 proves the CPU backend.
        runner: how the child is run; tests pass their own.
    """
    command = [str(program), str(model), str(folder), str(n_gpu_layers)]
    ended = (runner or _run)(command, TIMEOUT_S)
    said = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    rows = tuple({**line, "n_gpu_layers": n_gpu_layers} for line in said if line["step"] == "decoded")
    return Proof(_failure(ended, said, rows), rows, ended.status > 0 or ended.status == -signal.SIGKILL)


def _failure(ended: Ended, said: list[dict[str, Any]], rows: tuple[dict[str, Any], ...]) -> str:
    last = said[-1] if said else {"step": "start", "format": "", "n_batch": 0}
    doing = f"{last['step']} {last['format']} at batch {last['n_batch']}".strip()
    if ended.status < 0:
        return f"killed by {signal.Signals(-ended.status).name} during {doing}"
    if ended.status != 0 or last["step"] not in ("done", "no_gpu"):
        heard = ended.stderr.strip().splitlines()
        return f"ended with status {ended.status} during {doing}" + (f": {heard[-1]}" if heard else "")
    for row in rows:
        if row["nmse_f32"] > NMSE_F32[row["format"]]:
            return f"{row['format']} at batch {row['n_batch']} is {row['nmse_f32']:.2g} (nmse) off f32"
        if row["nmse_single"] > NMSE_SINGLE:
            return f"{row['format']} at batch {row['n_batch']} is {row['nmse_single']:.2g} (nmse) off batch 1"
    return ""


def _run(command: Sequence[str], timeout_s: float) -> Ended:
    # A failed assert starts gdb for a backtrace where gdb is installed: seconds for nothing here.
    env = os.environ | {"GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env=env
        )
    except subprocess.TimeoutExpired as error:
        return Ended(
            124, error.stdout if isinstance(error.stdout, str) else "", f"no end after {timeout_s:g} s"
        )
    return Ended(done.returncode, done.stdout, done.stderr)
