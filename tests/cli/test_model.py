"""`llt model synth` as a user calls it."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Llt = Callable[..., subprocess.CompletedProcess[str]]


def test_json_is_the_only_thing_on_stdout(llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "dense.gguf"
    done = llt("model", "synth", "--shape", "tiny-dense", "--out", out, "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert facts["path"] == str(out)
    assert facts["arch"] == "qwen35"
    assert facts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_an_unknown_shape_is_one_sentence_and_exit_2(llt: Llt, tmp_path: Path) -> None:
    done = llt("model", "synth", "--shape", "tinny", "--out", tmp_path / "x.gguf")
    assert done.returncode == 2
    assert "did you mean 'tiny'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example(llt: Llt) -> None:
    assert "Example: llt model synth" in llt("model", "synth", "--help").stdout
