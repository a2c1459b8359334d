import numpy as np
import pytest

from llamacpp_tools.results import statistics


def test_known_values():
    values = [1.0, 2.0, 3.0, 10.0]
    assert statistics.median(values) == 2.5
    assert statistics.mean(values) == 4.0
    assert statistics.stddev(values) == pytest.approx(np.std(values, ddof=1))
    assert statistics.percentile(values, 50) == 2.5
    assert statistics.percentile(values, 95) == pytest.approx(8.95)
    assert statistics.tokens_per_second(200, 4_000_000_000) == 50.0


def test_nothing_gives_nothing():
    assert statistics.median([]) is None
    assert statistics.mean([]) is None
    assert statistics.stddev([]) is None
    assert statistics.percentile([], 50) is None
    assert statistics.median_interval([1.0]) is None
    assert statistics.ratio_interval([1.0], [2.0]) is None
    assert statistics.tokens_per_second(0, 5) is None
    assert statistics.stddev([4.0]) == 0.0


def test_intervals_are_the_same_every_time_and_hold_the_median():
    values = list(np.random.default_rng(1).normal(100, 5, 12))
    low, high = statistics.median_interval(values)
    assert (low, high) == tuple(statistics.median_interval(values))
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


def test_a_ratio_of_paired_rounds_loses_what_they_share():
    # Both slow down together: each round's ratio is exactly 1.25, so the interval is that one point.
    base = [100.0, 90.0, 80.0, 70.0, 60.0]
    assert statistics.ratio_interval([1.25 * value for value in base], base) == pytest.approx([1.25, 1.25])


def test_rounds_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="3 rounds cannot be paired with 2"):
        statistics.ratio_interval([1, 2, 3], [1, 2])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        low, high = statistics.ratio_interval(rng.normal(110, 5, 15), rng.normal(100, 5, 15))
        hits += low <= 1.1 <= high
    assert hits / 200 > 0.88
