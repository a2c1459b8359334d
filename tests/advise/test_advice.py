import numpy as np
import pytest

from llamacpp_tools.advise.advice import advise
from llamacpp_tools.advise.document import as_json
from llamacpp_tools.advise.sentences import cautions, rule
from llamacpp_tools.advise.settings import Recipe
from llamacpp_tools.cli.output import print_json

LOG = np.array([0.97, 0.96, 0.95, 0.94, 0.93, 0.92])
PROSE = np.array([0.25, 0.2, 0.15, 0.1, 0.1, 0.1])
WINDOW = Recipe(1024, (11,))


@pytest.fixture
def measured(machine, document):
    """Both recipes on both texts with drafts of 3, and costs of every length."""
    cells = []
    for window in (None, 1024):
        cells.append(machine.forced(window))
        for workload, chances in (("log", LOG), ("prose", PROSE)):
            cells.append(machine.plain(window, workload))
            cells.append(machine.drafting(chances, 3, window, workload))
    return document(*cells)


def test_the_best_length_is_the_one_that_was_planted(machine, measured):
    advice = advise(measured)
    log, prose = advice.choices
    true = {n: machine.gain(LOG, n) for n in range(1, 7)}
    # Survival was measured to the third token; the planted chances fall too slowly for the rest to matter.
    best = log.best_draft(Recipe())
    assert true[best.n_max] > 0.97 * max(true.values())
    assert (log.best.recipe, log.best.n_max > 0) == (WINDOW, True)
    assert (prose.best.recipe, prose.best.n_max) == (WINDOW, 0)
    for option in log.of(Recipe())[1:4]:
        assert option.own.value == pytest.approx(true[option.n_max], rel=0.03)
        assert option.own.interval[0] < true[option.n_max] < option.own.interval[1]


def test_a_length_that_was_run_has_its_own_figure_and_checks_the_model(measured, machine):
    for choice in advise(measured).choices:
        for check in choice.checks:
            assert check.n_max == 3
            assert check.predicted.value == pytest.approx(check.measured.value, rel=0.03)
            option = next(o for o in choice.of(check.recipe) if o.n_max == 3)
            assert option.own is check.measured


def test_the_rule_says_it_in_words(measured):
    said = " ".join(rule(advise(measured)))
    assert "Take the window 1024 (full 11): it decodes faster whatever the text" in said
    assert "add MTP for log" in said and "leave it off for prose" in said
    assert "MTP loaded and drafting nothing costs +2." in said
    assert "One setting for all" in said


def test_the_rule_turns_when_the_figures_turn(machine, document):
    machine.token_ms = {None: 20.0, 1024: 22.0}
    machine.step_ms = tuple(20 + 30.0 * n for n in range(7))
    cells = [cell for window in (None, 1024) for cell in (machine.forced(window), machine.plain(window),
             machine.drafting(LOG, 3, window))]  # fmt: skip
    advice = advise(document(*cells))
    said = " ".join(rule(advice))
    assert "makes decoding slower" in said and "add MTP" not in said
    assert (advice.choices[0].best.recipe, advice.choices[0].best.n_max) == (Recipe(), 0)


def test_costs_of_another_document_and_depth_stand_in_and_that_is_said(machine, document):
    result = document(machine.plain(), machine.drafting(LOG, 2))
    assert "measures every length" in " ".join(cautions(advise(result)))
    elsewhere = document(machine.plain(n_depth=8192), machine.forced(n_depth=8192))
    advice = advise(result, [elsewhere])
    assert [curve.depth_measured for curve in advice.curves] == [8192]
    assert "the costs of depth 8192 stand in" in " ".join(cautions(advice))
    assert max(option.n_max for option in advice.choices[0].options) == 6


def test_a_text_of_another_kind_is_set_aside(machine, document):
    cells = [
        machine.plain(), machine.plain(1024), machine.drafting(LOG, 3, words=0.7),
        machine.drafting(LOG, 3, 1024, words=0.3),
    ]  # fmt: skip
    advice = advise(document(*cells))
    assert advice.choices[0].set_aside == (Recipe(), WINDOW)
    assert all(option.n_max == 0 for option in advice.choices[0].options)
    assert "another kind of text" in " ".join(cautions(advice))


def test_a_draft_that_ends_by_its_own_doubt_does_not_hide_those_that_do_not(machine, document):
    doubting = machine.drafting(LOG, 3).model_copy(update={"p_min": 0.5})
    cells = (machine.forced(), machine.plain(), machine.drafting(LOG, 3))
    for drafting in ((doubting, *cells), (*cells, doubting)):
        (choice,) = advise(document(*drafting)).choices
        assert choice.best.n_max > 0


def test_crashed_cells_are_no_options(machine, document):
    dead = machine.drafting(LOG, 3).model_copy(update={"status": "crashed", "reason": "an assert"})
    advice = advise(document(machine.plain(), dead))
    assert [option.n_max for option in advice.choices[0].options] == [0]


def test_a_model_that_is_off_is_said(machine, document):
    slow = machine.drafting(LOG, 3)
    slow = slow.model_copy(
        update={
            "samples": [s.model_copy(update={"decode_ns": round(1.4 * s.decode_ns)}) for s in slow.samples]
        }
    )
    advice = advise(document(machine.plain(), machine.forced(), slow))
    assert "The model is off from what was measured" in " ".join(cautions(advice))


def test_the_document_holds_what_the_advice_rests_on(measured):
    found = as_json(advise(measured), "m.gguf")
    log = found["settings"][0]["survival"][0]
    assert log["s"][:2] == pytest.approx(np.cumprod(LOG)[:2], abs=0.02)
    assert all(low <= s <= high for (low, high), s in zip(log["intervals"], log["s"], strict=True))
    assert [step["n_max"] for step in found["costs"][0]["steps"]] == list(range(7))
    assert len(found["costs"][0]["parts"]) == 7


def test_the_same_figures_give_the_same_advice(measured, capsys):
    said = [print_json(as_json(advise(measured), "m.gguf")) or capsys.readouterr().out for _ in range(2)]
    assert said[0] == said[1]
