"""Cells whose layers lie on RPC servers: each server is asked who it is, and named when it fails.

Upstream's client has no patience and no words: it waits for a server that is gone for as long as the network does, and
one that hangs up ends the process in an abort that names nobody. So the executor of this machine is put behind one that
asks each server before a cell is opened, whenever the worker has long been silent, and after a worker has died.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from llamacpp_tools.build.manifest import Manifest
from llamacpp_tools.errors import LltError
from llamacpp_tools.rpc.identity import NoAnswer, ServerIdentity, ask, check_build
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.executor import CellFault, EventSink, Executor, Station, Watch
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import Done, Event, Loaded, RoundOrder, RoundSample

# A worker silent for longer may wait for a server that is gone; asking it takes milliseconds, in the server's process.
SILENT_S = 10.0
# The last worker's connection may be open still: a server ends what it computes before it sees that nobody waits.
BUSY_S = 30.0
# A worker dies of its server's end, but may be seen to before the server's own process is.
SETTLE_S = 2.0
_PAUSE_S = 0.1
# What the library says when a server hangs up (`ggml-rpc.cpp`).
_HUNG_UP = "Remote RPC server"

Ask = Callable[[str], ServerIdentity]


def servers_of(plan: Plan, here: Manifest, asked: Ask = ask) -> dict[str, ServerIdentity]:
    """Who the RPC servers of a plan are, by address; empty for a plan without any.

    Args:
        plan: the cells.
        here: the build that is to use them.
        asked: asks one.

    Raises:
        NoAnswer: one is not there.
        CheckFailed: one is of another build.
    """
    found = {}
    for address in dict.fromkeys(server for cell in plan.cells for server in cell.rpc):
        found[address] = asked(address)
        check_build(address, found[address], here)
    return found


@dataclass(frozen=True)
class OverServers:
    """An executor whose cells may lie on RPC servers.

    Attributes:
        inner: opens the cells.
        known: the servers as they were when the sweep began.
        here: the build that uses them.
        asked: asks a server who it is.
        silent_s: seconds of a worker's silence after which its servers are asked.
        busy_s: how long to wait for a server that serves somebody.
    """

    inner: Executor
    known: Mapping[str, ServerIdentity]
    here: Manifest
    asked: Ask = ask
    silent_s: float = SILENT_S
    busy_s: float = BUSY_S

    def open(self, spec: CellSpec, on_event: EventSink, watch: Watch) -> Station:
        """Load what the cell needs, once its servers are there and free.

        Raises:
            CellFault: it cannot be loaded, or a server is gone, busy, or not the one that the sweep began with.
            Interrupted: the user stopped the sweep.
        """
        if not spec.rpc:
            return self.inner.open(spec, on_event, watch)
        look = _Look(self, {server: self._ready(server, watch) for server in spec.rpc})
        try:
            station = self.inner.open(spec, look.hearing(on_event), look.watching(watch))
        except CellFault as fault:
            raise look.explained(fault) from None
        return _Watched(station, look)

    def _ready(self, server: str, watch: Watch) -> ServerIdentity:
        end = time.monotonic() + self.busy_s
        while True:
            watch()
            try:
                found = self.asked(server)
                check_build(server, found, self.here)
            except LltError as error:
                raise CellFault("skipped", f"not begun: {error}") from None
            if found.figure_key != self.known[server].figure_key:
                raise CellFault(
                    "skipped",
                    f"not begun: the RPC server {server} is not the one that the sweep began with (another box, "
                    "library or number of threads): `--resume` measures with this one",
                )
            if not found.busy:
                return found
            if time.monotonic() > end:
                raise CellFault(
                    "skipped",
                    f"not begun: the RPC server {server} has served somebody else for {self.busy_s:.0f} s, and it "
                    "serves one at a time: end the other sweep, or start another server",
                )
            time.sleep(_PAUSE_S)


class _Look:
    """Keeps an eye on the servers of one cell."""

    def __init__(self, over: OverServers, began: Mapping[str, ServerIdentity]) -> None:
        self._over = over
        self._began = began
        self._heard = time.monotonic()

    def hearing(self, on_event: EventSink) -> EventSink:
        """`on_event` that also says that the worker lives."""

        def heard(event: Event) -> None:
            self._heard = time.monotonic()
            on_event(event)

        return heard

    def watching(self, watch: Watch) -> Watch:
        """`watch` that also asks the servers where the worker is silent; a server that is gone is a fault."""
        self._heard = time.monotonic()

        def look() -> None:
            watch()
            if time.monotonic() - self._heard > self._over.silent_s:
                self._heard = time.monotonic()
                gone = self._gone()
                if gone is not None:
                    raise CellFault("crashed", gone)

        return look

    def explained(self, fault: CellFault) -> CellFault:
        """The fault with the server in its reason, if a server's end is what it is about."""
        hung_up = _HUNG_UP in fault.reason
        end = time.monotonic() + (SETTLE_S if hung_up else 0.0)
        gone = self._gone()
        while gone is None and time.monotonic() < end:
            time.sleep(_PAUSE_S)
            gone = self._gone()
        if gone is None and hung_up:
            gone = f"one of the RPC servers {', '.join(self._began)} hung up and is there again"
        if gone is None or gone in fault.reason:
            return fault
        return CellFault(
            fault.status, f"{gone}; the worker: {fault.reason}", fault.bad_input, fault.stderr_tail
        )

    def _gone(self) -> str | None:
        """What became of the first server that is no longer the process that the cell began with."""
        for server, before in self._began.items():
            try:
                if self._over.asked(server).started != before.started:
                    return f"the RPC server {server} ended and was started again"
            except NoAnswer:
                return f"the RPC server {server} died, or cannot be reached any more"
        return None


class _Watched:
    """A station whose servers are kept an eye on."""

    def __init__(self, inner: Station, look: _Look) -> None:
        self._inner = inner
        self._look = look

    @property
    def loaded(self) -> Loaded:
        return self._inner.loaded

    @property
    def pid(self) -> int | None:
        return self._inner.pid

    def round(self, order: RoundOrder, on_event: EventSink, watch: Watch) -> RoundSample:
        try:
            return self._inner.round(order, self._look.hearing(on_event), self._look.watching(watch))
        except CellFault as fault:
            raise self._look.explained(fault) from None

    def close(self) -> Done | None:
        return self._inner.close()
