import io

import pytest
from rich.console import Console

from llamacpp_tools.results.cells import row
from llamacpp_tools.results.compare import compare
from llamacpp_tools.results.table import against, tables


@pytest.fixture
def cells(make_plan, make_outcomes):
    return [row(outcome) for outcome in make_outcomes(make_plan(depths=[512, 2048]))]


def rendered(found):
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in found:
        console.print(table)
    return out.getvalue()


def shown(cells):
    return rendered(tables(cells))


def test_one_table_a_depth_with_the_seeds_columns(cells):
    text = shown(cells)
    assert text.count("prefill t/s") == 2
    lines = [line.split() for line in text.splitlines()]
    assert ["dense", "990.1", "99.01", "-", "-", "12.0", "ok"] in lines
    assert ["SWA", "+", "MTP", "1980.2", "198.02", "+100.0%", "0.591", "3.0", "ok"] in lines


def test_a_gain_that_is_not_shown_carries_a_question_mark(cells):
    comparisons = compare(cells)
    assert "?" not in "".join(rendered(tables(cells, comparisons)))
    at = next(n for n, each in enumerate(comparisons) if (each.mode, each.to_mode) == ("swa", "dense"))
    comparisons[at] = comparisons[at].model_copy(update={"verdict": "no difference shown"})
    text = rendered(tables(cells, comparisons))
    assert text.count("+25.0% ?") == 1
    assert text.count("? no difference shown at 95 %") == 1


def test_it_fits_a_narrow_terminal_whole(cells):
    assert "..." not in shown(cells) and "\u2026" not in shown(cells)


def test_a_crashed_row_has_no_figures(cells):
    cells[3] = cells[3].model_copy(update={"status": "crashed", "reason": "x[0] failed"})
    line = next(line for line in shown(cells).splitlines() if "crashed" in line)
    assert line.split() == ["SWA", "+", "MTP", "-", "-", "-", "-", "3.0", "crashed"]


def test_nothing_is_compared_with_a_dense_row_that_failed(cells):
    dense = cells[0].model_copy(update={"status": "oom", "reason": "x"})
    assert against(cells[1], dense) == "-"
    assert against(cells[1], None) == "-"
    assert against(cells[1], cells[0]) == "+25.0%"
