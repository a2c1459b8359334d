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
from llamacpp_tools.sweep.plan import plan
from llamacpp_tools.sweep.protocol import Done, Loaded, Progress, RoundSample

ASSERT_TEXT = (
    'GGML_ASSERT(hparams.swa_type == LLAMA_SWA_TYPE_NONE && "Use llama_kv_cache_iswa for SWA") failed '
    "at src/llama-graph.cpp:2597"
)


@pytest.fixture
def spec(config):
    return plan(config).cells[0]


def nothing(event):
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


def test_a_good_worker_gives_every_round_and_every_event(executor, spec):
    events = []
    outcome = executor().run(spec, events.append)
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert [sample.round for sample in outcome.rounds] == [0, 1]
    assert outcome.rounds[0].n_prompt == 700
    assert outcome.loaded.n_ctx == spec.n_ctx
    assert {type(event) for event in events} == {Progress, Loaded, RoundSample, Done}
    assert outcome.wall_s > 0


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
def test_a_fault_is_a_status_and_a_reason(executor, spec, how, status, words):
    outcome = executor(how).run(spec, nothing)
    assert outcome.status == status
    assert words in outcome.reason
    assert not outcome.bad_input
    assert len(outcome.stderr_tail) <= 64 << 10


def test_the_asserts_text_is_the_whole_reason(executor, spec):
    assert executor("abort").run(spec, nothing).reason == ASSERT_TEXT


def test_bad_input_is_marked(executor, spec):
    outcome = executor("bad_input").run(spec, nothing)
    assert outcome.bad_input
    assert outcome.reason == "told to say bad_input"


def test_rounds_before_a_crash_are_kept(executor, spec):
    outcome = executor("half").run(spec, nothing)
    assert outcome.status == "crashed"
    assert len(outcome.rounds) == 1


def test_fewer_rounds_than_asked_are_invalid(executor, spec):
    outcome = executor("short").run(spec, nothing)
    assert (outcome.status, outcome.reason) == ("invalid", "1 of 2 rounds came back")


def test_a_silent_worker_times_out_and_leaves_nothing(executor, spec, tmp_path):
    outcome = executor("hang", silence_s=1.0).run(spec, nothing)
    assert outcome.status == "timeout"
    assert "1 s" in outcome.reason
    pids = json.loads((tmp_path / "pids.json").read_text())
    assert len(pids) == 2
    assert wait_until(lambda: gone(pids))


def test_an_interrupt_ends_the_worker_and_its_children(executor, spec, tmp_path):
    def interrupt(event):
        assert wait_until((tmp_path / "pids.json").exists)
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="dense d700 maintenance_log"):
        executor("hang").run(spec, interrupt)
    pids = json.loads((tmp_path / "pids.json").read_text())
    assert wait_until(lambda: gone(pids))


def test_a_worker_that_cannot_start_is_a_row(executor, spec):
    outcome = replace(executor(), command=("/no/such/program",)).run(spec, nothing)
    assert outcome.status == "crashed"
    assert "could not be started" in outcome.reason


PARENT = """
import sys
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.executor import LocalExecutor
from pathlib import Path
import json
spec = CellSpec.from_json(json.loads(sys.argv[1]))
LocalExecutor(Path("a"), Path("b"), 1, command=(sys.executable, sys.argv[2])).run(spec, lambda event: None)
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
