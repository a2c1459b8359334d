import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.advise.survival import survival

CHANCES = np.array([0.9, 0.8, 0.7, 0.6])


def test_the_planted_chances_are_found_again(machine):
    found = survival(machine.drafting(CHANCES, 4))
    assert found.s == pytest.approx(np.cumprod(CHANCES), abs=0.03)
    low, high = np.percentile(found.draws, [2.5, 97.5], axis=0)
    assert (low < found.s).all() and (found.s < high).all()
    assert found.acceptance(4) == pytest.approx(np.cumprod(CHANCES).mean(), abs=0.03)


def test_a_round_that_repeats_another_adds_no_certainty(machine):
    cell = machine.drafting(CHANCES, 3)
    once = cell.model_copy(update={"samples": cell.samples[:1]})
    assert survival(cell).n_steps == survival(once).n_steps == len(cell.samples[0].step_drafted)


def test_counts_by_position_do_where_steps_were_not_kept(machine):
    cell = machine.drafting(CHANCES, 3)
    bare = [
        item.model_copy(update={"step_drafted": [], "step_accepted": [], "step_draft_ns": []})
        for item in cell.samples
    ]
    old = survival(cell.model_copy(update={"samples": bare}))
    assert old.s == pytest.approx(survival(cell).s)
    assert old.n_steps == survival(cell).n_steps


def test_a_draft_cut_short_says_nothing_of_what_it_did_not_reach(machine):
    cell = machine.drafting(CHANCES, 4)
    sample = cell.samples[0]
    # Half of the steps draft one token only: the deeper positions have fewer trials, not worse chances.
    drafted = [1 if at % 2 else length for at, length in enumerate(sample.step_drafted)]
    accepted = [min(pair) for pair in zip(drafted, sample.step_accepted, strict=True)]
    short = sample.model_copy(update={"step_drafted": drafted, "step_accepted": accepted})
    found = survival(cell.model_copy(update={"samples": [short]}))
    assert found.s == pytest.approx(np.cumprod(CHANCES), abs=0.05)


@given(st.floats(0.02, 0.98), st.integers(1, 8))
def test_one_chance_gives_the_published_acceptance_again(acceptance, n_max):
    from llamacpp_tools.results.schema import Cell

    cell = Cell(id="p", mode="mtp", status="ok", n_depth=1, workload="log", acceptance=acceptance)
    found = survival(cell, n_max)
    assert found.acceptance(n_max) == pytest.approx(acceptance, abs=1e-6)
    assert found.draws is None
    assert (np.diff(found.s) <= 1e-12).all()


def test_past_what_was_measured_the_last_chance_is_carried_on(machine):
    found = survival(machine.drafting(CHANCES, 2))
    chance = found.s[1] / found.s[0]
    value, draws = found.expected(4)
    assert value == pytest.approx(1 + found.s[0] + found.s[1] * (1 + chance + chance**2))
    assert draws.shape == (2000,)


def test_what_tells_nothing_gives_nothing(machine):
    cell = machine.drafting(CHANCES, 2)
    for change in (
        {"forced": True},
        {"p_min": 0.5},
        {"acceptance": None},
        {"status": "crashed", "reason": "x"},
    ):
        assert survival(cell.model_copy(update=change)) is None
