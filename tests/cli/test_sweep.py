import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from llamacpp_tools.build import manifest
from llamacpp_tools.cli.main import run
from llamacpp_tools.results import document
from llamacpp_tools.sweep import identity, local

ROOT = Path(__file__).parents[2]
FAKE_WORKER = ROOT / "tests" / "sweep" / "fake_worker.py"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))

RAW = {
    "name": "small",
    "swa": {"window": 128, "full_layers": [7]},
    "modes": ["dense", "swa", "mtp", "swa+mtp"],
    "depths": [700],
    "workloads": ["maintenance_log"],
    "context": {"n_ubatch": 128},
    "generate": {"n_predict": 12},
    "rounds": 2,
}


class StubBuild:
    """A build that is asked for its manifest only; the fake worker loads no library."""

    def __init__(self):
        self.path = Path("manifest.json")
        self.manifest = SimpleNamespace(code_sha256="c0de")
        self.data = {"pin": "b9842", "head": "0123456789", "variant": "patched"}


@pytest.fixture
def bench(monkeypatch, tmp_path, tiny):
    """Runs `llt sweep` on a small sweep file with the fake worker; the keys given replace the file's."""
    command = (sys.executable, str(FAKE_WORKER))
    monkeypatch.setattr(local, "LocalExecutor", functools.partial(local.LocalExecutor, command=command))
    monkeypatch.setattr(identity, "ask_device", lambda manifest: identity.Device("CPU"))
    monkeypatch.setattr(manifest, "find", lambda backend, variant, rpc=False: StubBuild())
    monkeypatch.chdir(tmp_path)

    def go(*arguments, how="ok", **changes):
        monkeypatch.setenv("FAKE_WORKER", how)
        raw = {"model": str(tiny), **RAW, **changes}
        Path("small.yaml").write_text(yaml.safe_dump(raw))
        return run(["sweep", "small.yaml", *arguments])

    return go


def results():
    return sorted(Path("results").glob("*.json")) if Path("results").exists() else []


def test_a_sweep_prints_its_table_and_where_the_result_lies(bench, capsys):
    assert bench() == 0
    out, err = capsys.readouterr()
    (path,) = results()
    assert f"result: {path}" in out
    assert "SWA + MTP" in out and "vs dense" in out
    assert "[4/4] swa+mtp d700" in err
    assert document.read(path).status == "complete"
    assert path.name.startswith("small-")


def test_json_is_the_document_and_nothing_else(bench, capsys):
    assert bench("--json", "--out", "r.json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(Path("r.json").read_text())
    assert "[1/4]" in err


def test_a_crash_is_a_row_and_the_sweep_ends_well(bench, capsys):
    assert bench("--out", "r.json", how="swa+mtp=abort") == 0
    result = document.read(Path("r.json"))
    assert [cell.status for cell in result.cells] == ["ok", "ok", "ok", "crashed"]
    assert "GGML_ASSERT(hparams.swa_type == LLAMA_SWA_TYPE_NONE" in capsys.readouterr().out


def test_no_cell_measured_is_exit_1(bench, capsys):
    assert bench("--out", "r.json", how="abort") == 1
    assert "none of the 4 cells could be measured" in capsys.readouterr().err
    assert document.read(Path("r.json")).status == "complete"


def test_input_that_only_the_worker_can_judge_leaves_no_empty_file(bench, capsys):
    assert bench(how="bad_input") == 2
    assert capsys.readouterr().err.endswith("llt: told to say bad_input\n")
    assert results() == []


def test_finished_cells_stay_when_a_later_one_is_refused(bench):
    assert bench("--out", "r.json", how="mtp=bad_input") == 2
    result = document.read(Path("r.json"))
    assert (result.status, [len(cell.samples) for cell in result.cells]) == ("started", [1, 1, 0])


def started(tmp_path, tiny, **env):
    """`llt sweep` as a process of its own, with the fake worker, one second a round."""
    Path("small.yaml").write_text(yaml.safe_dump({"model": str(tiny), **RAW}))
    code = (
        "import functools, sys; from llamacpp_tools.build import manifest;"
        "from llamacpp_tools.sweep import identity, local; from tests.cli.test_sweep import StubBuild;"
        f"local.LocalExecutor = functools.partial(local.LocalExecutor, command=(sys.executable, {str(FAKE_WORKER)!r}));"
        "identity.ask_device = lambda manifest: identity.Device('CPU');"
        "manifest.find = lambda backend, variant, rpc=False: StubBuild();"
        "from llamacpp_tools.cli.main import main; main(sys.argv[1:])"
    )
    words = ["sweep", "small.yaml", "--out", "r.json"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT), "FAKE_ROUND_S": "1", **env},
    )  # fmt: skip


def rounds_in(path):
    return path.read_text().count('"entry":"round"') if path.exists() else 0


def wait_for_rounds(path, count):
    end = time.monotonic() + 60
    while rounds_in(path) < count and time.monotonic() < end:
        time.sleep(0.05)
    return rounds_in(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_round_finish_and_says_how_to_go_on(bench, tmp_path, tiny, capsys, number):
    sweep = started(tmp_path, tiny)
    journal = tmp_path / "r.journal.jsonl"
    before = wait_for_rounds(journal, 1)
    # Half a second later the next round is under way, or its worker is starting.
    time.sleep(0.5)
    sweep.send_signal(number)
    _, err = sweep.communicate(timeout=30)
    assert sweep.returncode == 130, err
    assert "stopping after this round; once more to end at once" in err
    assert "go on with: llt sweep small.yaml --resume --out r.json" in err
    assert rounds_in(journal) == before + 1
    assert document.read(Path("r.json")).status == "started"
    assert bench("--resume", "--out", "r.json") == 0
    assert rounds_in(journal) == 8
    result = document.read(Path("r.json"))
    assert result.status == "complete" and len(result.runs) == 2
    assert [len(cell.samples) for cell in result.cells] == [2] * 4


def test_a_second_signal_ends_at_once(bench, tmp_path, tiny):
    sweep = started(tmp_path, tiny, FAKE_ROUND_S="3")
    journal = tmp_path / "r.journal.jsonl"
    before = wait_for_rounds(journal, 1)
    sweep.send_signal(signal.SIGINT)
    time.sleep(0.3)
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate(timeout=2.5)
    assert sweep.returncode == 130, err
    assert rounds_in(journal) == before
    assert bench("--resume") == 2
    assert bench("--resume", "--out", "r.json") == 0


def test_a_finished_sweep_is_gone_on_with_and_gets_more_rounds(bench):
    assert bench("--out", "r.json") == 0
    assert bench("--resume", "--out", "r.json", rounds=3) == 0
    assert [len(cell.samples) for cell in document.read(Path("r.json")).cells] == [3] * 4
    assert bench("--resume", "--out", "r.json", "--until-width", "0.001%", "--max-rounds", "5", rounds=3) == 0
    assert {len(cell.samples) for cell in document.read(Path("r.json")).cells} <= {3, 4, 5}


def test_what_cannot_fit_is_skipped_unless_forced(bench, monkeypatch):
    from llamacpp_tools.sweep import room

    monkeypatch.setattr(room, "free_memory", lambda: 1 << 20)
    assert bench("--out", "r.json") == 1
    cells = document.read(Path("r.json")).cells
    assert {cell.status for cell in cells} == {"skipped"}
    assert "no smaller cache or depth would fit" in cells[0].reason
    assert bench("--out", "s.json", "--force") == 0


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        ([], {"depth": [5]}, "`depth` is not a known key; did you mean `depths`?"),
        ([], {"depths": 700}, "`depths` must be a list"),
        ([], {"model": "none.gguf"}, "none.gguf does not exist"),
        ([], {"model": "small.yaml"}, "small.yaml"),
        ([], {"model": {"synth": "huge"}}, "huge"),
        ([], {"swa": {"window": 128, "full_layers": [4]}}, "layer 4"),
        ([], {"workloads": [{"file": "none.txt"}]}, "there is no text file none.txt"),
        (["--model", "other.gguf"], {}, "other.gguf does not exist"),
        (["--out", "small.yaml"], {}, "not overwritten"),
        (["--out", "small.yaml/r.json"], {}, "cannot be opened"),
        (["--resume"], {}, "nothing to go on with"),
        (["--resume", "--out", "r.json"], {}, "there is no journal r.journal.jsonl"),
        (["--until-width", "2x"], {}, "--until-width takes a share such as 2%"),
        (["--until-width", "200%"], {}, "--until-width takes a share such as 2%"),
    ],
)
def test_bad_input_is_exit_2_one_sentence_and_no_file(bench, capsys, arguments, changes, words):
    assert bench(*arguments, **changes) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("llt: ") and err.count("\n") == 1
    assert words in err
    assert results() == []


def test_a_file_without_yaml_or_with_a_key_twice(bench, capsys):
    Path("twice.yaml").write_text("name: a\nname: b\n")
    assert run(["sweep", "twice.yaml"]) == 2
    assert "the key name stands twice" in capsys.readouterr().err
    assert run(["sweep", "none.yaml"]) == 2


def test_no_build_is_exit_3_with_the_command(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLT_HOME", str(tmp_path / "home"))
    Path("small.yaml").write_text(yaml.safe_dump({"model": str(tiny), **RAW}))
    assert run(["sweep", "small.yaml"]) == 3
    assert "llt build --cpu" in capsys.readouterr().err
    assert results() == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_file_has_a_plan(path, capsys, monkeypatch):
    monkeypatch.delenv("LLT_MODEL", raising=False)
    assert run(["sweep", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "mtp" in out and "tokens to prefill" in out
    assert run(["sweep", str(path), "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert "mtp" in {cell["mode"] for cell in document["cells"]} <= {"dense", "swa", "mtp", "swa+mtp"}
    assert document["prefill_tokens"] == sum(cell["n_depth"] * cell["rounds"] for cell in document["cells"])


def test_the_seeds_parameters_are_in_their_files(capsys):
    assert run(["sweep", str(ROOT / "configs" / "2x2_123k.yaml"), "--dry-run", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    both = cells[3]
    assert (both["n_depth"], both["window"], both["full_layers"]) == (123228, 16384, [27, 31, 35, 39])
    assert (both["type_k"], both["type_v"], both["n_ubatch"], both["n_predict"]) == ("q4_1", "q4_1", 512, 200)
    assert both["ignore_eos"] is True


def test_a_model_that_is_not_named_is_said(capsys, monkeypatch):
    monkeypatch.delenv("LLT_MODEL", raising=False)
    assert run(["sweep", str(ROOT / "configs" / "2x2_123k.yaml")]) == 2
    assert "LLT_MODEL is not set" in capsys.readouterr().err


def test_a_finished_sweep_that_is_resumed_says_that_nothing_was_left(bench, capsys):
    assert bench("--out", "r.json") == 0
    assert "nothing was measured" not in capsys.readouterr().err
    assert bench("--resume", "--out", "r.json") == 0
    assert "every round was there already" in capsys.readouterr().err
    assert bench("--resume", "--out", "r.json", rounds=3) == 0
    assert "nothing was measured" not in capsys.readouterr().err


def test_a_bound_without_what_it_bounds_is_refused(bench, capsys):
    assert bench("--max-rounds", "5") == 2
    assert "--max-rounds bounds --until-width" in capsys.readouterr().err


def test_a_window_that_saves_nothing_is_said_before_anything_runs(bench, capsys):
    assert bench("--dry-run", swa={"window": 1024, "full_layers": [7]}) == 0
    assert "the window of 1024 saves no memory" in capsys.readouterr().out
    assert results() == []
