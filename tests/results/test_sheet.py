from pathlib import Path

import pytest

from llamacpp_tools.results import document
from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.sheet import FOOTNOTES, Gain, sheets

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "qwen3.6-mtp-swa.json"


@pytest.fixture(scope="module")
def published():
    result = document.read(REFERENCE)
    return {
        (sheet.group.n_depth, sheet.group.workload): {line.mode: line for line in sheet.lines}
        for sheet in sheets(result.cells, result.comparisons)
    }


@pytest.fixture
def cells(make_plan, make_outcomes):
    return [row(outcome) for outcome in make_outcomes(make_plan(depths=[512, 2048]))]


# The article's tables: per cent as it prints them, whole at 123k and with one decimal at 79k.
@pytest.mark.parametrize(
    ("depth", "workload", "mode", "which", "digits", "printed"),
    [
        (123228, "maintenance_log", "swa", "dense", 0, "+14"),
        (123228, "maintenance_log", "mtp", "dense", 0, "+11"),
        (123228, "maintenance_log", "swa+mtp", "dense", 0, "+46"),
        (79000, "analysis", "swa", "dense", 1, "+8.6"),
        (79000, "analysis", "mtp", "own", 1, "-10.6"),
        (79000, "analysis", "swa+mtp", "own", 1, "-2.6"),
        (79000, "narrative", "swa+mtp", "own", 1, "+31.7"),
        (123228, "maintenance_log", "mtp", "own_prefill", 1, "-6.9"),
        (123228, "maintenance_log", "swa+mtp", "own_prefill", 1, "-14.8"),
    ],
)
def test_the_articles_tables_to_the_digit(published, depth, workload, mode, which, digits, printed):
    gain = getattr(published[depth, workload][mode], which)
    assert f"{100 * (gain.ratio - 1):+.{digits}f}" == printed
    assert f"{round(float(gain.percent.rstrip('%')), digits):+.{digits}f}" == printed


def test_the_articles_speeds_and_acceptance(published):
    lines = published[123228, "maintenance_log"]
    shown = [(line.prefill, line.decode, line.acceptance) for line in lines.values()]
    assert shown == [
        ("388.0", "37.09", "-"),
        ("550.3", "42.15", "-"),
        ("361.4", "41.04", "0.805"),
        ("469.1", "54.14", "0.961"),
    ]


def test_only_the_narrative_task_is_marked_confounded(published):
    marked = [
        (where[1], mode)
        for where, lines in published.items()
        for mode, line in lines.items()
        if (line.own and line.own.confounded) or (line.dense and line.dense.confounded)
    ]
    assert marked == [("narrative", "swa+mtp")]
    assert published[79000, "narrative"]["swa+mtp"].own.marked == "+31.7% *"


def test_a_mode_that_other_depths_have_is_a_line_that_says_so(published):
    line = published[20480, "maintenance_log"]["dense"]
    assert (line.cell, line.status, line.decode) == (None, "missing", "-")


def test_gains_are_the_comparisons_with_their_intervals(cells):
    comparisons = compare(cells)
    (sheet, _) = sheets(cells, comparisons)
    both = sheet.lines[3]
    item = next(
        each for each in comparisons
        if (each.metric, each.cell, each.to_mode) == ("decode_tps", both.cell.id, "swa")
    )  # fmt: skip
    assert both.own == Gain(item.ratio, tuple(item.interval), 3)
    assert sheets(cells) == sheets(cells, comparisons)


def test_a_confounded_text_does_not_doubt_the_prefill(cells):
    cells[3] = cells[3].model_copy(update={"distinct_word_ratio": 0.2})
    sheet = sheets(cells, compare(cells))[0]
    assert sheet.lines[3].own.confounded and not sheet.lines[3].own_prefill.confounded
    assert sheet.footnotes["*"].startswith("confounded")


def test_forced_cells_have_no_speed_and_no_line(cells):
    forced = cells[2].model_copy(update={"forced": True, "id": "forced", "decode_tps": None})
    assert sheets([forced, *cells]) == sheets(cells)


def test_a_failed_cell_has_no_figures_and_no_gain(cells):
    cells[0] = cells[0].model_copy(update={"status": "oom", "reason": "x"})
    lines = sheets(cells, compare(cells))[0].lines
    assert (lines[0].decode, lines[0].status, lines[0].kv_mib) == ("-", "oom", "12.0")
    assert lines[1].dense is None and lines[3].own is not None


@pytest.mark.parametrize(
    ("gain", "marked", "span"),
    [
        (Gain(1.136), "+13.6%", ""),
        (Gain(0.9742, (0.9532, 0.9961), 3), "-2.6%", "-4.7 to -0.4"),
        (Gain(2.31, (2.16, 2.44), 3), "+131.0%", "+116 to +144"),
        (Gain(1.0, (0.9, 1.1), 3, doubtful=True, confounded=True), "+0.0% ?*", "-10 to +10"),
    ],
)
def test_a_gain_in_figures(gain, marked, span):
    assert (gain.marked, gain.span) == (marked, span)
    assert set(gain.marks) <= set(FOOTNOTES)
