from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.sweep.forced import BLOCK, SETTLING, forced_schedule, settled


@given(st.integers(0, 12), st.integers(1, 2000))
def test_a_schedule_makes_what_is_wanted_and_no_step_more(n_max, n_predict):
    schedule = forced_schedule(n_max, n_predict)
    made = [accepted + 1 for accepted in schedule["accepts"]]
    assert 1 + sum(made) >= n_predict
    assert 1 + sum(made[:-1]) < n_predict or n_predict == 1
    pairs = zip(schedule["drafts"], schedule["accepts"], strict=True)
    assert all(0 <= accepted <= drafted <= n_max for drafted, accepted in pairs)


def test_every_length_has_the_same_number_of_steps_and_every_outcome():
    schedule = forced_schedule(3, 10_000)
    one_turn = list(zip(schedule["drafts"], schedule["accepts"], strict=True))[: 4 * BLOCK]
    assert [drafted for drafted, _ in one_turn] == [n for n in range(4) for _ in range(BLOCK)]
    assert {accepted for drafted, accepted in one_turn if drafted == 3} == {0, 1, 2, 3}
    assert schedule["drafts"][4 * BLOCK] == 3


def test_steps_after_a_change_of_length_do_not_count():
    assert settled([0, 0, 0, 0, 1, 1, 1, 2]) == [False, False, True, True, False, False, True, False]
    assert SETTLING == 2
