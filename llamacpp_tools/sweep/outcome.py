"""What became of one cell: its status, the reason where it is not ok, and every round measured."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.heat import HeatLog
from llamacpp_tools.sweep.protocol import Loaded, RoundSample

Status = Literal["ok", "crashed", "oom", "timeout", "thermal", "invalid", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "crashed", "oom", "timeout", "thermal", "invalid", "skipped")


@dataclass(frozen=True)
class Conditions:
    """What the machine was like while a round ran.

    Attributes:
        attempt: the run of the sweep that measured it, from 1.
        heat: the sensors' readings.
        other_cpu: CPU time that other programs took meanwhile, in CPUs; None if unknown.
    """

    attempt: int = 1
    heat: HeatLog = field(default_factory=HeatLog)
    other_cpu: float | None = None


@dataclass(frozen=True)
class CellOutcome:
    """The end of one cell.

    Attributes:
        spec: what was asked.
        status: `ok`, or why there is no figure.
        reason: a sentence; None when the status is ok.
        loaded: what the worker said after loading, None if it never came that far.
        rounds: the rounds that were finished, also those before a crash, in order.
        conditions: of each round.
        max_rss_bytes: the worker's peak resident memory, None if it ended before it could say.
        wall_s: seconds that the cell's rounds took, loading included.
        attempts: how many runs of the sweep began the cell.
        notes: what the worker had to say.
        check: a round from a true prefill that counts only in the check of the kept one.
        reference: index of the cell that this one's tokens were compared with.
        first_divergence: first position at which they differ, None if they do not.
        box: where it was measured; None for this machine.
    """

    spec: CellSpec
    status: Status
    reason: str | None
    loaded: Loaded | None = None
    rounds: tuple[RoundSample, ...] = ()
    conditions: tuple[Conditions, ...] = ()
    max_rss_bytes: int | None = None
    wall_s: float = 0.0
    attempts: int = 1
    notes: tuple[str, ...] = ()
    check: RoundSample | None = None
    reference: int | None = None
    first_divergence: int | None = None
    box: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the cell may be used in a comparison."""
        return self.status == "ok"
