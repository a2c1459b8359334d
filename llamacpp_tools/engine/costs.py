"""What a step takes by the length of its draft, learnt from the steps of one text as they come.

A machine is slower for a while, and a text grows: that meets every length alike, yet only one is used at a time. So
the logarithm of a step's time is taken as the sum of the machine's tempo, which wanders, and of what its length costs
beside a plain step, which stays; a filter (Kalman 1960) tells the two apart, and how sure it is of each. Lengths
foretell each other: before any was timed, the costs lie near a curve whose height and slope are open.

Pure numbers, no clock: times are handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Times of one length, one after the other, that are taken together.
TOGETHER = 4
# What is known before the first time, as logarithms of what a draft of n takes over a plain step: a draft of 1, and how
# the costs rise with log((n + 1) / 2), each with its standard deviation; how far costs may leave that curve from one
# length to the next, and each for itself.
FIRST, FIRST_SD = 0.3, 0.4
SLOPE, SLOPE_SD = 0.3, 0.3
STEP_SD, OWN_SD = 0.04, 0.06
# How far the tempo and each length's cost may go within one step, and from one text to the next.
TEMPO_SD, DRIFT_SD = 0.025, 0.001
TEMPO_OVER_SD, DRIFT_OVER_SD = 0.3, 0.02
# How much one step's time scatters, before any was seen and at most; and what no number of times makes smaller.
SCATTER, SCATTER_MOST, FLOOR = 0.06, 0.3, 0.07
# A time may move what is known by so many standard deviations and no further; what lies beyond makes it open again, by
# this share.
HEARD, SURPRISE = 2.0, 0.25
# But by so much more where a length is timed for the first time, if that many steps tell: a stall is one of them.
NEWS, AGREEING = 2.0, 3


class Costs:
    """Time of a step by the length of its draft, in ns: drafting, verifying and rolling back."""

    def __init__(self, limit: int) -> None:
        """Nothing was timed.

        Args:
            limit: the longest draft.
        """
        above = [math.log((length + 1) / 2) for length in range(1, limit + 1)]
        # The first is the tempo, the logarithm of a plain step's time; the others what their length costs beside it.
        self._mean = [0.0, *(FIRST + SLOPE * each for each in above)]
        # Lists: between two decodes the caches are cold, and arrays of this size took twice as long there.
        self._spread = [[1e4] + [0.0] * limit] + [
            [0.0, *(_together(a, b, above) for b in range(1, limit + 1))] for a in range(1, limit + 1)
        ]
        self._counts = [0] * (limit + 1)
        self._taken_at = [0] * (limit + 1)
        self._costs = [0.0] * (limit + 1)
        self._times: list[float] = []
        self._length = self._settled = -1
        self._scatter = SCATTER * SCATTER
        self.longest = -1

    def add(self, length: int, ns: int, at: int) -> None:
        """A step with a draft of `length` took `ns`, above 0; `at` numbers the steps."""
        if length != self._length:
            self.settle()
            self._length = length
        time = math.log(ns)
        times = self._times
        if times:
            off = time - times[-1]
            apart = min(off * off / 2, SCATTER_MOST * SCATTER_MOST)
            self._scatter += (apart - self._scatter) / 32
        times.append(time)
        self._counts[length] += 1
        self._taken_at[length] = at
        if len(times) == TOGETHER or self.longest < 0:
            self.settle()

    def settle(self) -> None:
        """Learn from the times that were not taken into account yet."""
        times, length = self._times, self._length
        if not times:
            return
        times.sort()
        middle = len(times) // 2
        seen = times[middle] if len(times) % 2 else (times[middle - 1] + times[middle]) / 2
        mean, spread, steps = self._mean, self._spread, len(times)
        self._drift(DRIFT_SD * DRIFT_SD * steps, TEMPO_SD * TEMPO_SD * steps)
        shared = [a + b for a, b in zip(spread[0], spread[length], strict=True)] if length else spread[0][:]
        scatter = shared[0] + (shared[length] if length else 0.0) + self._scatter / steps + FLOOR * FLOOR
        most = HEARD * math.sqrt(scatter)
        if steps >= AGREEING and self._counts[length] == steps:
            most *= NEWS
        told = seen - mean[0] - (mean[length] if length else 0.0)
        off, beyond = min(max(told, -most), most), abs(told) - most
        for at, each in enumerate(shared):
            gain = each / scatter
            mean[at] += gain * off
            spread[at] = [a - gain * b for a, b in zip(spread[at], shared, strict=True)]
        if beyond > 0:
            self._doubt(length, SURPRISE * beyond * beyond)
        self._settled = length
        tempo = mean[0]
        self._costs = [math.exp(tempo), *[math.exp(tempo + beside) for beside in mean[1:]]]
        self.longest = max(self.longest, length)
        times.clear()

    def _doubt(self, length: int, extra: float) -> None:
        """Right after a change it is the length that costs what it was not known to; later on, the machine's pace."""
        spread = self._spread
        if length and length != self._settled:
            spread[length][length] += extra
            return
        spread[0][0] += extra
        if length != self._settled:
            # What every other length costs was known beside the plain step.
            for at, row in enumerate(spread[1:], 1):
                row[0] -= extra
                spread[0][at] -= extra
                row[1:] = [each + extra for each in row[1:]]

    def known(self, length: int) -> bool:
        """Whether a step of this length was ever timed."""
        return self._counts[length] > 0

    def age(self, length: int, at: int) -> int:
        """Steps since a step of this length was timed."""
        return at - self._taken_at[length]

    def count(self, length: int) -> int:
        """How many steps of this length were timed."""
        return self._counts[length]

    def of(self, length: int) -> float:
        """What a step of this length takes now; of one not tried yet, what the others make likely."""
        return self._costs[length]

    def rates(self, tokens: Sequence[float]) -> list[float]:
        """Tokens per ns by length, of what a step of each gives; 0 where it was never timed."""
        every = zip(tokens, self._costs, self._counts, strict=True)
        return [expected / cost if count else 0.0 for expected, cost, count in every]

    def unsure(self, beside: int) -> list[float]:
        """The standard deviation of each length's cost over that of `beside`, as a share of it."""
        spread = self._spread
        # A plain step's cost beside a plain step is 1, for certain.
        variances = [0.0, *(spread[at][at] for at in range(1, len(spread)))]
        together = [0.0, *spread[beside][1:]] if beside else [0.0] * len(spread)
        own = variances[beside]
        return [
            math.sqrt(max(variance + own - 2 * both, 0.0))
            for variance, both in zip(variances, together, strict=True)
        ]

    def forget(self) -> None:
        """Another text, which may stand at another depth."""
        self.settle()
        self._drift(DRIFT_OVER_SD * DRIFT_OVER_SD, TEMPO_OVER_SD * TEMPO_OVER_SD)
        self._taken_at = [0] * len(self._taken_at)

    def _drift(self, each: float, tempo: float) -> None:
        for at, row in enumerate(self._spread):
            row[at] += each
        self._spread[0][0] += tempo


def _together(a: int, b: int, above: Sequence[float]) -> float:
    """How two lengths' costs vary together before either was timed."""
    curve = FIRST_SD * FIRST_SD + SLOPE_SD * SLOPE_SD * above[a - 1] * above[b - 1]
    return curve + STEP_SD * STEP_SD * min(a, b) + (OWN_SD * OWN_SD if a == b else 0.0)
