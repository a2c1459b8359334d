"""The parts of a sweep that on a box stand for what lies far away: the journal, the display, the heat's limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llamacpp_tools.cluster.job import Job
from llamacpp_tools.sweep.cell import CellSpec
from llamacpp_tools.sweep.gate import Gate
from llamacpp_tools.sweep.heat import HeatLog
from llamacpp_tools.sweep.journal import Ledger
from llamacpp_tools.sweep.local import LocalExecutor
from llamacpp_tools.sweep.protocol import Event, Progress, Request
from llamacpp_tools.sweep.runner import Sinks


class Relay(Ledger):
    """Knows what the sweep's journal knows of these cells, and sends it every new entry."""

    def __init__(self, job: Job, run: int, history: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self._job = job
        self._runs = run
        for row in history:
            self._take(row)

    @property
    def run(self) -> int:
        """The number of the sweep's run, which is counted where its journal lies."""
        return self._runs

    def append(self, row: dict[str, Any]) -> None:
        """Keep an entry and send it.

        Raises:
            Interrupted: nobody would take it.
        """
        self._take(row)
        self._job.emit(row)


class RelaySinks(Sinks):
    """Says how far the work is."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def event(self, spec: CellSpec, event: Event) -> None:
        """A phase of a round."""
        if isinstance(event, Progress):
            about = {"cell": spec.index, "phase": event.phase, "round": event.round}
            self._job.tell({**about, "done": event.done, "total": event.total})

    def cooling(self, now_c: float, until_c: float) -> None:
        """The box is waited for."""
        self._job.check()
        self._job.tell(
            {"doing": f"cooling down: {now_c:.0f} °C, until {until_c:g} °C", "done": 0, "total": 0}
        )


@dataclass
class LeasedGate(Gate):
    """A gate that also ends a round for which nobody waits any more."""

    job: Job = field(default_factory=lambda: Job({}))

    def watcher(self, log: HeatLog, and_then: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """See `Gate.watcher`; it raises `Interrupted` where nobody listens."""

        def both() -> None:
            self.job.check()
            and_then()

        return super().watcher(log, both)


@dataclass(frozen=True)
class TextExecutor(LocalExecutor):
    """A local executor that reads a text of the user's own where this box keeps it.

    Attributes:
        texts: this box's file for each workload that is one on the sweep's machine.
    """

    texts: Mapping[str, str] = field(default_factory=dict)

    def request(self, spec: CellSpec) -> Request:
        """What a worker is told first."""
        here = self.texts.get(spec.workload)
        return super().request(replace(spec, workload=f"file:{here}") if here is not None else spec)
