"""Medians, percentiles, intervals and tests; every random draw is seeded, so a figure can be redone.

A cell's own interval is a percentile bootstrap interval (Efron, 1979); a handful of rounds makes it narrower than
it should be, as it can take only values that the rounds themselves took. So a lever's gain has another one: the
logarithms of the rounds' ratios, paired, under Student's t (1908), which holds its error rate from two rounds on if
the noise of a round is about log-normal. From six rounds on Wilcoxon's signed-rank test (1945) has to agree, which
asks nothing of the noise but symmetry; with fewer its smallest possible p-value is above 0.05.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 4000
SEED = 20260629
# 2 / 2^6 is the first two-sided exact p-value of the signed-rank test below 0.05.
RANK_TEST_FROM = 6

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """One mode's speed over another's, round against round.

    Attributes:
        ratio: the median of the rounds' ratios.
        interval: at `LEVEL`; None with a single round.
        p_value: of the signed-rank test, two-sided and exact; None below `RANK_TEST_FROM` rounds.
        rounds: how many were paired.
    """

    ratio: float
    interval: list[float] | None
    p_value: float | None
    rounds: int

    @property
    def differs(self) -> bool | None:
        """Whether a difference is shown at `LEVEL`; None where nothing can be said."""
        if self.interval is None:
            return None
        low, high = self.interval
        shown = low > 1 or high < 1
        return shown and (self.p_value is None or self.p_value <= 1 - LEVEL)


def tokens_per_second(tokens: int, ns: int) -> float | None:
    """Tokens per second; None where nothing was timed."""
    return tokens / ns * 1e9 if tokens > 0 and ns > 0 else None


def median(values: Sequence[float]) -> float | None:
    """The median; None of nothing."""
    return float(np.median(values)) if len(values) else None


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of nothing."""
    return float(np.mean(values)) if len(values) else None


def stddev(values: Sequence[float]) -> float | None:
    """The sample standard deviation (n - 1), as llama-bench has it: 0 of one value, None of nothing."""
    if not len(values):
        return None
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def percentile(values: Sequence[float], q: float) -> float | None:
    """The `q`-th percentile (0 to 100), linear between neighbours; None of nothing."""
    return float(np.percentile(values, q)) if len(values) else None


def median_interval(values: Sequence[float], level: float = LEVEL) -> list[float] | None:
    """The bootstrap interval of the median; None below two values."""
    if len(values) < 2:
        return None
    # A fresh generator each time: an interval must not depend on what was computed before it.
    rounds = np.random.default_rng(SEED).integers(0, len(values), size=(RESAMPLES, len(values)))
    drawn = np.median(np.asarray(values, dtype=np.float64)[rounds], axis=1)
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return [float(low), float(high)]


def paired(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Paired | None:
    """`a` over `b`, round by round; None without a round.

    Args:
        a: speeds, all above 0.
        b: the speeds of the same rounds.
        level: of the interval.

    Raises:
        ValueError: the two have not the same number of rounds.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} rounds cannot be paired with {len(b)}")
    if not len(a):
        return None
    logs: Floats = np.log(np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64))
    middle = float(np.median(logs))
    if len(logs) < 2:
        return Paired(float(np.exp(middle)), None, None, 1)
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, len(logs) - 1) * np.std(logs, ddof=1) / np.sqrt(len(logs)))
    centre = float(np.mean(logs))
    # One round far off moves the mean away from the median; the interval holds both.
    low, high = min(centre - half, middle), max(centre + half, middle)
    p_value = None
    if len(logs) >= RANK_TEST_FROM:
        p_value = float(stats.wilcoxon(logs, method="exact").pvalue) if np.any(logs) else 1.0
    return Paired(float(np.exp(middle)), [float(np.exp(low)), float(np.exp(high))], p_value, len(logs))
