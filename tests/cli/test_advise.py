"""`llt advise`: on published figures, on wrong arguments, and from a sweep to a server that runs what it says."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from benchmarks.server import completion, llama_server
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.cli.main import run
from llamacpp_tools.results.document import read, write
from llamacpp_tools.results.schema import Box
from tests.conftest import Llt

ROOT = Path(__file__).parents[2]
PUBLISHED = "results/reference/qwen3.6-mtp-swa.json"
BALLAST = "results/miniature/ballast_2x2.json"


@pytest.fixture
def advise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the verb in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "160")

    def go(*words: str | Path) -> tuple[int, str, str]:
        code = run(["advise", *map(str, words)])
        return code, *capsys.readouterr()

    return go


def test_published_figures_give_a_rule_and_say_how_weak_it_is(advise) -> None:
    code, out, _ = advise(PUBLISHED)
    assert code == 0
    assert "puts the break-even at an acceptance of 0.66" in out and "of 0.58" in out
    assert "note: Published figures" in out
    assert "llama-server -m Qwen3.6-35B-A3B-UD-Q4_K_M" in out
    assert "--measure" not in out


def test_json_is_the_document_and_nothing_else(advise) -> None:
    code, out, err = advise(BALLAST, "--json")
    assert code == 0 and err == ""
    found = json.loads(out)
    assert {setting["workload"] for setting in found["settings"]} == {"maintenance_log", "analysis"}
    assert all(setting["command"].startswith("llama-server -m ") for setting in found["settings"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("missing.json",), 2, "there is no result file missing.json"),
        ((PUBLISHED, "--measure"), 2, "published figures"),
        ((BALLAST, "--measure", "--costs", BALLAST), 2, "leave one out"),
        ((BALLAST, "--costs", PUBLISHED), 2, "another model_filename"),
        ((BALLAST, "--longest", "0"), 2, "--longest"),
    ],
)
def test_what_is_wrong_is_one_sentence(advise, words: tuple[str, ...], code: int, said: str) -> None:
    found, _, err = advise(*words)
    assert found == code
    assert said in " ".join(err.split()) and "Traceback" not in err


def test_costs_that_lie_beside_a_result_are_of_its_model_or_refused(advise, tmp_path: Path) -> None:
    shutil.copy(BALLAST, tmp_path / "r.json")
    other = read(Path(BALLAST))
    write(
        tmp_path / "r.costs.json",
        other.model_copy(update={"provenance": other.provenance.model_copy(update={"libllama_sha256": "0"})}),
    )
    code, _, err = advise(tmp_path / "r.json")
    assert code == 2 and "another libllama_sha256" in err and "--measure" in err


def test_what_several_boxes_measured_is_advised_on_box_by_box(advise, tmp_path: Path) -> None:
    one = read(Path(BALLAST))
    boxes = [Box(name=name, box=name, provenance=one.provenance) for name in "ab"]
    cells = [
        cell.model_copy(update={"box": box.name, "id": f"{cell.id} @{box.name}"})
        for box in boxes
        for cell in one.cells
    ]
    write(tmp_path / "each.json", one.model_copy(update={"cells": cells, "boxes": boxes}))
    code, _, err = advise(tmp_path / "each.json")
    assert code == 2 and "was measured by the boxes a, b" in " ".join(err.split()) and "--box" in err
    code, _, err = advise(tmp_path / "each.json", "--box", "c")
    assert code == 2 and "has no box c; its boxes: a, b" in " ".join(err.split())
    _, alone, _ = advise(BALLAST, "--json")
    code, out, _ = advise(tmp_path / "each.json", "--box", "b", "--json")
    assert code == 0 and json.loads(out)["settings"] == json.loads(alone)["settings"]
    # Costs are kept for each box.
    other = one.model_copy(update={"provenance": one.provenance.model_copy(update={"cpu_info": "another"})})
    write(tmp_path / "each.b.costs.json", other)
    assert advise(tmp_path / "each.json", "--box", "a")[0] == 0
    code, _, err = advise(tmp_path / "each.json", "--box", "b")
    assert code == 2 and "another cpu_info" in err


CONFIG = """
name: small
model: miniature
context: {n_ubatch: 64}
swa: {window: 128, full_layers: [11]}
draft: {n_max: 2}
modes: [dense, swa, mtp, swa+mtp]
depths: [400]
workloads: [maintenance_log]
generate: {n_predict: 32}
rounds: 2
"""


@pytest.mark.build
def test_from_a_sweep_to_a_server_that_runs_what_it_says(llt: Llt, tmp_path: Path, patched: Build) -> None:
    (tmp_path / "small.yaml").write_text(CONFIG)
    result = tmp_path / "r.json"
    done = llt("sweep", tmp_path / "small.yaml", "--out", result)
    assert done.returncode == 0, done.stderr
    done = llt("advise", result, "--measure", "--longest", "4", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [curve["source"] for curve in found["costs"]] == ["forced", "forced"]
    for curve in found["costs"]:
        assert [step["n_max"] for step in curve["steps"]] == [0, 1, 2, 3, 4]
        # Whatever this machine is like, a draft of four and its verification cost more than none.
        assert curve["steps"][-1]["over_plain"]["value"] > curve["steps"][0]["over_plain"]["value"]
        assert all(part["draft_ms"] > 0 for part in curve["parts"][1:])
    kept = read(tmp_path / "r.costs.json")
    assert {cell.mode: (cell.forced, cell.decode_tps is None) for cell in kept.cells} == {
        "dense": (False, False), "swa": (False, False), "mtp": (True, True), "swa+mtp": (True, True),
    }  # fmt: skip
    # What was measured is found again, and nothing is measured twice.
    again = llt("advise", result, "--measure", "--longest", "4", "--json")
    assert json.loads(again.stdout) == found
    assert llt("advise", result, "--json").returncode == 0
    _serves(patched, found["settings"][0]["command"])
    # Costs of another build would be refused after all the measuring: they are before it.
    known = read(result)
    provenance = known.provenance.model_copy(update={"libllama_sha256": "0" * 64})
    write(tmp_path / "other.json", known.model_copy(update={"provenance": provenance}))
    done = llt("advise", tmp_path / "other.json", "--measure", "--longest", "4")
    assert done.returncode == 2 and "another libllama_sha256" in " ".join(done.stderr.split())
    assert not list(tmp_path.glob("other.costs*"))


def _serves(build: Build, command: str) -> None:
    name, flag, model, *flags = shlex.split(command)
    assert (name, flag) == ("llama-server", "-m")
    path = next(path for path in (ROOT / "llamacpp_tools" / "models").glob("*.gguf") if path.name == model)
    at = flags.index("-np")
    with llama_server(build, path, *flags[:at], *flags[at + 2 :]) as where:
        assert completion(where, [10, 11, 12], 8)["timings"]["predicted_n"] == 8
