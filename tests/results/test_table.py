import io

import pytest
from rich.console import Console

from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.table import plain, tables


@pytest.fixture
def cells(make_plan, make_outcomes):
    return [row(outcome) for outcome in make_outcomes(make_plan(depths=[512, 2048]))]


def rendered(found, width=90):
    out = io.StringIO()
    console = Console(file=out, width=width)
    for table in found:
        console.print(table)
    return out.getvalue()


def shown(cells, width=90):
    return rendered(tables(cells), width)


def test_one_table_a_depth_with_the_seeds_columns(cells):
    text = shown(cells)
    assert text.count("prefill") == 4
    lines = [line.split() for line in text.splitlines()]
    assert ["dense", "990.1", "99.01", "-", "-", "-", "-", "12.0"] in lines
    assert ["SWA", "+", "MTP", "1980.2", "198.02", "+100.0%", "+60.0%", "+0.0%", "?", "0.591", "3.0"] in lines


def test_a_gain_that_is_not_shown_carries_a_question_mark(cells):
    comparisons = compare(cells)
    assert "+25.0% ?" not in rendered(tables(cells, comparisons))
    at = next(
        n for n, each in enumerate(comparisons)
        if (each.mode, each.to_mode, each.metric) == ("swa", "dense", "decode_tps")
    )  # fmt: skip
    comparisons[at] = comparisons[at].model_copy(update={"verdict": "no difference shown"})
    text = rendered(tables(cells, comparisons))
    assert text.count("+25.0% ?") == 1
    assert "? no difference shown at 95 %" in text


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 120])
def test_it_fits_a_terminal_of_any_width_whole(cells, width):
    text = shown(cells, width)
    assert "\u2026" not in text and max(map(len, text.splitlines())) <= width
    for figure in ("99.01", "990.1", "198.02", "+100.0%", "0.591"):
        assert figure in text


def test_eighty_columns_are_enough_for_a_table_with_intervals(cells):
    bent = [
        cell.model_copy(update={"samples": [
            sample.model_copy(update={"decode_ns": round(sample.decode_ns * (1 + 0.2 * sample.round * (at % 3)))})
            for sample in cell.samples
        ]})
        for at, cell in enumerate(cells)
    ]  # fmt: skip
    text = rendered(tables(bent, compare(bent)), 80)
    assert text.count("mode ") == 2 and ".." in text


def test_a_crashed_row_has_no_figures(cells):
    cells[3] = cells[3].model_copy(update={"status": "crashed", "reason": "x[0] failed"})
    line = next(line for line in shown(cells).splitlines() if "crashed" in line)
    assert line.split() == ["SWA", "+", "MTP", "-", "crashed", "-", "-", "-", "-", "3.0"]


def test_a_mode_that_was_asked_for_and_is_not_there_is_a_row(cells):
    found = [cell for cell in cells if cell.mode == "dense"]
    assert "missing" not in shown(found)
    assert rendered(tables(found, modes=["swa"])).count("missing") == 2


def test_what_a_file_says_is_text_and_not_markup(cells):
    cells = [cell.model_copy(update={"workload": "[/bold][red]x\x1b[31m\x07\n\u202ey"}) for cell in cells]
    text = shown(cells)
    assert "[/bold][red]x [31m y" in text
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text


def test_plain_text_is_one_line():
    assert plain(" a\r\nb\tc\x9b1m ") == "a b c 1m"
