import json
from pathlib import Path

import pytest

from llamacpp_tools import home
from llamacpp_tools.cli.main import run
from llamacpp_tools.results import document, sanity
from llamacpp_tools.results.sanity import matrix, old_build


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of baselines of this test's own; builds and models stay where they are."""
    monkeypatch.setattr(home, "sanity_dir", lambda: tmp_path / "sanity")
    monkeypatch.setattr(sanity, "ROUNDS", 3)
    return tmp_path / "sanity"


@pytest.fixture
def check(shelf, tiny, capsys):
    """Runs `llt sanity` on the tiny model; exit code, stdout, stderr."""

    def go(*words):
        code = run(["sanity", "--model", str(tiny), *map(str, words)])
        return (code, *capsys.readouterr())

    return go


def doctored(path: Path, factor: float, **provenance):
    """Rewrite a baseline as if everything had been `factor` times as fast."""
    found = document.read(path)
    cells = []
    for cell in found.cells:
        samples = [
            item.model_copy(
                update={
                    "decode_ns": int(item.decode_ns / factor),
                    "prefill_ns": int(item.prefill_ns / factor),
                }
            )
            for item in cell.samples
        ]
        cells.append(cell.model_copy(update={"samples": samples}))
    known = found.provenance.model_copy(update=provenance)
    document.write(path, found.model_copy(update={"cells": cells, "provenance": known}))


@pytest.mark.build
def test_the_first_run_stores_a_baseline_and_the_next_is_held_against_it(check, shelf, patched):
    code, out, err = check()
    assert code == 0, err
    (path,) = shelf.glob("*.json")
    assert f"baseline stored: {path}" in out and "dense: decode " in out and "swa+mtp: decode " in out
    stored = document.read(path)
    assert [cell.mode for cell in stored.cells] == ["dense", "swa+mtp"]
    assert all(len(cell.samples) == 3 and cell.load_ns for cell in stored.cells)
    assert all(item.filled == "prefill" for cell in stored.cells for item in cell.samples)
    assert stored.runs[-1]["build"] == patched.folder.name
    # Beside other tests a round may be slower by far; a thousand times is more than that.
    doctored(path, 0.001)
    code, out, err = check("--json", "--update")
    assert code == 0, err
    found = json.loads(out)
    assert found["stored"] and found["diagnosis"]["outcome"] == "faster"
    assert found["diagnosis"]["changed_tokens"] is None
    assert [speed["mode"] for speed in found["speeds"]] == ["dense", "swa+mtp"]
    assert found["baseline"] == found["result"] == str(path)
    assert document.read(path).date > stored.date
    assert [each.name for each in shelf.iterdir()] == [path.name]


@pytest.mark.build
def test_a_baseline_that_was_much_faster_with_another_stack_is_told_apart_by_the_old_library(
    check, shelf, patched
):
    """Its library is still here and is the very same one, so measured in turns it clears the code."""
    assert check()[0] == 0
    (path,) = shelf.glob("*.json")
    doctored(path, 1000, stack_head="0" * 40)
    assert old_build(document.read(path)).path == patched.path
    code, out, err = check()
    assert code == 1
    assert "measuring the two in turns" in err
    assert err.endswith(f"llt: this machine is slower since its baseline {path}\n")
    assert "Slower than the baseline of " in out
    assert "The code: in turns" not in out
    assert "in turns with the baseline's library, now, the present one decodes at" in out
    last = path.with_name(f"{path.stem}.last.json")
    assert f"result: {last}" in out and document.read(last).status == "complete"
    assert sorted(shelf.iterdir()) == sorted([path, last])


def test_the_matrix_fits_the_model(tiny, tiny_next):
    assert matrix(tiny).modes == ("dense", "swa+mtp")
    assert matrix(tiny_next).modes == ("dense", "swa")
    assert matrix(tiny, variant="stock").modes == ("dense", "mtp")
    assert matrix(tiny_next, variant="stock").modes == ("dense",)
    assert matrix().swa.full_layers == ((11,),)


def test_a_build_that_is_gone_or_whose_name_is_a_path_is_not_measured(make_result):
    assert old_build(make_result(runs=[])) is None
    assert old_build(make_result(runs=[{"build": "gone"}])) is None
    assert old_build(make_result(runs=[{"build": "../../etc"}])) is None


@pytest.fixture
def make_result():
    path = Path(__file__).parents[2] / "results" / "miniature" / "ballast_2x2.json"
    return lambda **fields: document.read(path).model_copy(update=fields)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--baseline", "none.json"], "there is no baseline none.json"),
        (["--baseline", __file__], "is not a result file"),
        (["--backend", "foo"], "`build.backend` must be one of"),
        (["--fail-over", "x"], "--fail-over takes a share"),
        (["--model", "none.gguf"], "none.gguf does not exist"),
        (["--model", __file__], "test_sanity.py"),
    ],
)
def test_bad_input_is_exit_2_and_one_sentence(shelf, capsys, monkeypatch, words, said):
    monkeypatch.setattr(sanity, "ready", lambda planned, writing: None)
    monkeypatch.setattr(sanity, "measure", None)
    assert run(["sanity", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.startswith("llt: ") and err.count("\n") == 1


def test_no_build_is_exit_3(home, capsys, tiny):
    assert run(["sanity", "--model", str(tiny)]) == 3
    assert "llt build --cpu" in capsys.readouterr().err
    assert not (home / "sanity").exists()
