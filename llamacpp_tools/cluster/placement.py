"""Which box measures which comparison next: pure, so that a simulation of a thousand boxes runs the same code.

A comparison is what stays together: all modes at one depth and workload. The longest goes first (Graham's LPT list
scheduling, whose makespan is at most 4/3 of the best on equal boxes). A comparison of which a box has measured some
rounds is left to that box while it is there and others have anything else to do.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llamacpp_tools.sweep.cell import CellSpec

Place = Literal["any", "each"]
# A generated token takes about as long as this many tokens of a prompt; only the order of the queue hangs on it.
DECODE_WEIGHT = 30.0


@dataclass
class Task:
    """A comparison that is still to be measured.

    Attributes:
        index: its place among the plan's comparisons.
        weight: how long it may take, in any unit.
        cells: indices of its cells.
        home: the box that has measured some of it; None for none.
        only: the box that has to measure it; None for any.
    """

    index: int
    weight: float
    cells: frozenset[int] = frozenset()
    home: str | None = None
    only: str | None = None


@dataclass
class Queue:
    """What waits, what runs where, and what is done.

    Attributes:
        waiting: the longest first.
        running: by box.
        too_large: cells that a box cannot hold, by box.
    """

    waiting: list[Task] = field(default_factory=list)
    running: dict[str, Task] = field(default_factory=dict)
    too_large: dict[str, Collection[int]] = field(default_factory=dict)
    _homes: Counter[str | None] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        tasks, self.waiting = self.waiting, []
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """One more that waits."""
        bisect.insort(self.waiting, task, key=_order)
        self._homes[task.home] += 1

    def take(self, box: str, present: Collection[str]) -> Task | None:
        """The next task for a box; None if there is none that it should do now.

        Args:
            box: who asks.
            present: all boxes that take part, `box` among them.
        """
        # Where nothing waits for this very box, the first that waits for nobody is it: no need to look further.
        enough = 0 if self._homes[box] else 1
        best, rank = None, 3
        for at, task in enumerate(self.waiting):
            if not self._may(task, box, present):
                continue
            found = self._rank(task, box, present)
            if found < rank:
                best, rank = at, found
            if rank <= enough:
                break
        if best is None:
            return None
        taken = self.waiting.pop(best)
        self._homes[taken.home] -= 1
        self.running[box] = taken
        return taken

    def done(self, box: str) -> None:
        """The box has finished its task."""
        self.running.pop(box, None)

    def give_back(self, box: str, begun: bool) -> None:
        """The box is lost, or too hot; what it was at waits again, for this box first if it had begun."""
        task = self.running.pop(box, None)
        if task is not None:
            task.home = box if begun else task.home
            self.add(task)

    def leaves(self, box: str) -> list[Task]:
        """Take out what waits for this box alone, which will not come back."""
        gone = [task for task in self.waiting if task.only == box]
        self.waiting = [task for task in self.waiting if task.only != box]
        self._homes.subtract(task.home for task in gone)
        return gone

    @property
    def empty(self) -> bool:
        """Whether everything is done."""
        return not self.waiting and not self.running

    def _may(self, task: Task, box: str, present: Collection[str]) -> bool:
        if task.only is not None:
            return task.only == box
        # A cell that this box cannot hold is left to one that can; where none can, its row says so.
        return self._holds(box, task) or not any(self._holds(other, task) for other in present)

    def _holds(self, box: str, task: Task) -> bool:
        return not task.cells.intersection(self.too_large.get(box, ()))

    @staticmethod
    def _rank(task: Task, box: str, present: Collection[str]) -> int:
        if task.home == box:
            return 0
        # Another box's, begun there, is left to it while it is here. Of one that is gone it is anybody's at once: put
        # last, a long comparison would run alone when all else is done.
        return 2 if task.home in present else 1


def _order(task: Task) -> tuple[float, int]:
    return (-task.weight, task.index)


def weight(cells: Iterable[CellSpec]) -> float:
    """How long a comparison may take beside others, in prompt tokens: one prefill a mode and depth, then the rounds."""
    return sum(cell.n_depth + cell.rounds * cell.n_predict * DECODE_WEIGHT for cell in cells)


def lower_bound(weights: Sequence[float], speeds: Sequence[float]) -> float:
    """No schedule is shorter: all work over all speeds, and the longest task on the fastest box.

    Args:
        weights: seconds of each task on a box of speed 1.
        speeds: of the boxes.
    """
    if not weights:
        return 0.0
    return max(sum(weights) / sum(speeds), max(weights) / max(speeds))
