from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.engine.survivors import UNSEEN, Survivors


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


def test_of_a_former_text_a_first_guess_is_left() -> None:
    survivors = Survivors(3, memory=48, first=0.7, weight=1)
    for _ in range(40):
        survivors.add(2, 2)
    former = survivors.expected()
    survivors.begin(2)
    assert survivors.weight() == pytest.approx(2)
    assert former[1] > survivors.expected()[1] > 1.85
    for _ in range(4):
        survivors.add(2, 0)
    assert survivors.expected()[1] < 1.45
    # What was seen of a position hardly ever is not made more of.
    fresh = Survivors(3, memory=48, first=0.7, weight=1)
    fresh.add(1, 1)
    before = fresh.expected()
    fresh.begin(2)
    assert fresh.expected() == before
