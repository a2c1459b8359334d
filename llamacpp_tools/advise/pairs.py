"""Break-even from (acceptance, gain) pairs alone, where neither steps nor drafts were published.

With T_step and T(1) fixed the gain is linear in the acceptance, S = (1 + n a) T(1) / T_step(n), so a straight line
through the pairs of one recipe crosses 1 at the break-even. Pairs of depths too far apart stand on other lines, as
T(1) grows with depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Depths of one line differ by no more than this factor.
SAME_LINE = 2.0


@dataclass(frozen=True)
class Pair:
    """One cell with MTP: its depth, accepted over drafted, decode speed over that without the draft."""

    n_depth: int
    acceptance: float
    gain: float


@dataclass(frozen=True)
class Line:
    """The least-squares line through `pairs`, and where it crosses a gain of 1."""

    pairs: tuple[Pair, ...]
    break_even: float


def lines(pairs: Sequence[Pair]) -> list[Line]:
    """A line for each run of depths that lie close together; needs two pairs that differ, and a rising line."""
    found = []
    rest = sorted(pairs, key=lambda pair: pair.n_depth)
    while rest:
        together = [pair for pair in rest if pair.n_depth <= SAME_LINE * rest[0].n_depth]
        rest = rest[len(together) :]
        line = _line(together)
        if line is not None:
            found.append(line)
    return found


def _line(pairs: Sequence[Pair]) -> Line | None:
    acceptance = np.asarray([pair.acceptance for pair in pairs])
    gain = np.asarray([pair.gain for pair in pairs])
    if len(pairs) < 2 or np.ptp(acceptance) == 0:
        return None
    slope, start = np.polyfit(acceptance, gain, 1)
    # A gain that falls as acceptance rises comes from something else, and says nothing about a break-even.
    return Line(tuple(pairs), float((1 - start) / slope)) if slope > 0 else None
