"""How a sweep over boxes is shown: the rounds of all together, a line for each box, a line for what ends or leaves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from rich.console import Console
from rich.progress import Progress, TaskID

from llamacpp_tools.cli.sweepbars import HEARTBEAT_S, Bars, Keep, shown_as
from llamacpp_tools.cluster.sinks import BoxSinks
from llamacpp_tools.sweep.cell import cell_id
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan


class BoxBars(Bars, BoxSinks):
    """Shows what it is told of every box."""

    def __init__(self, bars: Progress, console: Console, plan: Plan, keep: Keep) -> None:
        super().__init__(bars, console, plan, keep)
        bars.remove_task(self._phase)
        self._boxes: dict[str, TaskID] = {}
        self._heard_s: dict[str, float] = {}
        self._owed: dict[str, int] = {}
        self._done: set[tuple[str | None, int]] = set()
        self._waits = ""

    def joined(self, box: str, words: str, rounds: int) -> None:
        """A line, and one bar more."""
        self._waits = ""
        self._say(f"box {box} has joined: {words}")
        if rounds:
            self._owed[box] = rounds
            self._bars.update(self._rounds, total=sum(self._owed.values()))

    def left(self, box: str, why: str) -> None:
        """A line with the reason."""
        self._say(f"box {box} has left: {why}")
        if box in self._boxes:
            self._bars.remove_task(self._boxes.pop(box))

    def doing(self, box: str, what: str, done: int, total: int) -> None:
        """The box's bar; in a log a line now and then."""
        text = f"{box}: {what}"
        if box not in self._boxes:
            self._boxes[box] = self._bars.add_task(text, total=None)
        self._bars.update(self._boxes[box], description=text, completed=done, total=total or None)
        now = time.monotonic()
        if not self._console.is_terminal and now > self._heard_s.setdefault(box, now) + HEARTBEAT_S:
            self._heard_s[box] = now
            self._say(f"{text} {done}/{total}" if total else text)

    def waiting(self, why: str) -> None:
        """Once for each reason."""
        if why != self._waits:
            self._waits = why
            self._say(f"waiting: {why}")

    def comparison(self, outcomes: Sequence[CellOutcome]) -> None:
        """A line for each cell that is done, with its box."""
        self._keep(outcomes)
        for outcome in outcomes:
            key = (outcome.box, outcome.spec.index)
            if key in self._done or not outcome.ok:
                continue
            self._done.add(key)
            count = len(outcome.rounds)
            rounds = "1 round" if count == 1 else f"{count} rounds"
            at = f"[{outcome.spec.index + 1}/{len(self._plan.cells)}] {outcome.box}"
            self._say(f"{at}: {cell_id(outcome.spec)}: ok, {rounds} in {outcome.wall_s:.1f} s")

    def stopping(self) -> None:
        """The user asked for an end."""
        self._say("stopping after the rounds that run; once more to end at once")


def box_bars(plan: Plan, keep: Keep) -> AbstractContextManager[BoxBars]:
    """`sweepbars.shown_as`, for a sweep over boxes."""
    return shown_as(BoxBars, plan, keep)
