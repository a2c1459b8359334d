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
    assert statistics.paired([], []) is None
    assert statistics.paired([1.0], [2.0]) == statistics.Paired(0.5, None, None, 1)
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
    found = statistics.paired([1.25 * value for value in base], base)
    assert [found.ratio, *found.interval] == pytest.approx([1.25, 1.25, 1.25])
    assert found.differs


def test_rounds_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="3 rounds cannot be paired with 2"):
        statistics.paired([1, 2, 3], [1, 2])


def test_one_round_far_off_shows_nothing_and_stays_within_the_interval():
    found = statistics.paired([101.0, 102.0, 40.0], [100.0, 100.0, 100.0])
    assert found.ratio == pytest.approx(1.01)
    assert found.interval[0] < found.ratio < found.interval[1]
    assert not found.differs


def test_the_rank_test_speaks_from_six_rounds_on():
    ones = [1.0] * 6
    assert statistics.paired([1.1, 1.2, 1.3, 1.4, 1.5], ones[:5]).p_value is None
    assert statistics.paired([1.1, 1.2, 1.3, 1.4, 1.5, 1.6], ones).p_value == pytest.approx(2 / 2**6)
    assert statistics.paired(ones, ones).p_value == 1.0
    assert not statistics.paired(ones, ones).differs


@pytest.mark.parametrize("rounds", [2, 3, 5, 8])
def test_two_names_of_one_thing_are_called_different_as_often_as_stated(rounds):
    rng = np.random.default_rng(11)
    trials = 2000
    drawn = rng.normal(100, 3, (trials, 2, rounds))
    shown = sum(bool(statistics.paired(list(a), list(b)).differs) for a, b in drawn)
    # Three standard errors of a share of 5 % in so many trials.
    assert shown / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


@pytest.mark.parametrize("rounds", [3, 15])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(rounds):
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(500):
        found = statistics.paired(list(rng.normal(110, 5, rounds)), list(rng.normal(100, 5, rounds)))
        hits += found.interval[0] <= 1.1 <= found.interval[1]
    assert hits / 500 > 0.92
