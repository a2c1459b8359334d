"""What the two levers do to each other and to the prefill, in numbers: the stack, the tax, the lift of acceptance."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from llamacpp_tools.results import statistics
from llamacpp_tools.results.compare import by_round, confounded
from llamacpp_tools.results.groups import Group
from llamacpp_tools.results.schema import Cell, Comparison, Mode

Direction = Literal["more", "less", "not shown"]


@dataclass(frozen=True)
class Stack:
    """Both levers over the product of each alone: above 1 they gain more together than they multiply to.

    Attributes:
        swa, mtp, both: decode speed over dense, medians of the rounds' ratios.
        ratio: `both / (swa * mtp)`, the median of the rounds'.
        interval: at `statistics.LEVEL`, paired by round; None with fewer than two rounds.
        rounds: how many are paired; 0 for single figures.
        direction: what the interval shows; of single figures what they say.
    """

    swa: float
    mtp: float
    both: float
    ratio: float
    interval: list[float] | None
    rounds: int
    direction: Direction


@dataclass(frozen=True)
class Lift:
    """Draft acceptance with the window and without it.

    Attributes:
        without, with_window: accepted over drafted.
        interval: of the difference, over the steps of the texts (see `statistics.share_difference`); None where a
            result does not hold what became of each step.
        direction: what the interval shows; without one what the two figures say.
    """

    without: float
    with_window: float
    interval: list[float] | None
    direction: Direction

    @property
    def difference(self) -> float:
        """With the window less without."""
        return self.with_window - self.without


def stacked(group: Group) -> Stack | None:
    """The stack of a 2x2; None where a mode is missing, failed, or its text is not comparable."""
    wanted: tuple[Mode, ...] = ("dense", "swa", "mtp", "swa+mtp")
    cells = [usable(group, mode) for mode in wanted]
    known = [cell for cell in cells if cell is not None and cell.decode_tps]
    beside = list(group.cells.values())
    if len(known) < len(wanted) or any(confounded(a, b, beside) for a, b in itertools.combinations(known, 2)):
        return None
    speeds = [by_round(cell, "decode_tps") for cell in known]
    common = sorted(set.intersection(*(set(each) for each in speeds)))
    measured = any(cell.samples for cell in known)
    if measured and not common:
        return None
    # Published figures: one number a mode.
    rows = speeds if measured else [{0: cell.decode_tps or 0.0} for cell in known]
    logs = np.log([[row[at] for at in common or [0]] for row in rows])
    dense, swa, mtp, both = logs
    found = statistics.paired_logs(both - swa - mtp + dense)
    gains = [float(np.exp(np.median(each - dense))) for each in (swa, mtp, both)]
    if found is None:
        return None
    direction: Direction = "not shown"
    if found.differs is not False and found.ratio != 1:
        direction = "more" if found.ratio > 1 else "less"
    rounds = found.rounds if measured else 0
    return Stack(gains[0], gains[1], gains[2], found.ratio, found.interval, rounds, direction)


def lift(group: Group) -> Lift | None:
    """What the window does to draft acceptance in a 2x2; None where that cannot be compared.

    On a CPU every round of a cell drafts and accepts the same, so rounds are no samples of acceptance; the steps of
    its text are, though neighbours among them are alike.
    """
    mtp, both = usable(group, "mtp"), usable(group, "swa+mtp")
    if mtp is None or both is None or mtp.acceptance is None or both.acceptance is None:
        return None
    if confounded(both, mtp, group.cells.values()):
        return None
    interval = statistics.share_difference(steps(both), steps(mtp))
    difference = round(both.acceptance, 3) - round(mtp.acceptance, 3)
    direction: Direction = "more" if difference > 0 else "less"
    if difference == 0 or (interval is not None and interval[0] <= 0 <= interval[1]):
        direction = "not shown"
    return Lift(mtp.acceptance, both.acceptance, interval, direction)


def steps(cell: Cell) -> list[tuple[int, int]]:
    """(drafted, accepted) of each step of the cell's rounds, a round that repeats another left out."""
    found: dict[tuple[tuple[int, ...], ...], list[tuple[int, int]]] = {}
    for sample in cell.samples:
        key = (tuple(sample.step_drafted), tuple(sample.step_accepted))
        found.setdefault(key, list(zip(*key, strict=True)) if len(key[0]) == len(key[1]) else [])
    return [step for each in found.values() for step in each]


def tax(comparison: Comparison) -> float:
    """The share of prefill speed that a mode costs: 1 less the ratio; negative where it gains."""
    return 1 - comparison.ratio


def usable(group: Group, mode: Mode) -> Cell | None:
    """The group's cell of `mode` if it is ok."""
    cell = group.cells.get(mode)
    return cell if cell is not None and cell.status == "ok" else None
