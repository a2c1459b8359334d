import pytest

from llamacpp_tools.report.survival import survival


@pytest.fixture
def cell(measured):
    return next(cell for cell in measured.result.cells if cell.mode == "mtp")


def with_steps(cell, drafted, accepted):
    sample = cell.samples[0].model_copy(update={"step_drafted": drafted, "step_accepted": accepted})
    return cell.model_copy(update={"samples": [sample]})


def test_drafts_of_one_length_are_a_plain_share(cell):
    assert survival(with_steps(cell, [3, 3, 3, 3], [3, 2, 0, 3])) == [0.75, 0.75, 0.5]


def test_a_draft_that_ended_early_says_nothing_of_what_it_did_not_reach(cell):
    # Two of the four stop at one token, both kept: the rest decides alone about the second and third.
    assert survival(with_steps(cell, [1, 1, 3, 3], [1, 1, 3, 1])) == [1.0, 0.5, 0.5]


def test_without_steps_the_counts_per_position_serve(cell):
    assert (cell.drafted_per_position, cell.accepted_per_position) == ([75, 72, 72], [75, 69, 66])
    assert survival(cell) == pytest.approx([1.0, 69 / 72, 66 / 72])


def test_the_chain_never_rises(cell):
    uneven = {"drafted_per_position": [10, 4, 0], "accepted_per_position": [5, 3, 0]}
    assert survival(cell.model_copy(update=uneven)) == [0.5, 0.5]


def test_without_a_draft_there_is_none(measured):
    assert survival(measured.result.cells[0]) == []
