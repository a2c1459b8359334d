"""A figure with its uncertainty as draws, so that what is computed from several has an interval, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llamacpp_tools.results.statistics import LEVEL, SEED

Floats = npt.NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Estimate:
    """A positive figure.

    Attributes:
        value: the best guess.
        draws: what it might be as well, [DRAWS]; None where nothing tells its spread.
    """

    value: float
    draws: Floats | None = None

    @property
    def interval(self) -> list[float] | None:
        """At `statistics.LEVEL`; None where the spread is not known."""
        if self.draws is None:
            return None
        tail = 100 * (1 - LEVEL) / 2
        low, high = np.percentile(self.draws, [tail, 100 - tail])
        return [min(float(low), self.value), max(float(high), self.value)]

    @property
    def shown(self) -> int:
        """1 if it is shown to be above 1, -1 if below, 0 if neither; without an interval the value alone decides."""
        low, high = self.interval or [self.value, self.value]
        return 1 if low > 1 else -1 if high < 1 else 0


def of_ratios(above: Sequence[float], below: Sequence[float], stream: int) -> Estimate:
    """`above` over `below`, paired by round: Student's t on the logarithms, as `statistics.paired` has it.

    Args:
        above, below: figures of the same rounds, all above 0, at least one.
        stream: numbers the random draws, so that two estimates are drawn apart.
    """
    logs = np.log(np.asarray(above, dtype=np.float64) / np.asarray(below, dtype=np.float64))
    value = float(np.exp(np.median(logs)))
    if len(logs) < 2:
        return Estimate(value)
    spread = float(np.std(logs, ddof=1)) / np.sqrt(len(logs))
    drawn = generator(stream).standard_t(len(logs) - 1, size=DRAWS)
    with np.errstate(over="ignore"):
        return Estimate(value, np.exp(np.mean(logs) + spread * drawn))


def product(a: Estimate, b: Estimate) -> Estimate:
    """`a` times `b`; a spread that is not known counts as none, unless neither is known."""
    if a.draws is None and b.draws is None:
        return Estimate(a.value * b.value)
    return Estimate(a.value * b.value, np.broadcast_to(drawn(a) * drawn(b), (DRAWS,)))


def drawn(estimate: Estimate) -> Floats:
    """The draws, or the value itself [1] where there are none."""
    return estimate.draws if estimate.draws is not None else np.asarray([estimate.value])


def generator(stream: int) -> np.random.Generator:
    """The same numbers each time for the same stream."""
    return np.random.default_rng([SEED, stream])
