"""How a running sweep is shown: bars on stderr for the rounds and the phase, a line for each cell that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from llamacpp_tools.cli.output import stderr_console
from llamacpp_tools.sweep.cell import CellSpec, cell_id
from llamacpp_tools.sweep.executor import CellFault
from llamacpp_tools.sweep.outcome import CellOutcome
from llamacpp_tools.sweep.plan import Plan
from llamacpp_tools.sweep.protocol import Event, Note, RoundSample
from llamacpp_tools.sweep.protocol import Progress as Phase
from llamacpp_tools.sweep.runner import Sinks

# Seconds after which a log or a pipe hears how far a long phase has come.
HEARTBEAT_S = 20.0
Keep = Callable[[Sequence[CellOutcome]], None]


class Bars(Sinks):
    """Shows what it is told."""

    def __init__(self, bars: Progress, console: Console, plan: Plan, keep: Keep) -> None:
        self._bars = bars
        self._console = console
        self._plan = plan
        self._keep = keep
        self._shown: set[int] = set()
        self._spoke_s = time.monotonic()
        self._rounds: TaskID = bars.add_task("rounds", total=sum(spec.rounds for spec in plan.cells))
        self._phase: TaskID = bars.add_task("", total=None)

    def event(self, spec: CellSpec, event: Event) -> None:
        """The phase's bar."""
        if isinstance(event, Phase):
            text = f"{spec.mode} d{spec.n_depth}, round {event.round + 1} of {spec.rounds}: {event.phase}"
            self._bars.update(self._phase, description=text, completed=event.done, total=event.total)
            if not self._console.is_terminal and time.monotonic() > self._spoke_s + HEARTBEAT_S:
                self._say(f"{text} {event.done}/{event.total}")
        elif isinstance(event, Note):
            self._say(f"{cell_id(spec)}: {event.text}")

    def round(self, spec: CellSpec, sample: RoundSample) -> None:
        """One more of the rounds."""
        self._bars.advance(self._rounds)

    def fault(self, spec: CellSpec, fault: CellFault) -> None:
        """A line with the reason."""
        self._shown.add(spec.index)
        self._say(
            f"[{spec.index + 1}/{len(self._plan.cells)}] {cell_id(spec)}: {fault.status}: {fault.reason}"
        )

    def cooling(self, now_c: float, until_c: float) -> None:
        """The phase's bar says what is waited for."""
        text = f"cooling down: {now_c:.0f} °C, until {until_c:g} °C"
        self._bars.update(self._phase, description=text, completed=0, total=None)

    def comparison(self, outcomes: Sequence[CellOutcome]) -> None:
        """A line for each cell that is done."""
        self._keep(outcomes)
        for outcome in outcomes:
            if outcome.spec.index not in self._shown and outcome.ok:
                self._shown.add(outcome.spec.index)
                done = f"[{outcome.spec.index + 1}/{len(self._plan.cells)}] {cell_id(outcome.spec)}"
                count = len(outcome.rounds)
                rounds = "1 round" if count == 1 else f"{count} rounds"
                self._say(f"{done}: ok, {rounds} in {outcome.wall_s:.1f} s")

    def stopping(self) -> None:
        """The user asked for an end."""
        self._say("stopping after this round; once more to end at once")

    def _say(self, text: str) -> None:
        self._spoke_s = time.monotonic()
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


AnyBars = TypeVar("AnyBars", bound=Bars)


@contextmanager
def shown_as(kind: type[AnyBars], plan: Plan, keep: Keep) -> Iterator[AnyBars]:
    """Bars of one kind while the body runs; on what is no terminal only the lines.

    Args:
        kind: the class that shows.
        plan: the cells.
        keep: given the outcomes after each comparison.
    """
    console = stderr_console()
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    what = TextColumn("{task.description}", markup=False)
    with Progress(
        what, *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield kind(progress, console, plan, keep)


def bars(plan: Plan, keep: Keep) -> AbstractContextManager[Bars]:
    """`shown_as`, for a sweep on this machine."""
    return shown_as(Bars, plan, keep)
