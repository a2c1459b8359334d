from collections import Counter

import pytest

from training.drills import Drills
from training.schedule import CURRICULUM, TOKENS_PER_STEP, drills, learning_rate, row_shape


def test_the_rate_warms_up_and_ends_near_zero():
    rates = [learning_rate(1e-3, step / 1000, step) for step in range(1001)]
    assert rates[0] < 2e-5
    assert max(rates) == pytest.approx(1e-3, rel=0.03)
    assert rates[-1] == pytest.approx(2e-5)
    assert rates[500:] == sorted(rates[500:], reverse=True)


@pytest.mark.parametrize("n_workers", [1, 2])
@pytest.mark.parametrize("stage", range(len(CURRICULUM)))
def test_each_length_has_its_share_of_the_tokens(stage, n_workers):
    start, shares = CURRICULUM[stage]
    assert sum(shares.values()) == pytest.approx(1.0)
    tokens = Counter()
    for step in range(4000):
        shape = row_shape(start + 0.01, 1, step, n_workers)
        assert n_workers * shape.n_rows * shape.n_tokens >= TOKENS_PER_STEP * 0.9
        tokens[shape.n_tokens] += shape.n_rows * shape.n_tokens
    total = sum(tokens.values())
    for length, share in shares.items():
        assert tokens[length] / total == pytest.approx(share, abs=0.05)


def test_a_step_has_the_same_rows_each_time():
    assert row_shape(0.9, 4, 77, 2) == row_shape(0.9, 4, 77, 2)


def test_the_last_stage_reaches_the_depth_that_is_promised():
    assert max(CURRICULUM[-1][1]) > 8192


def test_drills_come_twice_and_get_harder() -> None:
    found = [drills(progress) for progress in (0.0, 0.0399, 0.04, 0.08, 0.12, 0.25, 0.2521, 0.28, 0.4, 1.0)]
    assert [each.share for each in found] == [0.0, 0.0, 0.9, 0.9, 0.9, 0.2, 0.9, 0.9, 0.2, 0.1]
    assert [each.longest for each in found] == [3, 3, 3, 18, 33, 33, 8, 19, 33, 33]
    assert row_shape(0.08, 1, 7, 2).drills == Drills(0.9, 18)
