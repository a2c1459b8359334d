"""What became of one cell: its status, the reason where it is not ok, and every round measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.protocol import Done, Loaded, RoundSample

Status = Literal["ok", "crashed", "oom", "timeout", "thermal", "invalid", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "crashed", "oom", "timeout", "thermal", "invalid", "skipped")


@dataclass(frozen=True)
class CellOutcome:
    """The end of one cell.

    Attributes:
        spec: what was asked.
        status: `ok`, or why there is no figure.
        reason: a sentence; None when the status is ok.
        loaded: what the worker said after loading, None if it never came that far.
        rounds: the rounds that were finished, also those before a crash.
        done: the worker's last word, None if it ended before it.
        wall_s: seconds from the worker's start to its end.
        bad_input: the user can mend the cause (a wrong recipe, an unreadable file).
        stderr_tail: the last of what the worker printed, for the log; never part of a result.
        reference: index of the cell that this one's tokens were compared with.
        first_divergence: first position at which they differ, None if they do not.
    """

    spec: CellSpec
    status: Status
    reason: str | None
    loaded: Loaded | None = None
    rounds: tuple[RoundSample, ...] = ()
    done: Done | None = None
    wall_s: float = 0.0
    bad_input: bool = False
    stderr_tail: str = ""
    reference: int | None = None
    first_divergence: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the cell may be used in a comparison."""
        return self.status == "ok"
