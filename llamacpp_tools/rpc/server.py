"""Runs upstream's RPC server of one of our builds, and says beside it who it is.

The server is a child that ends with this process, however that ends. Two ports are opened and no more: the server's
own, and the one above for `identity`. Both are on the loopback address unless another one is asked for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

import llamacpp_tools
from llamacpp_tools import home
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.closing import Closing
from llamacpp_tools.errors import BadInput, CheckFailed
from llamacpp_tools.ffi.opening import check_files
from llamacpp_tools.processor import cpu_info
from llamacpp_tools.rpc.address import EVERY_ADDRESS, LOOPBACK, MOST_PORT, identity_port
from llamacpp_tools.rpc.identity import VERSION, ServedDevice, ServerIdentity, box_id

START_S = 60.0
LEAVE_S = 5.0
_SEND_S = 2.0
_TRIES = 50
# Upstream's words, of which it says some only when somebody has connected.
_DEVICE = re.compile(r"^  (?P<name>[^:]+): (?P<what>.*) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)$")
_CONNECTED, _LEFT = "Accepted client connection", "Client connection closed"
# `ggml-rpc.cpp`: a command, the size of what follows, 24 bytes of capabilities; the answer has a version before them.
_HELLO, _CAPS = 14, 24
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ServerOptions:
    """What to serve and where.

    Attributes:
        host: an IPv4 address of this machine; `0.0.0.0` for all.
        port: the server's; the identity's is the next one. 0 for two that are free.
        n_threads: threads of the CPU device.
        devices: upstream's names of the devices to serve; empty for all GPUs, or the CPU where there are none.
        cache: keep tensors that were sent on disk, so that a model travels once.
    """

    host: str
    port: int
    n_threads: int
    devices: tuple[str, ...] = ()
    cache: bool = False

    def __post_init__(self) -> None:
        try:
            ipaddress.IPv4Address(self.host)
        except ValueError:
            raise BadInput(
                f"--host takes an IPv4 address of this machine such as {LOOPBACK}, which is all that upstream's server "
                f"can listen on, not {self.host!r}"
            ) from None
        if not 0 <= self.port <= MOST_PORT:
            raise BadInput(
                f"--port takes a port from 1 to {MOST_PORT}, or 0 for any that is free, not {self.port}"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return ipaddress.IPv4Address(self.host).is_loopback


class RpcServer(Closing):
    """A running server. Close it, or use it as a context manager.

    Attributes:
        host, port: where it listens.
        identity: who it says it is.
    """

    def __init__(self, build: Build, options: ServerOptions) -> None:
        """Start the server and wait until it answers.

        Must be called from the thread that lives as long as the server: on Linux it is killed when that one ends.

        Raises:
            BadInput: the address cannot be listened on.
            MissingTool: the build has no RPC server.
            CheckFailed: the build is not what its manifest says, or the server ended at once.
        """
        program = build.rpc_server
        check_files(build)
        self._build, self._options = build, options
        self._lines: deque[str] = deque(maxlen=200)
        self._clients = 0
        self._process: subprocess.Popen[str] | None = None
        self.host = options.host
        self._listener = _listen(options.host, options.port)
        self.port = self._listener.getsockname()[1] - 1
        try:
            self._process = self._start(program)
            self._reader = threading.Thread(target=self._read, name="rpc-server-output", daemon=True)
            self._reader.start()
            self.identity = self._described(self._protocol())
            # What it says from now on may tell why it ended; its greeting does not.
            self._lines.clear()
            self._listener.listen(8)
            threading.Thread(target=self._answer, name="rpc-identity", daemon=True).start()
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """`host:port` for a sweep file on this machine; a client elsewhere has its own name for the host."""
        return f"{self.host}:{self.port}"

    @property
    def identity_address(self) -> str:
        """Where it says who it is."""
        return f"{self.host}:{identity_port(self.port)}"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> None:
        """Wait until the server ends, which it does not by itself.

        Raises:
            CheckFailed: it did; the sentence says how.
        """
        assert self._process is not None
        status = self._process.wait()
        self._reader.join(timeout=1.0)
        # Whoever asks from now on must not be told that it is there.
        self.close()
        raise CheckFailed(f"the RPC server on {self.address} {_how(status)}{self._last_words()}")

    def close(self) -> None:
        """End the server and stop listening; a second call does nothing."""
        with contextlib.suppress(OSError):
            # A thread that waits in accept is not woken by closing alone.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout=LEAVE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, program: Path) -> subprocess.Popen[str]:
        options = self._options
        command = [
            str(program),
            "--host",
            self.host,
            "--port",
            str(self.port),
            "--threads",
            str(options.n_threads),
        ]
        command += ["--device", ",".join(options.devices)] if options.devices else []
        command += ["--cache"] if options.cache else []
        try:
            return subprocess.Popen(
                command,
                # It loads whatever is called libggml-NAME.so in the current folder; in its own there is only what
                # it is linked with already.
                cwd=program.parent,
                env=_environment(program.parent, options.cache),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                # A Ctrl-C at the terminal reaches this process, which ends the server.
                start_new_session=True,
                # SIGPIPE stays ignored: a client that is killed must not take the server with it.
                restore_signals=False,
                preexec_fn=_END_WITH_PARENT,  # noqa: PLW1509
            )
        except OSError as error:
            raise CheckFailed(f"{program} cannot be started: {error.strerror}") from None

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            text = line.rstrip()
            if text == _CONNECTED:
                self._clients += 1
            elif text == _LEFT:
                self._clients -= 1
            elif text:
                self._lines.append(text)

    def _protocol(self) -> str:
        """Wait until the server greets; the version of its protocol."""
        assert self._process is not None
        end = time.monotonic() + START_S
        while self._process.poll() is None:
            try:
                return _greet((LOOPBACK if self.host == EVERY_ADDRESS else self.host, self.port))
            except OSError as error:
                if time.monotonic() > end:
                    raise CheckFailed(f"the RPC server did not answer within {START_S:.0f} s") from error
                time.sleep(0.05)
        self._reader.join(timeout=1.0)
        raise CheckFailed(f"the RPC server {_how(self._process.returncode)}{self._last_words()}")

    def _described(self, protocol: str) -> ServerIdentity:
        made = self._build.manifest
        assert made.rpc_server is not None
        hashes = {Path(file.path).name.split(".")[0]: file.sha256 for file in made.libraries}
        return ServerIdentity(
            llt_rpc=VERSION,
            llt_version=llamacpp_tools.__version__,
            pin=made.pin,
            tree=made.tree,
            series_digest=made.series_digest,
            variant=made.variant,
            backend=made.backend,
            compiler=made.compiler,
            mitigation=made.mitigation,
            code_sha256=made.code_sha256,
            libllama_sha256=made.library_sha256,
            ggml_sha256=hashes["libggml"],
            rpc_server_sha256=made.rpc_server.sha256,
            protocol=protocol,
            n_threads=self._options.n_threads,
            devices=self._served(),
            cpu_info=cpu_info(),
            memory_bytes=int(psutil.virtual_memory().total),
            box=box_id(),
            started=secrets.token_hex(8),
        )

    def _served(self) -> tuple[ServedDevice, ...]:
        """The devices that the server says it serves, which it has said once somebody has connected."""
        end = time.monotonic() + LEAVE_S
        while time.monotonic() < end:
            matches = [_DEVICE.match(line) for line in list(self._lines)]
            found = tuple(
                ServedDevice(
                    name=each["name"],
                    description=each["what"],
                    memory_bytes=int(each["total"]) << 20,
                    free_bytes=int(each["free"]) << 20,
                )
                for each in matches
                if each
            )
            if found:
                return found
            time.sleep(0.02)
        raise CheckFailed(f"the RPC server does not say what it serves{self._last_words()}")

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SEND_S)
                now = self.identity.model_copy(update={"busy": self._clients > 0})
                connection.sendall(now.model_dump_json().encode() + b"\n")

    def _last_words(self) -> str:
        said = [line for line in list(self._lines) if not _DEVICE.match(line)]
        # What was wrong comes before what follows from it.
        wrong = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
        return f": {(wrong or said[-1:])[0].strip()[:200]}" if said else ""


def as_json(server: RpcServer) -> dict[str, object]:
    """What `--json` prints."""
    described = json.loads(server.identity.model_dump_json(exclude={"busy"}))
    return {
        "address": server.address,
        "identity_address": server.identity_address,
        "pid": server.pid,
        **described,
    }


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the port above `port`, where `port` is free, too; not listening yet."""
    for _ in range(_TRIES):
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(_bound(host, port))
            own = first.getsockname()[1]
            try:
                if own > MOST_PORT:
                    continue
                return _bound(host, identity_port(own))
            except BadInput:
                if port:
                    raise
    raise BadInput(f"no two ports side by side are free on {host}: name one with --port")


def _bound(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As upstream's server does, so that a restart need not wait for old connections to be forgotten.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        return made
    except OSError as error:
        made.close()
        raise BadInput(_not_bound(host, port, error)) from None


def _not_bound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use: name another with --port (it and the next one), or 0 for any"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine: --host takes one that `ip addr` shows"
    return f"port {port} on {host} cannot be listened on ({error.strerror}): name another with --port"


def _greet(where: tuple[str, int]) -> str:
    with socket.create_connection(where, timeout=LEAVE_S) as connection:
        connection.sendall(struct.pack("<BQ", _HELLO, _CAPS) + bytes(_CAPS))
        answer = b""
        while len(answer) < 8 + 4 + _CAPS:
            data = connection.recv(64)
            if not data:
                raise ConnectionError("it hung up")
            answer += data
    return ".".join(str(part) for part in answer[8:11])


def _environment(folder: Path, cache: bool) -> dict[str, str]:
    """Ours without what would put other libraries into the server's place."""
    env = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "GGML_BACKEND_PATH")}
    env["LD_LIBRARY_PATH"] = ":".join(filter(None, (str(folder), env.get("LD_LIBRARY_PATH", ""))))
    env["GGML_NO_BACKTRACE"] = "1"
    if cache:
        env["LLAMA_CACHE"] = str(home.llt_home() / "rpc-cache")
    return env


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _ending_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    # Found before the fork, after which little may be done.
    prctl = ctypes.CDLL(None).prctl

    def end_with_parent() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return end_with_parent


_END_WITH_PARENT = _ending_with_parent()
