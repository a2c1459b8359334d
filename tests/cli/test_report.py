import json
import shutil

import pytest

from llamacpp_tools.cli.main import run
from tests.report.conftest import BALLAST, REFERENCE


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two results in a folder of the user's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(BALLAST, "ballast.json")
    shutil.copy(REFERENCE, "published.json")
    return tmp_path


def test_the_articles_tables(results, capsys):
    assert run(["report", "published.json"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "SWA only 550.3 42.15 +13.6% - - -" in lines
    assert "dense + MTP 361.4 41.04 +10.6% +10.6% -6.9% 0.805" in lines
    assert "SWA + MTP 469.1 54.14 +46.0% +28.4% -14.8% 0.961" in lines
    assert "dense + MTP 36.77 -10.6% -10.6% 0.510" in lines
    assert "SWA + MTP 43.51 +5.8% -2.6% 0.549" in lines
    assert "SWA + MTP 58.51 +31.7% * 0.864" in lines


def test_a_report_has_the_verdict_the_findings_and_the_caveats(results, capsys):
    assert run(["report", "ballast.json"]) == 0
    out = capsys.readouterr().out
    order = [out.index(head) for head in ("Fastest", "depth 512, maintenance_log\n", "Findings", "Caveats")]
    assert order == sorted(order)
    assert "+169.9% over dense (+153 to +197)" in out
    assert "? no difference shown at 95 %" in out


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_narrow_terminal_gets_it_whole(results, capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(["report", "ballast.json"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns and "…" not in out


def test_several_results_stand_apart(results, capsys):
    assert run(["report", "published.json", "ballast.json"]) == 0
    out = capsys.readouterr().out
    first, _, second = out.partition("ballast-2x2 =")
    assert "54.14" in first and "54.14" not in second
    assert "71.01" in second and "71.01" not in first


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("md", "# ballast-2x2"),
        ("csv", "result,experiment,test_time,build_commit"),
        ("json", "{"),
        ("llama-bench-jsonl", '{"build_commit": "049d904a9"'),
        ("llama-bench-sql", "CREATE TABLE IF NOT EXISTS llama_bench ("),
    ],
)
def test_text_goes_to_stdout_or_to_out(results, capsys, form, begins):
    assert run(["report", "ballast.json", "--format", form]) == 0
    shown, err = capsys.readouterr()
    assert shown.startswith(begins) and err == ""
    assert run(["report", "ballast.json", "--format", form, "--out", "x.out"]) == 0
    assert capsys.readouterr() == ("", "report: x.out\n")
    assert (results / "x.out").read_text() == shown


@pytest.mark.parametrize(
    ("form", "begins"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")]
)
def test_a_picture_and_a_page_go_beside_the_result(results, capsys, form, begins):
    assert run(["report", "ballast.json", "--format", form]) == 0
    assert capsys.readouterr() == ("", f"report: ballast.{form}\n")
    assert (results / f"ballast.{form}").read_bytes().startswith(begins)


def test_the_name_of_out_says_the_form(results, capsys):
    assert run(["report", "published.json", "--out", "x.md"]) == 0
    assert (results / "x.md").read_text().startswith("# qwen3.6")
    assert run(["report", "published.json", "--out", "x.txt"]) == 0
    assert "SWA + MTP" in (results / "x.txt").read_text()


def test_several_pictures_need_a_folder(results, capsys):
    both = ["report", "published.json", "ballast.json", "--format", "png"]
    assert run([*both, "--out", "one.png"]) == 2
    assert "name a folder" in capsys.readouterr().err
    (results / "pictures").mkdir()
    assert run([*both, "--out", "pictures"]) == 0
    assert sorted(path.name for path in (results / "pictures").iterdir()) == ["ballast.png", "published.png"]


def test_json_is_one_document(results, capsys):
    assert run(["report", "ballast.json", "published.json", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["experiment"] for each in told["results"]] == ["ballast-2x2", "qwen3.6-mtp-swa-fix"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.json"], "there is no result file nothing.json"),
        (["ballast.json", "ballast.json"], "twice"),
        (["ballast.json", "--format", "pdf"], "there is no form pdf"),
        (["ballast.json", "--out", "x.pdf"], "does not say what to write"),
        (["ballast.json", "--format", "json", "--out", "ballast.json"], "is a result"),
        (["ballast.json", "--json", "--format", "md"], "two forms"),
        (["ballast.json", "--by-mode"], "--by-mode is for"),
        (["broken.json"], "is not a result file"),
    ],
)
def test_wrong_input_is_one_sentence(results, capsys, words, said):
    (results / "broken.json").write_text('{"schema": 1}')
    before = (results / "ballast.json").read_bytes()
    assert run(["report", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("llt: ") and said in err and err.count("\n") == 1
    assert (results / "ballast.json").read_bytes() == before


def test_nothing_to_plot_is_said(results, capsys):
    raw = json.loads((results / "ballast.json").read_text())
    raw |= {"cells": [], "comparisons": [], "status": "started"}
    (results / "empty.json").write_text(json.dumps(raw))
    assert run(["report", "empty.json", "--format", "png"]) == 1
    assert "nothing in empty.json can be plotted" in capsys.readouterr().err
    assert run(["report", "empty.json"]) == 0
    assert "is missing: the sweep ended before it" in capsys.readouterr().out


def test_by_mode_makes_the_mode_the_build(results, capsys):
    assert run(["report", "ballast.json", "--format", "llama-bench-jsonl", "--by-mode"]) == 0
    builds = {json.loads(line)["build_commit"] for line in capsys.readouterr().out.splitlines()}
    assert builds == {"dense__", "swa____", "mtp____", "swa+mtp"}


def test_what_a_file_says_does_not_reach_the_terminal(results, capsys):
    raw = (
        (results / "ballast.json")
        .read_text()
        .replace("ballast-2x2", "[red]x\\u001b[2J")
        .replace('"analysis"', '"[/b]y"')
    )
    (results / "evil.json").write_text(raw)
    assert run(["report", "evil.json"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[red]x" in out and "[/b]y" in out


def test_what_llt_sweep_prints_is_the_same_table(results, capsys):
    from llamacpp_tools.cli.output import stdout_console
    from llamacpp_tools.results import document
    from llamacpp_tools.results.table import tables

    assert run(["report", "ballast.json"]) == 0
    shown = capsys.readouterr().out
    result = document.read(results / "ballast.json")
    for table in tables(result.cells, result.comparisons):
        stdout_console().print(table)
        assert capsys.readouterr().out in shown
