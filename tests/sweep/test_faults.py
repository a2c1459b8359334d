"""Faults provoked for real: each becomes a row with its reason, and nothing is left running."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.results import document
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.executor import CellFault
from llamacpp_tools.sweep.gate import Gate
from llamacpp_tools.sweep.heat import Reading, Thermometer
from llamacpp_tools.sweep.journal import Journal, journal_path
from llamacpp_tools.sweep.local import LocalExecutor
from llamacpp_tools.sweep.memory import need
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Event, Progress
from llamacpp_tools.sweep.runner import Sinks, Sweep, SweepStopped
from tests.conftest import ROOT

RAW = {
    "name": "faults",
    "swa": {"window": 64, "full_layers": [7]},
    "context": {"n_ubatch": 64, "threads": 2},
    "draft": {"n_max": 2},
    "modes": ["dense", "swa", "mtp", "swa+mtp"],
    "depths": [400],
    "workloads": ["maintenance_log"],
    "generate": {"n_predict": 64},
    "rounds": 2,
}


class Sensor:
    """A fake sensor that says what it is told."""

    def __init__(self, *temperatures: float) -> None:
        self.temperatures = list(temperatures)

    def read(self) -> Reading:
        now = self.temperatures.pop(0) if len(self.temperatures) > 1 else self.temperatures[0]
        return Reading(now, 3000.0)


@pytest.fixture
def sweep(tiny: Path, patched: Build, tmp_path: Path) -> Iterator[Callable[..., Sweep]]:
    """Makes sweeps with real workers on one journal."""
    with contextlib.ExitStack() as stack:

        def make(gate: Gate | None = None, floor_s: float = 60.0, **changes: Any) -> Sweep:
            stack.close()
            planned = plan(parse_config({"model": str(tiny), **RAW, **changes}, "faults.yaml"))
            journal = stack.enter_context(Journal(journal_path(tmp_path / "r.json")))
            journal.begin({"date": "today"})
            executor = LocalExecutor(tiny, patched.path, 1, floor_s=floor_s)
            return Sweep(planned, executor, journal, {"model": "m"}, gate or Gate(Thermometer(Sensor(40.0))))

        yield make


class Struck(Sinks):
    """Sends a signal to the worker of a mode once it generates."""

    def __init__(self, mode: str, number: int) -> None:
        self.mode, self.number, self.faults = mode, number, []

    def event(self, spec: Any, event: Event) -> None:
        if spec.mode == self.mode and isinstance(event, Progress) and event.phase == "warmup":
            (child,) = _workers_of(os.getpid(), spec.mode)
            os.kill(child, self.number)

    def fault(self, spec: Any, fault: CellFault) -> None:
        self.faults.append((spec.mode, fault.status, fault.reason))


def _workers_of(pid: int, mode: str) -> list[int]:
    """The worker that was started last: it is the one that was opened for the mode that warms up."""
    import psutil

    children = psutil.Process(pid).children()
    found = [child.pid for child in children if "llamacpp_tools.sweep.worker" in child.cmdline()]
    return found[-1:]


@pytest.mark.build
@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGSEGV, "crashed", "SIGSEGV (a segmentation fault)"),
        (signal.SIGKILL, "crashed", "SIGKILL (the kernel does that when memory runs out)"),
        (signal.SIGSTOP, "timeout", "no word from the worker for"),
    ],
)
def test_a_worker_that_is_struck_is_a_row_and_is_tried_again(
    sweep: Callable[..., Sweep], number: int, status: str, words: str
) -> None:
    first = sweep(floor_s=0.5)
    first.sinks = sinks = Struck("mtp", number)
    found = {outcome.spec.mode: outcome for outcome in first.run()}
    assert (found["mtp"].status, found["mtp"].attempts) == (status, 1)
    assert words in str(found["mtp"].reason)
    assert {mode for mode, outcome in found.items() if outcome.ok} == {"dense", "swa", "swa+mtp"}
    assert [mode for mode, *_ in sinks.faults] == ["mtp"]
    again = sweep().run()
    assert [outcome.status for outcome in again] == ["ok"] * 4
    assert [outcome.attempts for outcome in again] == [1, 1, 2, 1]


@pytest.mark.build
def test_a_sensor_that_heats_up_stops_a_real_sweep(sweep: Callable[..., Sweep], limits: Any) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.5
        return now[0]

    hot = sweep(gate=Gate(Thermometer(Sensor(50.0, 60.0, 65.0, 95.0), clock), limits))
    with pytest.raises(SweepStopped, match="95 °C is above `abort_c`, 90 °C"):
        hot.run()
    assert [outcome.status for outcome in hot.outcomes()][-1] == "thermal"
    assert [outcome.status for outcome in sweep().run()] == ["ok"] * 4


def run_llt(folder: Path, *words: str, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))

    return subprocess.run(
        [sys.executable, "-m", "llamacpp_tools", "sweep", "faults.yaml", *words],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}, text=True,
        capture_output=True, timeout=600, check=False, preexec_fn=limited,
    )  # fmt: skip


def write(folder: Path, tiny: Path, **changes: Any) -> None:
    (folder / "faults.yaml").write_text(json.dumps({"model": str(tiny), **RAW, **changes}))


@pytest.mark.build
def test_memory_that_runs_out_at_load_is_a_row(tiny: Path, patched: Build, tmp_path: Path) -> None:
    write(tmp_path, tiny, depths=[400, 4_000_000], modes=["dense", "mtp"], rounds=1)
    deep = plan(parse_config({"model": str(tiny), **RAW, "depths": [4_000_000]}, "f")).cells[0]
    limit = 3 << 30
    assert need(check_gguf(tiny), deep).kv > limit
    done = run_llt(tmp_path, "--out", "r.json", "--force", limit_bytes=limit)
    assert done.returncode == 0, done.stderr
    cells = document.read(tmp_path / "r.json").cells
    assert [cell.status for cell in cells] == ["ok", "ok", "oom", "oom"]
    assert "alloc" in str(cells[2].reason)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system needs the right to mount one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.build
def test_a_full_disk_loses_nothing_that_was_measured(
    tiny: Path, patched: Build, tmp_path: Path, small_disk: Path
) -> None:
    write(tmp_path, tiny, rounds=4)
    full = run_llt(tmp_path, "--out", "small/r.json")
    assert full.returncode in (1, 3), full.stderr
    assert "No space left on device" in full.stderr
    assert "go on with: llt sweep faults.yaml --resume --out small/r.json" in full.stderr
    journal = small_disk / "r.journal.jsonl"
    with Journal(journal) as opened:
        before = {key: sorted(cell.rounds) for key, cell in opened.cells.items()}
    measured = sum(len(rounds) for rounds in before.values())
    assert 0 < measured < 16
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    done = run_llt(tmp_path, "--out", "small/r.json", "--resume")
    assert done.returncode == 0, done.stderr
    result = document.read(small_disk / "r.json")
    assert [len(cell.samples) for cell in result.cells] == [4] * 4
    first_run = sum(sample.attempt == 1 for cell in result.cells for sample in cell.samples)
    assert first_run == measured
