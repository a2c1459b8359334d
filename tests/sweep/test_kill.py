"""A sweep is killed at random moments and gone on with: nothing is lost, nothing is there twice.

Three kills of each kind in `make test`; `make soak` has fifty and twenty (`LLT_KILLS`, `LLT_WORKER_KILLS`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.results import document
from tests.conftest import ROOT

pytestmark = pytest.mark.build

KILLS = int(os.environ.get("LLT_KILLS", "3"))
WORKER_KILLS = int(os.environ.get("LLT_WORKER_KILLS", "3"))
# Twelve cells.
CONFIG = """
name: killed
model: {synth: tiny}
build: {backend: cpu}
context: {n_ubatch: 64, threads: 2}
swa: {window: 64, full_layers: [7]}
draft: {n_max: 2}
modes: [dense, swa, mtp, swa+mtp]
depths: [300, 600, 900]
workloads: [maintenance_log]
generate: {n_predict: 24}
rounds: 2
"""


@pytest.fixture
def sweep(tmp_path: Path, patched: Build) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts the sweep above as a process of its own, on one result."""
    (tmp_path / "killed.yaml").write_text(CONFIG)

    def start(out: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "llamacpp_tools", "sweep", "killed.yaml", "--out", out, *words]
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    return start


def go_on(sweep: Callable[..., subprocess.Popen[bytes]], folder: Path, out: str) -> subprocess.Popen[bytes]:
    """Start the sweep, or go on with it if it has begun."""
    begun = (folder / out).with_suffix(".journal.jsonl").exists()
    return sweep(out, "--resume") if begun else sweep(out)


def rows(path: Path) -> dict[str, Any]:
    """What must not depend on any kill: every cell with its rounds' numbers and tokens."""
    cells = document.read(path).cells
    assert len({cell.id for cell in cells}) == len(cells)
    return {
        cell.id: (
            cell.status,
            [sample.round for sample in cell.samples],
            {s.output_sha256 for s in cell.samples},
        )
        for cell in cells
    }


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "llamacpp_tools.sweep.worker" in child.cmdline()]
    except psutil.Error:
        return []


def readable(path: Path) -> None:
    """A result is whole or not there, and each whole line of its journal is an entry."""
    if path.exists():
        document.read(path)
    journal = path.with_suffix(".journal.jsonl")
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    assert all(json.loads(line)["entry"] for line in lines)


def test_a_sweep_killed_at_random_moments(
    sweep: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    undisturbed = sweep("whole.json")
    begun = time.monotonic()
    assert undisturbed.wait(timeout=600) == 0
    long_s = time.monotonic() - begun
    expected = rows(tmp_path / "whole.json")
    assert len(expected) == 12 and {status for status, _, _ in expected.values()} == {"ok"}

    rng = random.Random(20261121)
    kills, number = 0, 0
    while kills < KILLS:
        out = f"{number}.json"
        process = go_on(sweep, tmp_path, out)
        try:
            finished = process.wait(timeout=rng.uniform(0.2, 0.6 * long_s)) == 0
        except subprocess.TimeoutExpired:
            orphans = workers(process)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            finished = False
            psutil.wait_procs(orphans, timeout=10)
            assert not any(orphan.is_running() for orphan in orphans)
        readable(tmp_path / out)
        if finished:
            assert rows(tmp_path / out) == expected
            number += 1
    assert go_on(sweep, tmp_path, out).wait(timeout=600) == 0
    assert rows(tmp_path / out) == expected


def test_workers_killed_at_random_moments(
    sweep: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    whole = sweep("whole.json")
    assert whole.wait(timeout=600) == 0
    expected = rows(tmp_path / "whole.json")

    rng = random.Random(7)
    kills, number = 0, 0
    while kills < WORKER_KILLS:
        out = f"{number}.json"
        process = go_on(sweep, tmp_path, out)
        killed_here = 0
        while process.poll() is None:
            time.sleep(rng.uniform(0.05, 1.0))
            victims = workers(process)
            if victims and kills < WORKER_KILLS and killed_here < 3:
                victims[-1].kill()
                kills += 1
                killed_here += 1
        # 0, or 1 where no cell at all was left to measure.
        assert process.returncode in (0, 1)
        found = rows(tmp_path / out)
        assert found.keys() == expected.keys()
        crashed = {status for status, _, _ in found.values()} - {"ok"}
        assert crashed <= {"crashed"}
        if not crashed:
            assert found == expected
            number += 1
    assert go_on(sweep, tmp_path, out).wait(timeout=600) == 0
    assert rows(tmp_path / out) == expected
