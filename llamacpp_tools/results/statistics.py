"""Medians, percentiles and bootstrap intervals; every random draw is seeded, so a figure can be redone.

Intervals are percentile bootstrap intervals (Efron, 1979). A handful of rounds makes them narrower than they
should be: they can take only values that the rounds themselves took.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 4000
SEED = 20260629

Floats = npt.NDArray[np.float64]


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
    drawn = np.asarray(values, dtype=np.float64)[_rounds(len(values))]
    return _bounds(np.median(drawn, axis=1), level)


def ratio_interval(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> list[float] | None:
    """The interval of `median(a) / median(b)`, the same rounds drawn for both; None below two rounds.

    Raises:
        ValueError: the two have not the same number of rounds.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} rounds cannot be paired with {len(b)}")
    if len(a) < 2:
        return None
    rounds = _rounds(len(a))
    top = np.median(np.asarray(a, dtype=np.float64)[rounds], axis=1)
    bottom = np.median(np.asarray(b, dtype=np.float64)[rounds], axis=1)
    return _bounds(top / bottom, level)


def _rounds(count: int) -> npt.NDArray[np.int64]:
    # A fresh generator each time: an interval must not depend on what was computed before it.
    return np.random.default_rng(SEED).integers(0, count, size=(RESAMPLES, count))


def _bounds(values: Floats, level: float) -> list[float]:
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return [float(low), float(high)]
