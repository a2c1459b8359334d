import csv
import io
import json
import re

import pandas as pd
import pytest
import yaml

from llamacpp_tools.report.facts import commands, differences, facts, runs, sweep_file
from llamacpp_tools.report.flat import as_json
from llamacpp_tools.report.flat import csv as as_csv
from llamacpp_tools.report.markdown import markdown
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.plan import plan
from tests.report.conftest import HOSTILE, changed


def test_markdown_has_the_articles_table(published):
    text = markdown([published])
    assert "| SWA + MTP | 469.1 | 54.14 | +46.0% | +28.4% | -14.8% | 0.961 |" in text
    assert "| SWA + MTP | 43.51 | +5.8% | -2.6% | 0.549 |" in text
    assert r"+31.7% \*" in text
    assert "## To measure it again" not in text


def test_markdown_has_intervals_findings_caveats_and_provenance(measured):
    text = markdown([measured])
    assert "+169.9% (+153 to +197)" in text and "-0.3% ? (-1.6 to +1.4)" in text
    for part in ("## Caveats", "| pin | b9842 |", "llt sweep sweep.yaml", "no difference shown at 95 %"):
        assert part in text
    assert text.count("times as fast as") > 15


def test_every_table_of_the_markdown_is_square(measured, published, hostile, lab):
    lines = markdown([measured, published, hostile, lab]).splitlines()
    at = 0
    while at < len(lines):
        block = []
        while at < len(lines) and lines[at].startswith("|"):
            block.append(len(re.findall(r"(?<!\\)\|", lines[at])))
            at += 1
        assert len(set(block)) <= 1, lines[at - 1]
        at += 1


def test_markdown_of_a_result_of_the_lab_has_the_labs_tables(lab, measured):
    text = markdown([lab])
    assert "## Drafts that come true, by lookahead" in text and "## Return on investment" in text
    assert "lookahead" not in markdown([measured])


def test_a_files_text_is_no_markup_in_markdown(hostile):
    outside = re.sub(r"```+.*?```+", "", markdown([hostile]), flags=re.DOTALL)
    assert not re.search(r"<(script|img|/?style|/?svg)", outside)
    assert "\x1b" not in outside and "\u202e" not in outside


def test_csv_is_one_row_per_cell_with_llama_benchs_columns(measured, published):
    rows = list(csv.DictReader(io.StringIO(as_csv([measured, published]))))
    assert len(rows) == len(measured.result.cells) + len(published.result.cells)
    first = rows[0]
    for name in (
        "build_commit",
        "cpu_info",
        "model_filename",
        "n_depth",
        "n_gen",
        "avg_ts",
        "stddev_ts",
        "type_k",
    ):
        assert name in first
    assert (first["mode"], first["n_depth"], first["n_gen"], first["n_max"]) == ("dense", "512", "95", "")
    assert {row["result"] for row in rows} == {str(measured.path), str(published.path)}
    frame = pd.read_csv(io.StringIO(as_csv([measured])))
    both = frame[
        (frame["mode"] == "swa+mtp") & (frame["n_depth"] == 8192) & (frame["workload"] == "analysis")
    ]
    cell = next(
        c for c in measured.result.cells if (c.mode, c.n_depth, c.workload) == ("swa+mtp", 8192, "analysis")
    )
    assert both["decode_tps"].item() == cell.decode_tps
    assert both["decode_vs_dense"].item() == pytest.approx(2.2813, abs=1e-4)
    assert both["decode_vs_dense_low"].item() == pytest.approx(2.1139, abs=1e-4)
    assert both["full_layers"].item() == 11


def test_csv_runs_nothing_in_a_spreadsheet(measured):
    cells = [cell.model_copy(update={"workload": "=HYPERLINK(1)"}) for cell in measured.result.cells]
    rows = list(csv.DictReader(io.StringIO(as_csv([changed(measured, cells)]))))
    assert {row["workload"] for row in rows} == {"'=HYPERLINK(1)"}


def test_json_says_what_the_tables_say(measured, published):
    told = json.loads(json.dumps(as_json([measured, published]), allow_nan=False))
    first, second = told["results"]
    assert [each["fastest"] for each in first["verdicts"]] == ["swa+mtp", "mtp", "swa+mtp", "swa+mtp"]
    rows = {row["mode"]: row for row in second["tables"][1]["rows"]}
    assert rows["swa+mtp"]["decode_vs_dense"]["ratio"] == pytest.approx(1.4597, abs=1e-4)
    assert rows["swa+mtp"]["prefill_vs_own"]["ratio"] == pytest.approx(0.8524, abs=1e-4)
    assert {each["name"] for each in told["differences"]} >= {"machine", "model", "source"}


def test_the_sweep_file_plans_the_same_cells(measured):
    config = parse_config(yaml.safe_load(sweep_file(measured.result)), "sweep.yaml")
    planned = {(cell.mode, cell.n_depth, cell.workload) for cell in plan(config).cells}
    assert planned == {(cell.mode, cell.n_depth, cell.workload) for cell in measured.result.cells}
    assert commands(measured.result) == ["llt build --cpu", "llt sweep sweep.yaml"]


def test_differences_are_only_what_differs(measured):
    known = measured.result.provenance.model_copy(update={"pin": "b1", "load_average": 0.1})
    other = changed(measured, provenance=known)
    assert [(each.name, each.values) for each in differences([measured, other])] == [
        ("pin", ("b9842", "b1")),
        ("load when it began", ("2.0", "0.1")),
    ]
    assert differences([measured]) == []


def test_runs_are_told_where_there_were_several(measured):
    run = {"date": "2026-11-22", "llt_commit": "abc", "load_average": None}
    assert runs(measured.result) == []
    assert runs(changed(measured, runs=[run, run]).result)[1] == {
        "date": "2026-11-22", "llt commit": "abc", "load average": "",
    }  # fmt: skip


def test_facts_are_in_words_and_units(measured):
    known = facts(measured.result)
    assert known["memory"] == "23.5 GiB" and known["uncommitted changes in llt"] == "yes"
    assert known["parameters"] == "410,158,052"
    assert "driver" not in known


def test_hostile_text_is_still_there_to_be_read(hostile):
    assert HOSTILE.split(">", maxsplit=1)[0].strip("<") in markdown([hostile])
