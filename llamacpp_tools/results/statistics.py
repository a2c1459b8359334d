"""Medians, percentiles, intervals and tests; every random draw is seeded, so a figure can be redone.

A cell's own interval is a percentile bootstrap interval (Efron, 1979); a handful of rounds makes it narrower than
it should be, as it can take only values that the rounds themselves took. So a lever's gain has another one: the
logarithms of the rounds' ratios, paired, under Student's t (1908), which holds its error rate from two rounds on if
the noise of a round is about log-normal. From six rounds on Wilcoxon's signed-rank test (1945) has to agree, which
asks nothing of the noise but symmetry; with fewer its smallest possible p-value is above 0.05.

Rounds that were not measured side by side cannot be paired: their logarithms are compared by Welch's t (1947), which
lets the two sides spread differently. Where several such comparisons stand together their p-values are adjusted as
Holm (1979) has it, so that the chance of any false alarm among them stays that of one.
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


@dataclass(frozen=True)
class Unpaired:
    """Speeds of one run over those of another.

    Attributes:
        ratio: of the two geometric means.
        interval: at `LEVEL`; None where one side has a single round.
        p_value: two-sided, of the ratio being 1; None with the interval.
        variance: of the ratio's logarithm.
        freedom: degrees of freedom, after Welch and Satterthwaite; 0 with the interval None or nothing that varies.
    """

    ratio: float
    interval: list[float] | None
    p_value: float | None
    variance: float = 0.0
    freedom: float = 0.0


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
    return paired_logs(np.log(np.asarray(a, dtype=np.float64) / np.asarray(b, dtype=np.float64)), level)


def paired_logs(values: Sequence[float] | Floats, level: float = LEVEL) -> Paired | None:
    """The same of one number a round: the logarithm of a ratio, or of a ratio of ratios; None without a round."""
    logs: Floats = np.asarray(values, dtype=np.float64)
    if not len(logs):
        return None
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


def unpaired(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Unpaired | None:
    """`a` over `b` where the rounds have nothing to do with each other; None where one side has none.

    Args:
        a: speeds, all above 0.
        b: speeds of another run.
        level: of the interval.
    """
    if not len(a) or not len(b):
        return None
    sides = [np.log(np.asarray(side, dtype=np.float64)) for side in (a, b)]
    centre = float(np.mean(sides[0]) - np.mean(sides[1]))
    if min(len(a), len(b)) < 2:
        return Unpaired(float(np.exp(centre)), None, None)
    parts = [(float(np.var(side, ddof=1)) / len(side), len(side) - 1.0) for side in sides]
    return _unpaired(centre, parts, level)


def together(found: Sequence[Unpaired], level: float = LEVEL) -> Unpaired | None:
    """The geometric mean of several ratios, with what their spreads add up to; None where one has no interval."""
    if not found or any(each.interval is None for each in found):
        return None
    count = len(found)
    centre = float(np.mean([np.log(each.ratio) for each in found]))
    parts = [(each.variance / count**2, each.freedom) for each in found]
    return _unpaired(centre, parts, level)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for how many there are, in their order (Holm, 1979)."""
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = least
    return adjusted


def share_difference(
    a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]], level: float = LEVEL
) -> list[float] | None:
    """Interval of share a - share b, each the sum of the second numbers over the sum of the first.

    Neighbouring steps of a text are alike, so whole stretches of them are drawn: the moving-block bootstrap
    (Kuensch, 1989), the blocks as long as the cube root of the text.

    Args:
        a: (drafted, accepted) of each step, in order; steps that drafted nothing may be among them.
        b: the same of another text, drawn independently.
        level: of the interval.

    Returns:
        None where one of them has fewer than two blocks, or drafted nothing.
    """
    ours, theirs = _drawn_shares(a, SEED), _drawn_shares(b, SEED + 1)
    if ours is None or theirs is None:
        return None
    tail = 100 * (1 - level) / 2
    low, high = np.nanpercentile(ours - theirs, [tail, 100 - tail])
    return [float(low), float(high)]


def _drawn_shares(steps: Sequence[tuple[int, int]], seed: int) -> Floats | None:
    counts = np.asarray(steps, dtype=np.float64).reshape(-1, 2)
    size = max(1, round(len(counts) ** (1 / 3)))
    if len(counts) < 2 * size or not counts[:, 0].sum():
        return None
    blocks = np.stack([counts[at : at + size].sum(axis=0) for at in range(len(counts) - size + 1)])
    picks = np.random.default_rng(seed).integers(0, len(blocks), size=(RESAMPLES, -(-len(counts) // size)))
    sums = blocks[picks].sum(axis=1)
    shares: Floats = np.divide(sums[:, 1], sums[:, 0], out=np.full(RESAMPLES, np.nan), where=sums[:, 0] > 0)
    return shares


def _unpaired(centre: float, parts: Sequence[tuple[float, float]], level: float) -> Unpaired:
    variance = sum(part for part, _ in parts)
    ratio = float(np.exp(centre))
    if variance == 0:
        return Unpaired(ratio, [ratio, ratio], 0.0 if centre else 1.0)
    from scipy import stats

    # A part that does not vary takes no degree of freedom.
    freedom = variance**2 / sum(part**2 / free for part, free in parts if part)
    error = variance**0.5
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(centre) / error, freedom))
    interval = [float(np.exp(centre - half)), float(np.exp(centre + half))]
    return Unpaired(ratio, interval, p_value, variance, freedom)
