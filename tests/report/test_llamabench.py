import json
import re
import sqlite3
import subprocess
import sys

import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.report.llamabench import BUILD_OF_MODE, FIELDS, rows, to_jsonl, to_sql
from tests.report.conftest import changed


def slowed(story, **provenance):
    """The same result as if another build had measured it, each decode at three quarters of the speed."""
    cells = [
        cell.model_copy(update={
            "avg_ts": cell.avg_ts * 0.75,
            "samples_ns": [round(ns / 0.75) for ns in cell.samples_ns],
            "samples_ts": [each * 0.75 for each in cell.samples_ts],
        })
        for cell in story.result.cells
    ]  # fmt: skip
    known = story.result.provenance.model_copy(update=provenance)
    return changed(story, cells, provenance=known)


def test_a_cell_is_a_row_for_each_speed(measured):
    found = rows([measured])
    assert len(found) == 2 * len(measured.result.cells)
    tests = {(row["n_prompt"], row["n_gen"], row["n_depth"]) for row in found}
    assert tests == {(512, 0, 0), (8192, 0, 0), (0, 96, 512), (0, 96, 8192)}
    labels = {row["model_type"] for row in found}
    model = measured.result.provenance.model_filename
    assert labels == {
        f"{model} [{workload}, {mode}]"
        for workload in ("maintenance_log", "analysis")
        for mode in BUILD_OF_MODE
    }
    decode = next(row for row in found if row["n_gen"] and "[analysis, mtp]" in row["model_type"])
    cell = next(each for each in measured.result.cells if (each.mode, each.workload) == ("mtp", "analysis"))
    assert (decode["avg_ts"], decode["stddev_ts"]) == (cell.avg_ts, cell.stddev_ts)
    assert (decode["samples_ns"], decode["samples_ts"]) == (cell.samples_ns, cell.samples_ts)


def test_no_column_is_null(measured, published):
    for row in rows([measured, published]):
        assert list(row)[: len(FIELDS)] == [name for name, _, _ in FIELDS]
        assert all(value is not None for value in row.values())


def test_what_varies_stands_in_the_label(full):
    cells = [cell for cell in full.result.cells if cell.n_max and not cell.forced]
    longer = [cell.model_copy(update={"id": cell.id + "b", "n_max": 5}) for cell in cells]
    labels = {row["model_type"].partition(" [")[2] for row in rows([changed(full, cells + longer)])}
    assert "analysis, mtp, n_max 3]" in labels and "analysis, mtp, n_max 5]" in labels


def test_cells_without_a_speed_have_no_row(full):
    cells = [cell.model_copy(update={"status": "invalid", "reason": "x"}) for cell in full.result.cells[:3]]
    forced = [cell for cell in full.result.cells if cell.forced]
    assert forced and rows([changed(full, cells + forced)]) == []


def test_modes_are_not_compared_across_results(measured, published):
    with pytest.raises(BadInput, match="name one"):
        rows([measured, published], by_mode=True)


def test_the_sql_makes_the_same_rows(measured, hostile):
    found = rows([measured, hostile])
    with sqlite3.connect(":memory:") as database:
        database.executescript(to_sql(found))
        database.executescript(to_sql([]))
        names = [name for name, _, _ in FIELDS]
        stored = database.execute(f"SELECT {', '.join(names)} FROM llama_bench").fetchall()
    assert [list(row) for row in stored] == [[row[name] for name in names] for row in found]


def test_the_names_of_the_modes_are_equally_long():
    assert len({len(name) for name in BUILD_OF_MODE.values()}) == 1 and len(set(BUILD_OF_MODE.values())) == 4


@pytest.fixture(scope="module")
def script(patched):
    return patched.path.parent / "src" / "scripts" / "compare-llama-bench.py"


def compared(script, folder, name, baseline, compare):
    """The script's own table: {(model, test): (baseline t/s, compare t/s, speedup)}."""
    done = subprocess.run(
        [sys.executable, script, "-t", "llama-bench", "-i", name, "-b", baseline, "-c", compare],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [[part.strip() for part in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    model, test = lines[0].index("Model"), lines[0].index("Test")
    return {(line[model], line[test]): tuple(map(float, line[-3:])) for line in lines[2:]}


def speeds(story, mode):
    return {
        (cell.workload, f"tg96@d{cell.n_depth}"): cell.avg_ts
        for cell in story.result.cells
        if cell.mode == mode
    } | {
        (cell.workload, f"pp{cell.n_depth}"): cell.prefill_avg_ts
        for cell in story.result.cells
        if cell.mode == mode
    }


@pytest.mark.build
@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
def test_upstreams_script_compares_two_results_mode_by_mode(script, tmp_path, measured, form):
    found = rows([measured, slowed(measured, build_commit="0123456789abcdef"[:9])])
    if form == "jsonl":
        (tmp_path / "both.jsonl").write_text(to_jsonl(found))
    else:
        with sqlite3.connect(tmp_path / "both.sqlite") as database:
            database.executescript(to_sql(found))
    table = compared(script, tmp_path, f"both.{form}", measured.result.provenance.build_commit, "012345678")
    assert len(table) == 2 * len(measured.result.cells)
    for mode in BUILD_OF_MODE:
        for (workload, test), speed in speeds(measured, mode).items():
            model = f"{measured.result.provenance.model_filename} [{workload}, {mode}]"
            baseline, _, speedup = table[model, test]
            assert baseline == pytest.approx(speed, abs=0.006)
            assert speedup == (0.75 if test.startswith("tg") else 1.0)


@pytest.mark.build
def test_upstreams_script_compares_two_modes(script, tmp_path, measured):
    (tmp_path / "modes.jsonl").write_text(to_jsonl(rows([measured], by_mode=True)))
    table = compared(script, tmp_path, "modes.jsonl", BUILD_OF_MODE["dense"], BUILD_OF_MODE["swa+mtp"])
    dense, both = speeds(measured, "dense"), speeds(measured, "swa+mtp")
    assert {(re.search(r"\[(.*)\]", model)[1], test) for model, test in table} == set(dense)
    for (model, test), (baseline, compare, speedup) in table.items():
        key = (re.search(r"\[(.*)\]", model)[1], test)
        assert (baseline, compare) == (
            pytest.approx(dense[key], abs=0.006),
            pytest.approx(both[key], abs=0.006),
        )
        assert speedup == pytest.approx(both[key] / dense[key], abs=0.006)


@pytest.mark.build
def test_the_rows_have_the_columns_of_upstreams_llama_bench(patched, tmp_path, measured):
    from llamacpp_tools.models.miniature import miniature

    program = patched.path.parent / "out" / "bin" / "llama-bench"
    done = subprocess.run(
        [program, "-m", miniature(), "-p", "8", "-n", "0", "-r", "1", "-o", "jsonl"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    theirs = json.loads(done.stdout)
    ours = json.loads(to_jsonl(rows([measured])).splitlines()[0])
    assert list(ours) == list(theirs)
    assert {name: type(value) for name, value in ours.items()} == {
        name: type(value) for name, value in theirs.items()
    }
