import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.report.story import capital, stories
from tests.report.conftest import BALLAST, REFERENCE, changed


def test_the_fastest_mode_of_each_2x2(measured, published):
    found = {
        (each.sheet.group.n_depth, each.sheet.group.workload): (each.line.mode, each.remark)
        for each in measured.verdicts
    }
    assert found == {
        (512, "maintenance_log"): ("swa+mtp", "not shown to differ from dense + MTP"),
        (512, "analysis"): ("mtp", "not shown to differ from SWA + MTP"),
        (8192, "maintenance_log"): ("swa+mtp", ""),
        (8192, "analysis"): ("swa+mtp", ""),
    }
    told = {each.sheet.group.label: each for each in published.verdicts}
    assert told["depth 79000, analysis"].line.mode == "swa"
    assert told["depth 79000, analysis"].gain.percent == "+8.6%"
    assert told["depth 79000, narrative"].remark.startswith("confounded")


def test_findings_stand_beside_their_2x2_and_none_is_lost(measured):
    said = [each for sheet in measured.sheets for each in measured.said_of(sheet)]
    assert len(said) + len(measured.said_of_all) == len(measured.findings)
    assert len(said) > 20


def test_a_sweep_that_did_not_finish_says_what_is_missing(measured):
    told = changed(measured, measured.result.cells[:6], status="started")
    assert [(each.mode, each.n_depth, each.workload, each.status) for each in told.troubles] == [
        (mode, depth, workload, "missing")
        for depth, workload, modes in (
            (512, "analysis", ("mtp", "swa+mtp")),
            (8192, "maintenance_log", ("dense", "swa", "mtp", "swa+mtp")),
            (8192, "analysis", ("dense", "swa", "mtp", "swa+mtp")),
        )
        for mode in modes
    ]
    assert "The sweep has not come to its end." in told.caveats
    assert not any("Asked for" in each for each in told.caveats)
    assert told.comparisons and told.findings
    assert [line.status for line in told.sheets[1].lines] == ["ok", "ok", "missing", "missing"]


def test_a_complete_sweep_lacks_nothing(measured, published):
    assert measured.troubles == [] and published.troubles == []


def test_a_failed_cell_stands_once_and_not_among_the_caveats(measured):
    cells = list(measured.result.cells)
    cells[0] = cells[0].model_copy(update={"status": "crashed", "reason": "GGML_ASSERT(x) failed"})
    said = f"dense at depth 512 on maintenance_log is crashed: {cells[0].reason}"
    told = changed(measured, cells)
    assert [each.sentence for each in told.troubles] == [said]
    assert said in told.derived.caveats
    assert said not in told.caveats and len(told.caveats) == len(told.derived.caveats) - 1


def test_results_of_one_name_are_told_apart_by_their_paths(tmp_path):
    other = tmp_path / "other.json"
    other.write_bytes(BALLAST.read_bytes())
    names = [story.name for story in stories([BALLAST, other, REFERENCE])]
    assert names == [f"ballast-2x2 ({BALLAST})", f"ballast-2x2 ({other})", "qwen3.6-mtp-swa-fix"]


def test_a_result_is_named_once(tmp_path):
    with pytest.raises(BadInput, match="twice"):
        stories([BALLAST, BALLAST])


def test_a_sentence_keeps_the_name_of_a_mode():
    assert capital("swa decodes") == "swa decodes"
    assert capital("the window") == "The window"


def test_the_rule_is_that_of_the_advice_with_the_costs_that_lie_beside(measured, published):
    assert any("take the window 1024" in each for each in measured.rule)
    assert any("leave it off for analysis" in each for each in published.rule)
