"""`make sanitize` notices what it is there to notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.miniature import miniature
from tests import sanitizer

LEAKS = """
=================================================================
==7==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 48 byte(s) in 1 object(s) allocated from:
    #0 0x7f01 in malloc (/usr/lib/libasan.so.8+0xb8)
    #1 0x7f02 in PyList_New (/usr/bin/python3.11+0x5)

Indirect leak of 9 byte(s) in 1 object(s) allocated from:
    #0 0x7f01 in malloc (/usr/lib/libasan.so.8+0xb8)
    #1 0x7f03 in llama_batch_init (/home/b/out/bin/libllama.so.0+0x5)
    #2 0x7f04 in _PyEval_EvalFrameDefault (/usr/bin/python3.11+0x5)

Direct leak of 88 byte(s) in 1 object(s) allocated from:
    #0 0x7f01 in operator new(unsigned long) (/usr/lib/libasan.so.8+0xb9)
    #1 0x7f05 in llt_plain_new /home/b/native/llt_shim.cpp:46

SUMMARY: AddressSanitizer: 145 byte(s) leaked in 3 allocation(s).
"""


def test_a_leak_is_ours_if_c_plus_plus_allocated_it(tmp_path: Path) -> None:
    assert sanitizer.findings(tmp_path) == []
    (tmp_path / "report.7").write_text(LEAKS)
    through_libllama, in_the_shim = sanitizer.findings(tmp_path)
    assert through_libllama.startswith("Indirect leak of 9 byte(s)")
    assert "_PyEval_EvalFrameDefault" in through_libllama
    assert in_the_shim.startswith("Direct leak of 88 byte(s)")
    assert "SUMMARY" not in in_the_shim


@pytest.mark.parametrize(
    "said", ["ERROR: AddressSanitizer: heap-buffer-overflow", "LeakSanitizer has encountered a fatal error"]
)
def test_every_error_is_ours(tmp_path: Path, said: str) -> None:
    (tmp_path / "report.7").write_text(f"==7=={said}\n    #0 0x7f02 in main (/usr/bin/python3.11+0x5)\n")
    assert len(sanitizer.findings(tmp_path)) == 1


PLANTED = {
    "nothing": (),
    "overflow": ("heap-buffer-overflow", "llt_argmax", "llt_shim.cpp"),
    "misaligned": ("runtime error", "misaligned address", "llt_argmax"),
    "leak": ("leak of", "llt_plain_new", "llt_shim.cpp"),
}


@pytest.mark.build
@pytest.mark.skipif(not sanitizer.WANTED, reason="make sanitize runs it")
@pytest.mark.parametrize("what", PLANTED)
def test_what_is_planted_is_found(patched: Build, tmp_path: Path, what: str) -> None:
    reports = tmp_path / "planted"
    reports.mkdir()
    asked = {"manifest": str(patched.path), "model": str(miniature()), "what": what}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.planted"], input=json.dumps(asked), capture_output=True, text=True,
        env=os.environ | sanitizer.environ(patched.shim, reports), check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    found = "\n".join([*sanitizer.findings(reports), done.stderr if what == "misaligned" else ""])
    assert bool(found.strip()) == bool(PLANTED[what]), found + done.stderr
    for words in PLANTED[what]:
        assert words in found
    # An error ends the process; a leak is told at its end.
    assert done.returncode == (-signal.SIGABRT if what in ("overflow", "misaligned") else 0), done.stderr
