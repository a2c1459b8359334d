"""The border between a sweep and whatever measures its cells.

A whole cell goes in at `Executor.open`; a `Station` comes out, which measures that cell's rounds one at a time, so
that the modes of a comparison can take turns. Anything that goes wrong in there is a `CellFault` with a status and
a reason, never an end of the sweep. `local` holds the executor that runs workers on this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.outcome import Status
from llamacpp_tools.sweep.protocol import Done, Event, Loaded, RoundOrder, RoundSample

EventSink = Callable[[Event], None]
# Called every fraction of a second while a round runs; what it raises ends the round and its worker.
Watch = Callable[[], None]


class CellFault(Exception):
    """A cell could not be opened or a round not be measured.

    Attributes:
        status: the cell's status.
        reason: a sentence.
        bad_input: the user can mend the cause (a wrong recipe, an unreadable file).
        stderr_tail: the last of what the worker printed, for the log; never part of a result.
    """

    def __init__(self, status: Status, reason: str, bad_input: bool = False, stderr_tail: str = "") -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason
        self.bad_input = bad_input
        self.stderr_tail = stderr_tail


class Station(Protocol):
    """A cell, loaded and ready to be measured."""

    @property
    def loaded(self) -> Loaded:
        """What was loaded."""

    @property
    def pid(self) -> int | None:
        """The worker's process on this machine, None where it runs on another."""

    def round(self, order: RoundOrder, on_event: EventSink, watch: Watch) -> RoundSample:
        """Measure one round.

        Raises:
            CellFault: it could not be measured; the station is closed.
            Interrupted: the user stopped the sweep; the station is closed.
        """

    def close(self) -> Done | None:
        """Let the worker go; its last word, if it had one. A second call does nothing."""


class Executor(Protocol):
    """Anything that can measure cells."""

    def open(self, spec: CellSpec, on_event: EventSink, watch: Watch) -> Station:
        """Load what the cell needs.

        Raises:
            CellFault: it cannot be loaded; nothing is left running.
            Interrupted: the user stopped the sweep.
        """
