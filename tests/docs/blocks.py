"""The commands of a page: every fenced `sh` block, run as a reader would run it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sh_blocks(page: Path) -> list[str]:
    """The `sh` blocks of a Markdown page, in order."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run_blocks(page: Path, folder: Path, **variables: str | Path) -> list[str]:
    """Run a page's blocks in one shell each, in `folder`, with `llt` being this checkout's.

    Files that a block leaves are there for the next one. `variables` stand for what a reader has, such as LLT_MODEL.

    Returns:
        What each block wrote to stdout.
    """
    program = folder / "bin" / "llt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m llamacpp_tools "$@"\n')
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    env |= {name: str(value) for name, value in variables.items()}
    written = []
    for block in sh_blocks(page):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=env, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{page.name}:\n{block}\n{done.stderr}"
        written.append(done.stdout)
    return written
