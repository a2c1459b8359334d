import pytest

from llamacpp_tools.advise.costs import from_cells, from_forced

CHANCES = [0.8, 0.7, 0.6, 0.5]


def test_a_forced_cell_gives_every_length_with_an_interval(machine):
    found = from_forced(machine.forced(), machine.plain())
    assert found.source == "forced" and list(found.lengths) == [1, 2, 3, 4, 5, 6]
    for n_max, step in enumerate(machine.step_ms):
        ratio = found.ratio(n_max)
        assert ratio.value == pytest.approx(step / 20, rel=0.02)
        assert ratio.interval[0] < step / 20 < ratio.interval[1]
    assert found.idle.value == pytest.approx(1.025, rel=0.02)
    assert found.break_even(3).value == pytest.approx((36 / 20 - 1) / 3, rel=0.03)


def test_rounds_are_paired_so_that_a_slow_one_slows_both(machine):
    machine.drift = [1.0, 2.0, 0.5, 1.0, 1.5]
    low, high = from_forced(machine.forced(), machine.plain()).ratio(3).interval
    assert high / low < 1.05


def test_cells_tell_of_the_lengths_that_they_ran_and_of_those_between(machine):
    plain = machine.plain()
    found = from_cells([(machine.drafting(CHANCES, n_max), plain) for n_max in (2, 4)])
    assert found.source == "measured" and list(found.lengths) == [2, 3, 4]
    assert found.idle is None
    assert found.ratio(2).value == pytest.approx(31 / 20, rel=0.02)
    assert found.ratio(3).value == pytest.approx((31 + 42) / 2 / 20, rel=0.02)


def test_nothing_comes_of_cells_that_failed(machine):
    dead = machine.plain().model_copy(update={"status": "crashed", "reason": "x"})
    assert from_forced(machine.forced(), dead) is None
    assert from_cells([(machine.drafting(CHANCES, 2), dead)]) is None
