from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.engine.learned import UNSEEN, Costs, Survivors


def test_a_disturbed_step_does_not_move_the_cost() -> None:
    costs = Costs(2)
    for ns in (100, 101, 900, 99, 100):
        costs.add(0, ns, 1)
    assert costs.of(0) == pytest.approx(100, rel=0.002)


def test_a_first_time_that_was_disturbed_is_put_right_by_the_second() -> None:
    costs = Costs(2)
    for at, (length, ns) in enumerate([(0, 100)] * 5 + [(2, 390), (2, 200)]):
        costs.add(length, ns, at)
    assert costs.of(2) == pytest.approx(200, rel=0.1)
    assert costs.of(0) == pytest.approx(100, rel=0.1)


def test_costs_follow_a_depth_that_grows() -> None:
    costs = Costs(2)
    for at in range(200):
        costs.add(1, 1000 + at, at)
    assert costs.of(1) > 1000 + 180


def test_a_machine_that_gets_slower_is_slower_at_every_length() -> None:
    costs = Costs(3)
    for at in range(60):
        for length, ns in ((0, 100), (3, 160)):
            costs.add(length, ns, at)
    for at in range(60, 180):
        costs.add(3, 160 if at < 80 else 240, at)
    assert costs.of(3) == pytest.approx(240, rel=0.01)
    assert costs.of(0) == pytest.approx(150, rel=0.01), "it was not timed meanwhile"


def test_what_a_length_costs_beside_the_others_is_learnt_anew_when_it_changes() -> None:
    # As where attention takes over from weights: a longer draft is dearer at a greater depth, and the plain step not.
    costs = Costs(3)
    for at in range(60):
        for length, ns in ((0, 100), (3, 160)):
            costs.add(length, ns, at)
    for at in range(60, 360, 3):
        for length, ns in ((0, 100), (0, 100), (3, 240)):
            costs.add(length, ns, at)
    assert costs.of(0) == pytest.approx(100, rel=0.03)
    assert costs.of(3) == pytest.approx(240, rel=0.05)


def test_a_longer_draft_is_guessed_from_the_line_of_shorter_ones() -> None:
    costs = Costs(8)
    costs.add(0, 100, 1)
    costs.add(1, 150, 2)
    assert costs.of(4) == 150, "one length tells of no slope"
    costs.add(2, 170, 3)
    assert costs.of(4) == pytest.approx(210)


def test_a_cliff_is_not_held_against_the_lengths_before_it() -> None:
    costs = Costs(8)
    for length, ns in ((0, 100), (1, 120), (4, 150), (8, 900)):
        costs.add(length, ns, length)
    assert costs.of(7) == pytest.approx(180)
    assert costs.of(8) == pytest.approx(900)


def test_a_guess_is_never_above_a_longer_one_that_is_known() -> None:
    costs = Costs(8)
    for length, ns in ((0, 100), (1, 120), (2, 200), (8, 210)):
        costs.add(length, ns, length)
    assert costs.of(5) == pytest.approx(210)


def test_without_anything_seen_the_guess_is_carried_from_position_to_position() -> None:
    survivors = Survivors(3, memory=32, first=0.5, weight=1)
    assert survivors.expected() == pytest.approx([1, 1.5, 1.75, 1.875])


@given(steps=st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_with_a_long_memory_it_is_the_estimate_of_kaplan_and_meier(steps: list[int]) -> None:
    survivors = Survivors(4, memory=1e12, first=0.5, weight=1e-9)
    for accepted in steps:
        survivors.add(4, accepted)
    expected, survives = [1.0], 1.0
    for position in range(4):
        reached = [accepted for accepted in steps if accepted >= position]
        if not reached:
            break
        survives *= sum(accepted > position for accepted in reached) / len(reached)
        expected.append(expected[-1] + survives)
    assert survivors.expected()[: len(expected)] == pytest.approx(expected, abs=1e-6)


def test_a_full_accept_says_nothing_of_the_next_position() -> None:
    survivors = Survivors(2, memory=32, first=0.5, weight=1)
    for _ in range(50):
        survivors.add(1, 1)
    one, two = survivors.expected()[1:]
    assert one == pytest.approx(1.97, abs=0.02)
    assert two - one == pytest.approx((one - 1) ** 2, abs=0.01)


def test_a_position_that_is_not_drafted_is_forgotten_slowly() -> None:
    survivors = Survivors(2, memory=32, first=0.5, weight=1)
    for _ in range(20):
        survivors.add(2, 1)
    low = survivors.expected()[2] - survivors.expected()[1]
    for _ in range(300):
        survivors.add(1, 1)
    assert UNSEEN**300 < 0.1
    assert survivors.expected()[2] - survivors.expected()[1] > low + 0.4
