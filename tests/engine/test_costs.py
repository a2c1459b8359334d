from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.engine.costs import Costs


def timed(costs: Costs, *steps: tuple[int, float]) -> None:
    """Tell it of steps by length and time, in turns."""
    for at, (length, ns) in enumerate(steps):
        costs.add(length, round(ns), at)
    costs.settle()


def test_a_disturbed_step_does_not_move_the_cost() -> None:
    costs = Costs(2)
    timed(costs, *((0, ns) for ns in (1000, 1010, 990, 1000, 1000, 9000, 1000, 1010, 990)))
    assert costs.of(0) == pytest.approx(1000, rel=0.01)


def test_a_first_time_that_was_disturbed_is_put_right_by_the_next() -> None:
    costs = Costs(2)
    timed(costs, *[(0, 1000)] * 5, *[(2, ns) for ns in (3900, 2000, 2000, 2000, 2000)])
    assert costs.of(2) == pytest.approx(2000, rel=0.15)
    assert costs.of(0) == pytest.approx(1000, rel=0.15)


def test_a_length_that_costs_unlike_the_others_is_believed_if_its_first_times_agree() -> None:
    def after(*first: int) -> float:
        costs = Costs(8)
        timed(costs, *[(0, 1000)] * 4, *[(1, 800)] * 4, *((3, ns) for ns in first))
        return costs.of(3) / costs.of(0)

    assert after(8000, 8000, 8000) > 2
    assert after(8000) < 1.7
    assert after(8000, 1100, 1100) < 1.6, "a stall"


def test_costs_follow_a_depth_that_grows() -> None:
    costs = Costs(2)
    timed(costs, *((1, 1000 + 5 * at) for at in range(200)))
    assert costs.of(1) == pytest.approx(2000, rel=0.03)


def test_a_machine_that_gets_slower_is_slower_at_every_length() -> None:
    costs = Costs(3)
    timed(costs, *[(0, 1000), (3, 1600)] * 60)
    timed(costs, *[(3, 2400)] * 100)
    assert costs.of(3) == pytest.approx(2400, rel=0.01)
    assert costs.of(0) == pytest.approx(1500, rel=0.05), "it was not timed meanwhile"


def test_what_a_length_costs_beside_the_others_is_learnt_anew_when_it_changes() -> None:
    # As where attention takes over from weights: a longer draft is dearer at a greater depth, and the plain step not.
    costs = Costs(3)
    timed(costs, *[(0, 1000), (3, 1600)] * 60)
    timed(costs, *[(0, 1000), (0, 1000), (3, 2400)] * 100)
    assert costs.of(0) == pytest.approx(1000, rel=0.03)
    assert costs.of(3) == pytest.approx(2400, rel=0.05)


def test_lengths_that_were_never_timed_are_foretold_and_become_surer() -> None:
    costs, curve = Costs(8), [1000, 1500, 1650, 1800, 1950, 2100, 2250, 2400, 2550]
    timed(costs, *[(0, curve[0])] * 4, *[(1, curve[1])] * 4)
    vague = costs.unsure(1)[4]
    timed(costs, *[(2, curve[2])] * 4, *[(3, curve[3])] * 4)
    assert not costs.known(4) and costs.longest == 3
    assert costs.of(4) == pytest.approx(curve[4], rel=0.07)
    assert costs.unsure(3)[4] < vague / 2


def test_a_cliff_is_not_held_against_the_lengths_before_it() -> None:
    costs = Costs(8)
    timed(
        costs,
        *[(length, ns) for length, ns in ((0, 1000), (1, 1200), (4, 1500), (8, 3000)) for _ in range(12)],
        *[(4, 1500)] * 4,
    )
    assert costs.of(4) == pytest.approx(1500, rel=0.05)
    assert costs.of(8) == pytest.approx(3000, rel=0.1)
    assert costs.of(5) < 2100


def test_another_text_is_open_to_another_tempo_and_keeps_what_lengths_cost_beside_each_other() -> None:
    costs = Costs(3)
    timed(costs, *[(0, 1000)] * 8, *[(3, 1600)] * 8)
    costs.forget()
    timed(costs, *[(3, 3200)] * 8)
    assert costs.of(3) == pytest.approx(3200, rel=0.05)
    assert costs.of(0) == pytest.approx(2000, rel=0.1)


def test_it_tells_lengths_apart_on_a_machine_whose_pace_wanders() -> None:
    rng, costs, pace = random.Random(3), Costs(4), 0.0
    beside = (1.0, 1.3, 1.38, 1.46, 1.7)
    at = 0
    for _ in range(60):
        for length in (2, 3, 2, 4, 1, 2, 0, 3):
            for _ in range(4):
                pace += rng.gauss(0, 0.02)
                at += 1
                costs.add(length, round(1e6 * beside[length] * math.exp(pace + rng.gauss(0, 0.1))), at)
    for length in range(1, 5):
        found = costs.of(length) / costs.of(0)
        assert found == pytest.approx(beside[length], rel=0.05)
    assert costs.unsure(2)[3] < 0.03


@given(
    limit=st.integers(1, 64),
    steps=st.lists(st.tuples(st.integers(0, 64), st.integers(1, 10**13)), max_size=60),
)
def test_whatever_it_is_told_costs_stay_numbers(limit: int, steps: list[tuple[int, int]]) -> None:
    costs = Costs(limit)
    for at, (length, ns) in enumerate(steps):
        costs.add(min(length, limit), ns, at)
        if at % 7 == 6:
            costs.forget()
    costs.settle()
    for length in range(limit + 1):
        assert math.isfinite(costs.of(length)) and costs.of(length) >= 0
        assert costs.unsure(0)[length] >= 0 and (not steps or costs.of(length) > 0)
