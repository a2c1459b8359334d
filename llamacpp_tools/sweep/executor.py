"""Runs one cell in a process of its own, so that whatever happens there becomes a row.

The boundary is `Executor.run`: a whole cell goes in, a `CellOutcome` comes out, events are reported on
the way. The worker leads a session of its own: a Ctrl-C at the terminal reaches the sweep alone, which
then ends the worker and all it started by its process group. Should the sweep die without running any of
this, the worker ends by itself (`lifeline`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from llamacpp_tools.errors import Interrupted
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.death import explain, ran_out_of_memory
from llamacpp_tools.sweep.outcome import CellOutcome, Status
from llamacpp_tools.sweep.protocol import (
    Done,
    Event,
    Failure,
    Loaded,
    ProtocolError,
    Request,
    RoundSample,
    decode_event,
    encode_request,
)

log = logging.getLogger(__name__)

STDERR_KEPT = 64 << 10
# A line longer than this is no event: the longest, a round of a million steps, stays below it.
LINE_LIMIT = 64 << 20
# After the process is gone its pipes are drained for this long; a grandchild may hold them open.
DRAIN_S = 1.0
WORKER = (sys.executable, "-m", "llamacpp_tools.sweep.worker")

EventSink = Callable[[Event], None]


class Executor(Protocol):
    """Anything that can measure one cell."""

    def run(self, spec: CellSpec, on_event: EventSink) -> CellOutcome:
        """Measure `spec`; faults of the cell are in the outcome, not raised.

        Raises:
            Interrupted: the user stopped the sweep.
        """


@dataclass
class _Traffic:
    """What has come from one worker so far."""

    loaded: Loaded | None = None
    rounds: list[RoundSample] = field(default_factory=list)
    done: Done | None = None
    failure: Failure | None = None
    broken: str | None = None
    partial: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    last_heard: float = field(default_factory=time.monotonic)

    def take_events(self, data: bytes, on_event: EventSink) -> None:
        self.last_heard = time.monotonic()
        self.partial += data
        *lines, rest = self.partial.split(b"\n")
        self.partial = bytearray(rest)
        if len(rest) > LINE_LIMIT:
            raise ProtocolError(f"the worker sent a line of more than {LINE_LIMIT >> 20} MiB")
        for line in lines:
            event = decode_event(line.decode("utf-8", "replace"))
            self._keep(event)
            on_event(event)

    def take_stderr(self, data: bytes) -> None:
        self.stderr += data
        del self.stderr[:-STDERR_KEPT]

    def _keep(self, event: Event) -> None:
        if isinstance(event, Loaded):
            self.loaded = event
        elif isinstance(event, RoundSample):
            self.rounds.append(event)
        elif isinstance(event, Done):
            self.done = event
        elif isinstance(event, Failure):
            self.failure = event

    def stderr_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")


@dataclass(frozen=True)
class LocalExecutor:
    """One child process per cell on this machine.

    Attributes:
        model: the GGUF file.
        manifest: the manifest of the build whose library is used.
        prompt_seed: seed of the workloads' texts.
        command: the worker's command line, without `--events-fd`.
        silence_s: end a worker that sends no event for this many seconds; None waits for ever.
        env: variables added to the worker's environment.
    """

    model: Path
    manifest: Path
    prompt_seed: int
    command: Sequence[str] = WORKER
    silence_s: float | None = None
    env: dict[str, str] = field(default_factory=dict)

    def run(self, spec: CellSpec, on_event: EventSink) -> CellOutcome:
        """Measure one cell; nothing it started is left running when this returns or raises.

        Must be called from the thread that lives as long as the sweep: on Linux the worker is killed
        when the thread that started it ends.

        Raises:
            Interrupted: KeyboardInterrupt came while the worker ran.
        """
        request = Request(str(self.model), str(self.manifest), spec, self.prompt_seed)
        start = time.monotonic()
        traffic = _Traffic()
        timed_out = False
        events_read, events_write = os.pipe()
        with os.fdopen(events_read, "rb", buffering=0) as events:
            try:
                process = self._start(events_write)
            except OSError as error:
                return CellOutcome(spec, "crashed", f"the worker could not be started: {error.strerror}")
            finally:
                os.close(events_write)
            try:
                _send(process, encode_request(request))
                timed_out = self._listen(process, events, traffic, on_event)
            except ProtocolError as error:
                traffic.broken = str(error)
            except KeyboardInterrupt:
                raise Interrupted(f"stopped in {cell_id(spec)}") from None
            finally:
                _end(process)
        outcome = _judge(spec, traffic, process.returncode, timed_out, self.silence_s)
        return replace(outcome, wall_s=time.monotonic() - start)

    def _start(self, events_write: int) -> subprocess.Popen[bytes]:
        # A failed assert would otherwise start a debugger for a backtrace, and hang on some machines.
        env = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1", **self.env}
        return subprocess.Popen(
            [*self.command, "--events-fd", str(events_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(events_write,),
            start_new_session=True,
            env=env,
        )

    def _listen(
        self, process: subprocess.Popen[bytes], events: IO[bytes], traffic: _Traffic, on_event: EventSink
    ) -> bool:
        """Read both pipes until they end; True if the worker was silent for too long."""
        assert process.stderr is not None
        gone_at: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(events, selectors.EVENT_READ, "events")
            selector.register(process.stderr, selectors.EVENT_READ, "stderr")
            while selector.get_map():
                for key, _ in selector.select(timeout=0.2):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.data == "events":
                        traffic.take_events(data, on_event)
                    else:
                        traffic.take_stderr(data)
                now = time.monotonic()
                if process.poll() is not None:
                    gone_at = gone_at or now
                    if now - gone_at > DRAIN_S:
                        break
                elif self.silence_s is not None and now - traffic.last_heard > self.silence_s:
                    return True
        return False


def _send(process: subprocess.Popen[bytes], line: str) -> None:
    # A worker that died at once leaves a broken pipe; why it died is told by its exit status.
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line.encode("ascii") + b"\n")
        process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Give a worker that is done a moment to leave, then kill its whole process group."""
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=DRAIN_S)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def _judge(
    spec: CellSpec, traffic: _Traffic, returncode: int, timed_out: bool, silence_s: float | None
) -> CellOutcome:
    stderr = traffic.stderr_text()
    bad_input = False
    status: Status
    reason: str | None
    if traffic.failure is not None:
        status, reason = _from_failure(traffic.failure, stderr)
        bad_input = traffic.failure.kind == "bad_input"
    elif traffic.broken is not None:
        status, reason = "crashed", traffic.broken
    elif timed_out:
        status, reason = "timeout", f"no word from the worker for {silence_s:g} s"
    elif traffic.done is None:
        status, reason = explain(returncode, stderr)
    elif len(traffic.rounds) < spec.rounds:
        status, reason = "invalid", f"{len(traffic.rounds)} of {spec.rounds} rounds came back"
    else:
        status, reason = "ok", None
    if status != "ok":
        log.info("%s: %s: %s", cell_id(spec), status, reason)
        log.debug("last lines of the worker:\n%s", stderr)
    return CellOutcome(
        spec=spec,
        status=status,
        reason=reason,
        loaded=traffic.loaded,
        rounds=tuple(traffic.rounds),
        done=traffic.done,
        bad_input=bad_input,
        stderr_tail=stderr,
    )


def _from_failure(failure: Failure, stderr: str) -> tuple[Status, str]:
    if failure.kind == "oom" or (failure.kind == "load" and ran_out_of_memory(stderr)):
        return "oom", failure.message
    if failure.kind == "load":
        return "crashed", failure.message
    return "invalid", failure.message
