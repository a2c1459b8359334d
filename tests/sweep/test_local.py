import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from llamacpp_tools.errors import Interrupted
from llamacpp_tools.sweep.executor import CellFault
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Done, Loaded, Progress, RoundOrder, RoundSample

ASSERT_TEXT = (
    'GGML_ASSERT(hparams.swa_type == LLAMA_SWA_TYPE_NONE && "Use llama_kv_cache_iswa for SWA") failed '
    "at src/llama-graph.cpp:2597"
)


@pytest.fixture
def spec(config):
    return plan(config).cells[0]


def nothing(event):
    pass


def no_watch():
    pass


def gone(pids):
    for pid in pids:
        with_status = psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        if with_status:
            return False
    return True


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def measure(executor, spec, on_event=nothing, rounds=2):
    """Open a cell, measure its rounds, let it go."""
    station = executor.open(spec, on_event, no_watch)
    try:
        samples = [station.round(RoundOrder(at, False, at == 0), on_event, no_watch) for at in range(rounds)]
    finally:
        done = station.close()
    return station, samples, done


def test_a_good_worker_gives_every_round_and_every_event(executor, spec):
    events = []
    station, samples, done = measure(executor(), spec, events.append)
    assert [sample.round for sample in samples] == [0, 1]
    assert samples[0].n_prompt == 700
    assert station.loaded.n_ctx == spec.n_ctx
    assert done == Done(2)
    assert {type(event) for event in events} == {Progress, Loaded, RoundSample}
    assert station.close() is None
    assert wait_until(lambda: gone([station.pid]))


@pytest.mark.parametrize("at", ["", "@1"])
@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("abort", "crashed", ASSERT_TEXT),
        ("noise", "crashed", ASSERT_TEXT),
        ("segfault", "crashed", "SIGSEGV"),
        ("kill", "crashed", "SIGKILL"),
        ("exit", "crashed", "exit code 1 before it was done: the worker gave up"),
        ("garbage", "crashed", "no json at all"),
        ("oom", "oom", "failed to allocate buffer of size 99"),
        ("load", "crashed", "told to say load"),
        ("invalid", "invalid", "told to say invalid"),
    ],
)
def test_a_fault_is_a_status_and_a_reason_at_load_and_in_a_round(executor, spec, how, at, status, words):
    with pytest.raises(CellFault) as caught:
        measure(executor(how + at), spec)
    assert caught.value.status == status
    assert words in caught.value.reason
    assert not caught.value.bad_input
    assert len(caught.value.stderr_tail) <= 64 << 10


def test_the_asserts_text_is_the_whole_reason(executor, spec):
    with pytest.raises(CellFault) as caught:
        measure(executor("abort"), spec)
    assert caught.value.reason == ASSERT_TEXT


def test_bad_input_is_marked(executor, spec):
    with pytest.raises(CellFault, match="told to say bad_input") as caught:
        measure(executor("bad_input"), spec)
    assert caught.value.bad_input


def test_another_round_than_the_one_asked_for_is_a_fault(executor, spec):
    with pytest.raises(CellFault, match="round 1 was asked for and round 77 came"):
        measure(executor("other@1"), spec)


def test_a_silent_worker_times_out_and_leaves_nothing(executor, spec, tmp_path):
    with pytest.raises(CellFault, match="no word from the worker for") as caught:
        measure(executor("hang@1", floor_s=0.1), spec)
    assert caught.value.status == "timeout"
    pids = json.loads((tmp_path / "pids.json").read_text())
    assert len(pids) == 2
    assert wait_until(lambda: gone(pids))


def test_a_stopped_worker_times_out(executor, spec):
    station = executor(floor_s=0.1).open(spec, nothing, no_watch)
    os.kill(station.pid, signal.SIGSTOP)
    with pytest.raises(CellFault, match="no word from the worker") as caught:
        station.round(RoundOrder(0, False, False), nothing, no_watch)
    assert caught.value.status == "timeout"
    assert wait_until(lambda: gone([station.pid]))


def test_an_interrupt_ends_the_worker_and_its_children(executor, spec, tmp_path):
    def interrupt(event):
        assert wait_until((tmp_path / "pids.json").exists)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="dense d700 maintenance_log"):
        measure(executor("hang"), spec, interrupt)
    pids = json.loads((tmp_path / "pids.json").read_text())
    assert wait_until(lambda: gone(pids))


def test_what_the_watch_raises_ends_the_worker(executor, spec, monkeypatch):
    monkeypatch.setenv("FAKE_ROUND_S", "30")
    station = executor().open(spec, nothing, no_watch)

    def watch():
        raise RuntimeError("too hot")

    with pytest.raises(RuntimeError, match="too hot"):
        station.round(RoundOrder(0, False, False), nothing, watch)
    assert wait_until(lambda: gone([station.pid]))


def test_a_worker_that_cannot_start_is_a_fault(executor, spec):
    with pytest.raises(CellFault, match="could not be started") as caught:
        measure(replace(executor(), command=("/no/such/program",)), spec)
    assert caught.value.status == "crashed"


PARENT = """
import sys
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.local import LocalExecutor
from pathlib import Path
import json
spec = CellSpec.from_json(json.loads(sys.argv[1]))
executor = LocalExecutor(Path("a"), Path("b"), 1, command=(sys.executable, sys.argv[2]))
executor.open(spec, lambda event: None, lambda: None)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_does_not_outlive_a_killed_sweep(spec, tmp_path, number):
    fake = Path(__file__).with_name("fake_worker.py")
    note = tmp_path / "pids.json"
    env = {**os.environ, "FAKE_WORKER": "hang", "FAKE_PIDS": str(note)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, json.dumps(spec.to_json()), str(fake)], env=env)
    try:
        assert wait_until(lambda: note.exists() and note.read_text().endswith("]"), 20)
        worker, _child = json.loads(note.read_text())
        parent.send_signal(number)
        parent.wait(timeout=10)
        assert wait_until(lambda: gone([worker]))
    finally:
        parent.kill()
        for pid in json.loads(note.read_text()) if note.exists() else []:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
