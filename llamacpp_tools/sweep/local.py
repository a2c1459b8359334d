"""Measures cells on this machine, each in a process of its own, so that whatever happens there becomes a row.

The worker leads a session of its own: a Ctrl-C at the terminal reaches the sweep alone, which then ends the worker
and all it started by its process group. Should the sweep die without running any of this, the worker ends by itself
(`lifeline`).
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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

from llamacpp_tools.errors import Interrupted
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.death import explain, ran_out_of_memory
from llamacpp_tools.sweep.executor import CellFault, EventSink, Watch
from llamacpp_tools.sweep.lifeline import END
from llamacpp_tools.sweep.outcome import Status
from llamacpp_tools.sweep.patience import FLOOR_S, Patience
from llamacpp_tools.sweep.protocol import (
    Done,
    Event,
    Failure,
    Loaded,
    ProtocolError,
    Request,
    RoundOrder,
    RoundSample,
    decode_event,
    encode_order,
    encode_request,
)

log = logging.getLogger(__name__)

STDERR_KEPT = 64 << 10
# A line longer than this is no event: the longest, a round of a million steps, stays below it.
LINE_LIMIT = 64 << 20
# A worker that was told to end has this long for its last word, and then to leave; after it is gone its pipes are
# drained for as long, as a grandchild may hold them open.
LAST_WORD_S = 5.0
LEAVE_S = 1.0
TICK_S = 0.2
WORKER = (sys.executable, "-m", "llamacpp_tools.sweep.worker")

T = TypeVar("T", Loaded, RoundSample, Done)


@dataclass(frozen=True)
class LocalExecutor:
    """One child process per open cell.

    Attributes:
        model: the GGUF file.
        manifest: the manifest of the build whose library is used.
        prompt_seed: seed of the workloads' texts.
        command: the worker's command line, without `--events-fd`.
        model_sha256: of the model's file; empty to keep no prefills.
        model_bytes: of all its files; None for the size of `model`.
        driver: of the GPU, empty without one.
        states: folder of kept prefills, None to keep none.
        states_cap: bytes that all kept prefills may take.
        floor_s: never take a worker for hung before this many seconds of silence (see `patience`).
        env: variables added to the worker's environment.
        servers: what a figure depends on of each RPC server, by its address.
    """

    model: Path
    manifest: Path
    prompt_seed: int
    command: Sequence[str] = WORKER
    model_sha256: str = ""
    model_bytes: int | None = None
    driver: str = ""
    states: Path | None = None
    states_cap: int = 0
    floor_s: float = FLOOR_S
    env: dict[str, str] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)

    def open(self, spec: CellSpec, on_event: EventSink, watch: Watch) -> LocalStation:
        """Start a worker and wait until it has loaded the cell's mode.

        Must be called from the thread that lives as long as the sweep: on Linux the worker is killed
        when the thread that started it ends.

        Raises:
            CellFault: the worker could not be started, or the mode not be loaded.
            Interrupted: KeyboardInterrupt came while it loaded.
        """
        station = LocalStation(self, spec)
        station.load(on_event, watch)
        return station

    def request(self, spec: CellSpec) -> Request:
        """What a worker is told first."""
        states = str(self.states) if self.states is not None and self.model_sha256 else None
        return Request(
            str(self.model),
            str(self.manifest),
            spec,
            self.prompt_seed,
            self.model_sha256,
            self.driver,
            states,
            self.states_cap,
            " ".join(self.servers.get(server, server) for server in spec.rpc),
        )


class LocalStation:
    """A worker process and the two pipes that it is heard on."""

    def __init__(self, executor: LocalExecutor, spec: CellSpec) -> None:
        self._spec = spec
        self._loaded: Loaded | None = None
        self._stderr = bytearray()
        self._partial = bytearray()
        size = executor.model_bytes
        if size is None:
            size = executor.model.stat().st_size if executor.model.is_file() else 0
        self._patience = Patience(spec, size, executor.floor_s)
        events_read, events_write = os.pipe()
        self._events = os.fdopen(events_read, "rb", buffering=0)
        try:
            self._process = self._start(executor, events_write)
        except OSError as error:
            self._events.close()
            reason = f"the worker could not be started: {error.strerror}"
            raise CellFault("crashed", reason) from None
        finally:
            os.close(events_write)
        self._open = True
        self._tell(encode_request(executor.request(spec)))

    @property
    def loaded(self) -> Loaded:
        """What the worker said after loading."""
        assert self._loaded is not None
        return self._loaded

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._process.pid

    @property
    def stderr_tail(self) -> str:
        """The last of what the worker printed."""
        return self._stderr.decode("utf-8", "replace")

    def load(self, on_event: EventSink, watch: Watch) -> None:
        """Wait for the worker's word that all is loaded.

        Raises:
            CellFault: it never came.
            Interrupted: KeyboardInterrupt came.
        """
        self._loaded = self._wait_for(Loaded, on_event, watch)

    def round(self, order: RoundOrder, on_event: EventSink, watch: Watch) -> RoundSample:
        """Have one round measured.

        Raises:
            CellFault: the worker died, hung, or said why it cannot; it is gone.
            Interrupted: KeyboardInterrupt came; the worker is gone.
        """
        self._patience.wait()
        self._tell(encode_order(order))
        sample = self._wait_for(RoundSample, on_event, watch)
        if sample.round != order.number:
            self._kill()
            raise CellFault("crashed", f"round {order.number} was asked for and round {sample.round} came")
        return sample

    def close(self) -> Done | None:
        """Let the worker go; kill what is left of it after a moment."""
        if not self._open:
            return None
        done: Done | None = None
        try:
            self._patience.wait()
            self._tell(END)
            end = time.monotonic() + LAST_WORD_S

            def in_time() -> None:
                if time.monotonic() > end:
                    raise CellFault("timeout", "the worker did not leave")

            with contextlib.suppress(CellFault):
                done = self._wait_for(Done, lambda event: None, in_time)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=LEAVE_S)
        finally:
            self._kill()
        return done

    def _start(self, executor: LocalExecutor, events_write: int) -> subprocess.Popen[bytes]:
        # A failed assert would otherwise start a debugger for a backtrace, and hang on some machines.
        env = {**os.environ, "GGML_NO_BACKTRACE": "1", "PYTHONUNBUFFERED": "1", **executor.env}
        return subprocess.Popen(
            [*executor.command, "--events-fd", str(events_write)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(events_write,),
            start_new_session=True,
            env=env,
        )

    def _tell(self, line: str) -> None:
        # A worker that died leaves a broken pipe; why it died is told by its exit status.
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode("ascii") + b"\n")
            self._process.stdin.flush()

    def _wait_for(self, wanted: type[T], on_event: EventSink, watch: Watch) -> T:
        """Read both pipes until the wanted event comes; whatever ends the waiting ends the worker."""
        try:
            return self._listen(wanted, on_event, watch)
        except KeyboardInterrupt:
            self._kill()
            raise Interrupted(f"stopped in {cell_id(self._spec)}") from None
        except ProtocolError as error:
            self._kill()
            raise self._fault("crashed", str(error)) from None
        except BaseException:
            self._kill()
            raise

    def _listen(self, wanted: type[T], on_event: EventSink, watch: Watch) -> T:
        assert self._process.stderr is not None
        gone_at: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._events, selectors.EVENT_READ)
            selector.register(self._process.stderr, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(timeout=TICK_S):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is self._events:
                        found = self._take(data, wanted, on_event)
                        if found is not None:
                            return found
                    else:
                        self._stderr += data
                        del self._stderr[:-STDERR_KEPT]
                if self._process.poll() is not None:
                    gone_at = gone_at or time.monotonic()
                    if time.monotonic() - gone_at > LEAVE_S:
                        break
                else:
                    watch()
                    if self._patience.silent_s() > self._patience.limit_s:
                        raise self._fault("timeout", self._patience.reason())
        self._kill()
        raise self._fault(*explain(self._process.returncode, self.stderr_tail))

    def _take(self, data: bytes, wanted: type[T], on_event: EventSink) -> T | None:
        self._partial += data
        *lines, rest = self._partial.split(b"\n")
        self._partial = bytearray(rest)
        if len(rest) > LINE_LIMIT:
            raise ProtocolError(f"the worker sent a line of more than {LINE_LIMIT >> 20} MiB")
        found: T | None = None
        for line in lines:
            event: Event = decode_event(line.decode("utf-8", "replace"))
            self._patience.take(event)
            on_event(event)
            if isinstance(event, Failure):
                # What else it printed (why an allocation failed) may lie in the other pipe still.
                self._drain()
                raise self._fault(*_status_of(event, self.stderr_tail), event.kind == "bad_input")
            if isinstance(event, wanted):
                found = event
        return found

    def _drain(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=LEAVE_S)
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._process.stderr.fileno(), 1 << 16):
                self._stderr += data
                del self._stderr[:-STDERR_KEPT]

    def _fault(self, status: Status, reason: str, bad_input: bool = False) -> CellFault:
        log.info("%s: %s: %s", cell_id(self._spec), status, reason)
        log.debug("last lines of the worker:\n%s", self.stderr_tail)
        return CellFault(status, reason, bad_input, self.stderr_tail)

    def _kill(self) -> None:
        """End the worker's whole process group and let go of the pipes."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        pipes: tuple[IO[bytes] | None, ...] = (self._process.stdin, self._process.stderr, self._events)
        for pipe in pipes:
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()


def _status_of(failure: Failure, stderr: str) -> tuple[Status, str]:
    if failure.kind == "oom" or (failure.kind == "load" and ran_out_of_memory(stderr + failure.message)):
        return "oom", failure.message
    if failure.kind == "load":
        return "crashed", failure.message
    return "invalid", failure.message
