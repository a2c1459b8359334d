"""From planted cells: what comes true, and what each draft length pays."""

import json

import numpy as np
import pytest

from llamacpp_tools.acceptance.grids import grids
from llamacpp_tools.acceptance.judge import _verdict, judge
from llamacpp_tools.acceptance.notes import notes
from llamacpp_tools.acceptance.pairs import pairs, write_pairs
from llamacpp_tools.errors import BadInput
from llamacpp_tools.report.lookahead import markdown
from tests.acceptance.conftest import POSITIONS, WRONG

EASY, HARD = (0.95, 0.9, 0.85, 0.8), (0.25, 0.1, 0.1, 0.1)


@pytest.fixture
def told(lab, document):
    """An easy class, a hard one, and one that crashed."""
    crashed = lab.watched(EASY, "file:notes/a|b.txt", 50)
    crashed = crashed.model_copy(
        update={"status": "crashed", "reason": "GGML_ASSERT(x) failed", "samples": []}
    )
    found = document(
        lab.plain(), lab.forced(), lab.watched(EASY),
        lab.plain(workload="thinking"), lab.watched(HARD, "thinking"),
        lab.plain(workload="file:notes/a|b.txt"), crashed,
    )  # fmt: skip
    return found.model_copy(update={"acceptance": judge(found)})


def test_what_comes_true_is_counted_by_position(told):
    easy, hard, _ = told.acceptance.classes
    assert (easy.name, easy.positions, sum(easy.histogram)) == ("log", POSITIONS, POSITIONS)
    for found, chances in ((easy, EASY), (hard, HARD)):
        shares = np.array(found.accepted) / POSITIONS
        assert np.allclose(shares, np.cumprod(chances), atol=0.03)
        # This block is never right after it was wrong.
        assert found.agreed == found.accepted
        assert [sum(found.histogram[k:]) for k in range(1, 5)] == found.accepted
        assert sum(found.runs) == sum(found.accepted)


def test_a_return_is_tokens_over_cost(lab, told):
    easy, hard, _ = told.acceptance.classes
    for found, chances in ((easy, EASY), (hard, HARD)):
        assert [row.n_max for row in found.returns] == [1, 2, 3, 4]
        for row in found.returns:
            true = lab.gain(np.array(chances), row.n_max)
            assert row.gain == pytest.approx(true, rel=0.04)
            assert row.gain_interval[0] < true < row.gain_interval[1]
            assert row.cost == pytest.approx(lab.step(row.n_max) / 20, rel=0.01)
            assert row.gain == pytest.approx(row.tokens_per_step / row.cost)
            assert row.tps == pytest.approx(1e3 * row.tokens_per_step / row.step_ms)
            # What llama.cpp calls acceptance is under the break-even exactly where it costs more than it gives.
            assert (row.acceptance > row.break_even) == (row.gain > 1) or abs(row.gain - 1) < 0.01
    assert told.acceptance.idle == pytest.approx(20.5 / 20, rel=0.01)
    assert told.acceptance.token_ms == pytest.approx(20, rel=0.02)


def test_a_verdict_needs_an_interval_on_one_side(lab, document, told):
    easy, hard, crashed = told.acceptance.classes
    # Drafts of three and of four are worth the same here, within a thousandth.
    assert easy.verdict == "pays" and easy.best in (3, 4)
    assert (hard.verdict, hard.best) == ("does not pay", 1)
    assert crashed.verdict is None and crashed.reason == "crashed: GGML_ASSERT(x) failed" and not crashed.runs
    lab.noise = 0.3
    loud = document(lab.plain(), lab.forced(), lab.watched((0.3,) * 2))
    assert judge(loud).classes[0].verdict == "no gain shown"
    # A length that is shown to gain goes before one whose gain is greater and may be none.
    row = easy.returns[0].model_copy(update={"gain": 1.2, "gain_interval": [1.1, 1.3]})
    wide = row.model_copy(update={"n_max": 2, "gain": 1.5, "gain_interval": [0.9, 2.1]})
    assert _verdict([row, wide]) == (1, "pays") and _verdict([wide]) == (2, "no gain shown")
    bare = judge(document(lab.plain(), lab.watched(EASY)))
    assert bare.classes[0].verdict == "no cost known" and bare.classes[0].best is None
    assert bare.classes[0].returns[3].tokens_per_step > 3 and bare.classes[0].returns[3].gain is None


def test_all_classes_together_are_all_their_steps(told):
    easy, hard, _ = told.acceptance.classes
    for row, *each in zip(told.acceptance.together, easy.returns, hard.returns, strict=True):
        assert row.steps == sum(one.steps for one in each)
        assert row.accepted == sum(one.accepted for one in each)


def test_the_same_cells_give_the_same_verdict(told):
    assert judge(told) == told.acceptance


def test_another_kind_of_result_is_refused(lab, document):
    for cells in ((), (lab.plain(), lab.drafting(np.array(EASY), 2))):
        with pytest.raises(BadInput, match="planted is no result of `llt acceptance`"):
            judge(document(*cells))
    # A plain run alone is one: it was asked for with --mtp off.
    found = judge(document(lab.plain()))
    assert not found.mtp and found.classes[0].plain_tps == pytest.approx(50, rel=0.02)
    assert [grid.title for grid in grids(found)] == ["plain decode, nothing drafted"]


def test_pairs_tell_of_each_draft(tmp_path, told):
    found = list(pairs(told))
    assert len(found) == 2 * POSITIONS * 4
    easy = told.cells[2]
    for pair in found[:400]:
        assert pair["actual"] == easy.output_tokens[pair["position"]]
        assert pair["ok"] == (pair["predicted"] == pair["actual"]) and pair["ok"] == pair["accepted"]
        assert (
            pair["predicted_text"] == f"t{pair['predicted']}" and pair["actual_text"] == f"t{pair['actual']}"
        )
        assert pair["ok"] or pair["predicted"] == WRONG
    path = tmp_path / "pairs.jsonl"
    assert write_pairs(path, told) == len(found)
    assert [json.loads(line) for line in path.read_text().splitlines()] == found
    with pytest.raises(BadInput, match="cannot be written"):
        write_pairs(path / "below a file", told)
    with pytest.raises(BadInput, match="no drafted token"):
        write_pairs(path, told.model_copy(update={"cells": [cell for cell in told.cells if not cell.traced]}))
    assert len(path.read_text().splitlines()) == len(found), "what was there is not emptied"


def test_every_row_of_a_table_fills_its_columns(told):
    found = grids(told.acceptance)
    assert [grid.title for grid in found] == [
        "drafts that come true, by lookahead", "accepted length", "verdict", "return on investment",
    ]  # fmt: skip
    for grid in found:
        rows = [row for section in grid.sections for row in section]
        assert rows and all(len(row) == len(grid.heads) for row in rows)
    assert [row[1] for row in found[2].sections[0]] == ["pays", "does not pay"]
    assert found[3].sections[-1][0][0] == "all classes"


def test_a_verdict_that_verified_drafts_contradict_is_said_to_be_wrong(lab, document, told):
    easy = told.acceptance.classes[0]
    true = lab.drafting(np.array(EASY), easy.best)
    for tps, said in ((true.decode_tps, False), (0.9 * easy.plain_tps, True)):
        found = document(*told.cells, true.model_copy(update={"decode_tps": tps}))
        words = notes(found.model_copy(update={"acceptance": judge(found)}))
        assert any(each.startswith("The verdict on log does not hold: log, truly") for each in words) == said


@pytest.mark.parametrize(("even", "said"), [(-0.1, "below 0"), (0.4, None), (1.2, "above 1")])
def test_a_break_even_outside_0_to_1_is_explained(told, even, said):
    easy = told.acceptance.classes[0]
    for row in easy.returns:
        row.break_even = even
    found = [each for each in notes(told) if each.startswith("A break-even")]
    assert [each.split(" says")[0] for each in found] == ([f"A break-even {said}"] if said else [])


def test_notes_name_what_failed_and_what_was_switched(lab, document, told):
    said = notes(told)
    assert "a|b.txt: crashed: GGML_ASSERT(x) failed" in said
    assert "Watching changed no text: every token is that of plain decode without MTP." in said
    odd = lab.watched(EASY).model_copy(
        update={"draft_history": False, "before_norm": True, "first_divergence": 9}
    )
    found = document(lab.plain(), odd, lab.drafting(np.array(EASY), 4))
    said = notes(found.model_copy(update={"acceptance": judge(found)}))
    assert "Watched texts leave those of plain decode: log from token 9." in said
    assert any("empty cache" in each for each in said) and any(
        "before the final norm" in each for each in said
    )
    (verified,) = (each for each in said if "truly verified" in each)
    real, traced = (float(word) for word in (verified.split()[8].strip(","), verified.split()[9]))
    assert real == pytest.approx(traced, abs=0.03)


def test_markdown_takes_a_name_literally(told):
    page = markdown(told)
    assert "a\\|b.txt: crashed" in page and "## Return on investment" in page
    tables = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(tables) > 20 and all(line.endswith(" |") for line in tables)
