import numpy as np
import pytest
from scipy import stats

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


def test_unpaired_rounds_are_welchs_test():
    a, b = [10.0, 11.0, 10.5, 10.2], [12.0, 12.5, 11.8]
    found = statistics.unpaired(a, b)
    reference = stats.ttest_ind(np.log(a), np.log(b), equal_var=False)
    low, high = reference.confidence_interval(0.95)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.interval == pytest.approx([np.exp(low), np.exp(high)])
    assert found.freedom == pytest.approx(reference.df)
    assert found.interval[0] < found.ratio < found.interval[1]


def test_unpaired_rounds_without_spread_or_without_number():
    assert statistics.unpaired([], [1.0]) is None
    assert statistics.unpaired([1.0, 2.0], [2.0]).interval is None
    same = statistics.unpaired([3.0, 3.0], [3.0, 3.0])
    assert (same.ratio, same.interval, same.p_value) == (1.0, [1.0, 1.0], 1.0)
    assert statistics.unpaired([3.0, 3.0], [6.0, 6.0]).p_value == 0.0


@pytest.mark.parametrize("rounds", [3, 6])
def test_equal_runs_are_called_different_as_often_as_stated(rounds):
    drawn = np.exp(np.random.default_rng(5).normal(3, 0.03, (1500, 2, rounds)))
    shown = sum(statistics.unpaired(list(a), list(b)).p_value <= 0.05 for a, b in drawn)
    assert shown / 1500 <= 0.05 + 3 * (0.05 * 0.95 / 1500) ** 0.5


def test_several_ratios_together_are_surer_than_each():
    rng = np.random.default_rng(3)
    each = [statistics.unpaired(list(rng.normal(95, 3, 4)), list(rng.normal(100, 3, 4))) for _ in range(16)]
    found = statistics.together(each)
    assert found.interval[0] < 0.95 < found.interval[1] < 1
    widths = [one.interval[1] - one.interval[0] for one in each]
    assert found.interval[1] - found.interval[0] < min(widths)
    assert statistics.together([]) is None
    assert statistics.together([each[0], statistics.unpaired([1.0], [1.0])]) is None
    assert statistics.together(each[:1]).interval == pytest.approx(each[0].interval)


def test_holm_adjusts_for_how_many_there_are():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_a_difference_of_shares_covers_the_truth_for_steps_that_are_alike():
    """Steps that come in runs, as those of a text do: the interval holds the difference of the long run."""
    rng = np.random.default_rng(9)

    def text(chance):
        runs = rng.random(40) < chance
        return [(3, 3 if good else int(rng.integers(0, 2))) for good in runs for _ in range(3)]

    truth = (0.8 + 0.2 / 6) - (0.5 + 0.5 / 6)
    hits = 0
    for _ in range(200):
        low, high = statistics.share_difference(text(0.8), text(0.5))
        hits += low <= truth <= high
    # A bootstrap over so few blocks is a little too sure of itself.
    assert hits / 200 > 0.85
    assert statistics.share_difference([(3, 1)], [(3, 2)] * 9) is None
    assert statistics.share_difference([(0, 0)] * 9, [(3, 2)] * 9) is None
