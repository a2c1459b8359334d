"""Processes that stay: a box's worker, which joins again whenever its scheduler comes back, and a scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llamacpp_tools.cluster import nodes
from llamacpp_tools.cluster.security import Address, is_loopback, knock, local_host, security
from llamacpp_tools.errors import BadInput, CheckFailed, LltError, MissingTool

if TYPE_CHECKING:
    from distributed.security import Security

AGAIN_S = 3.0
# What a process that was told to end takes to say goodbye, and when it ends without.
CLOSE_S = 10.0
GRACE_S = 30.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Joining:
    """How a box joins.

    Attributes:
        where: the scheduler.
        certs: folder of certificates, None for Dask's own settings.
        name: what rows say; unlike every other box's.
        models: folders where models are looked for.
        rebuild: a build of another series may be replaced.
        wait: a scheduler that does not listen yet is waited for.
        verbose: Dask's log is wanted.
    """

    where: Address
    certs: Path | None
    name: str
    models: tuple[Path, ...] = ()
    rebuild: bool = False
    wait: bool = False
    verbose: bool = False


def own_name() -> str:
    """What a box is called where nothing else is said: the machine's own name, as far as it is one."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname().split(".")[0]).strip("-._") or "box"


def join(joining: Joining, tell: Tell) -> None:
    """Be a box until the process is ended.

    Args:
        joining: how.
        tell: given a sentence whenever something changes.

    Raises:
        BadInput: a name that cannot be, or certificates that cannot be used.
        LltError: the scheduler does not answer, or does not take this box.
    """
    if not NAME.fullmatch(joining.name):
        raise BadInput(f"--name {joining.name!r}: letters, digits and ._- make a box's name, 63 at most")
    for folder in joining.models:
        if not folder.is_dir():
            raise BadInput(f"--models {folder}: there is no such folder")
    nodes.settle()
    nodes.quiet(joining.verbose)
    sealed = security("worker", joining.where, joining.certs)
    _first_knock(joining, sealed, tell)
    until_told(_stay(joining, tell))


def _first_knock(joining: Joining, sealed: Security | None, tell: Tell) -> None:
    waiting = False
    while True:
        try:
            return knock(joining.where, sealed, "worker")
        except MissingTool:
            if not joining.wait:
                raise
            if not waiting:
                tell(f"no scheduler listens at {joining.where} yet; trying again until one does, Ctrl-C ends")
            waiting = True
            time.sleep(AGAIN_S)


async def _stay(joining: Joining, tell: Tell) -> None:
    joined_once = False
    while True:
        try:
            await _once(joining, tell)
            joined_once = True
            tell(f"the scheduler at {joining.where} is gone; trying again until it is back, Ctrl-C ends")
        except (CheckFailed, MissingTool) as error:
            # After a cut network the scheduler takes a while to let go of this box's name.
            if not joined_once:
                raise
            if isinstance(error, CheckFailed) and not isinstance(error, NameTaken):
                tell(str(error))
        await asyncio.sleep(AGAIN_S)


class NameTaken(CheckFailed):
    """Another box of that name has joined."""


async def _once(joining: Joining, tell: Tell) -> None:
    """Join, and return when the scheduler is gone."""
    where = joining.where
    sealed = security("worker", where, joining.certs)
    await asyncio.to_thread(knock, where, sealed, "worker")
    with tempfile.TemporaryDirectory(prefix="llt-box-") as scratch:
        worker = nodes.BoxWorker(
            str(where),
            name=joining.name,
            host=local_host(where),
            protocol=where.scheme,
            security=sealed,
            local_directory=scratch,
            models=tuple(map(str, joining.models)),
            rebuild=joining.rebuild,
        )
        try:
            await worker
        except (OSError, RuntimeError, ValueError) as error:
            await worker.close()
            raise _why_not(error, joining) from None
        tell(f"the box {joining.name} has joined {where}; it listens at {worker.address} and nowhere else")
        try:
            await worker.finished()
        finally:
            await _closed(worker.close())


def _why_not(error: BaseException, joining: Joining) -> LltError:
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < 8:
        told.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    if any("name taken" in text for text in told):
        return NameTaken(
            f"a box called {joining.name} has joined {joining.where} already: name this one otherwise with --name"
        )
    return CheckFailed(f"the scheduler at {joining.where} does not take this box: {told[-1]}")


def serve(host: str, port: int, certs: Path | None, tell: Tell, verbose: bool = False) -> None:
    """Be a scheduler until the process is ended.

    Args:
        host: the one address to listen at.
        port: its port.
        certs: folder of certificates; None for a plain one, on loopback alone.
        tell: given a sentence when it listens.
        verbose: Dask's log is wanted.

    Raises:
        BadInput: an address that others can reach, without certificates.
        MissingTool: nothing can listen there.
    """
    if certs is None and not is_loopback(host):
        raise BadInput(
            f"--host {host} can be reached by others, and Dask carries pickled code, so TLS is required: make "
            "certificates with `llt cluster certs DIR` and name the folder with --certs DIR"
        )
    where = Address("tls" if certs is not None else "tcp", host, port)
    nodes.settle()
    nodes.quiet(verbose)
    security("scheduler", where, certs)
    until_told(_serve(where, certs, tell))


async def _serve(where: Address, certs: Path | None, tell: Tell) -> None:
    scheduler = nodes.QuietScheduler(
        host=where.host,
        port=where.port,
        protocol=where.scheme,
        security=security("scheduler", where, certs),
        dashboard=False,
    )
    try:
        await scheduler
    except (OSError, RuntimeError, ValueError) as error:
        await scheduler.close()
        raise MissingTool(f"nothing can listen at {where}: {error.__cause__ or error}") from None
    sealed = f" --certs {certs}" if certs is not None else ""
    tell(
        f"a scheduler listens at {scheduler.address}; join boxes with `llt worker {scheduler.address}{sealed}`"
    )
    try:
        await scheduler.finished()
    finally:
        await _closed(scheduler.close())


async def _closed(closing: Awaitable[object]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closing, CLOSE_S)


def until_told(staying: Awaitable[None]) -> None:
    """Run what stays until SIGINT or SIGTERM cancels it.

    An exception raised by a signal's handler comes wherever the process is. Within a callback of the garbage collector,
    and Dask has one, it is written to stderr and lost: the process would stay. A cancelled task is not lost, and a
    process that was told and is still there `GRACE_S` later, whatever it waits for, ends without further words.

    Raises:
        KeyboardInterrupt: it was told to end.
    """
    last = threading.Timer(GRACE_S, os._exit, (130,))
    last.daemon = True

    def cancel(task: asyncio.Task[Any]) -> None:
        task.cancel()
        with contextlib.suppress(RuntimeError):  # told twice
            last.start()

    async def heeding() -> None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        for number in handlers:
            loop.add_signal_handler(number, cancel, task)
        await staying

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # In the background of a script SIGINT is ignored, and stays so.
    handlers = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(heeding())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
