"""`llt acceptance` on the miniature: texts, tables, pairs, switches, what is wrong, what dies, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.cli.main import run
from llamacpp_tools.results.document import read
from tests.conftest import Llt

ROOT = Path(__file__).parents[2]
KEPT = "results/miniature/acceptance_lookahead.json"
QUICK = ("--depth", 320, "--n-predict", 48, "--lookahead", 3, "--rounds", 1, "--context", "threads=1")

Verb = Callable[..., tuple[int, str, str]]


@pytest.fixture
def acceptance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Runs the verb in this process: exit code, stdout, stderr."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "160")

    def go(*words: str | Path | int) -> tuple[int, str, str]:
        code = run(["acceptance", *map(str, words)])
        return code, *capsys.readouterr()

    return go


def test_the_result_that_is_kept_is_shown_again(acceptance: Verb, tmp_path: Path) -> None:
    page = tmp_path / "tables.md"
    code, out, _ = acceptance(KEPT, "--markdown", page)
    assert code == 0 and "return on investment" in out and "all classes" in out
    # The page beside it is the tool's own word on it.
    assert page.read_text() == (ROOT / KEPT).with_suffix(".md").read_text()
    code, out, err = acceptance(KEPT, "--json")
    told = json.loads(out)
    assert code == 0 and err == "" and told["result"] == KEPT
    assert {each["name"] for each in told["classes"]} == {
        "log", "analysis", "prose", "code", "extraction", "factual", "thinking", "instruction",
    }  # fmt: skip
    assert read(ROOT / KEPT).acceptance is not None
    assert told["classes"] == read(ROOT / KEPT).acceptance.model_dump(mode="json")["classes"]  # type: ignore[union-attr]
    assert all(len(each["runs"]) == each["positions"] >= 200 for each in told["classes"])
    assert all(each["first_divergence"] is None for each in told["classes"])


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nosuch.gguf",), "nosuch.gguf does not exist"),
        (("nosuch.json",), "there is no result file nosuch.json"),
        (("results/miniature/ballast_2x2.json",), "is no result of `llt acceptance`"),
        ((KEPT, "--class", "log"), "leave --class out, or name a model"),
        (("miniature", "--class", "poem"), "there is no class poem"),
        (("miniature", "--text", "nosuch.txt"), "there is no text file nosuch.txt"),
        (("miniature", "--context", "threads"), "--context takes KEY=VALUE"),
        (("miniature", "--context", "threads=[1, 2]"), "--context threads takes one value, not '[1, 2]'"),
        (("miniature", "--context", "colour=red"), "`context.colour` is not a known key"),
        (("miniature", "--full-layers", "a"), "--full-layers takes numbers"),
        (("miniature", "--window", 64, "--full-layers", "2"), "layer 2 of"),
        (("miniature", "--mtp", "off", "--verify"), "there is nothing to verify"),
        (("miniature", "--mtp", "off", "--pairs", "new.jsonl"), "so there are no pairs"),
        ((KEPT, "--pairs", KEPT), "exists already: give --pairs another name"),
        (("miniature", "--resume", "--out", "nosuch.json"), "cannot be gone on with"),
    ],
)
def test_what_is_wrong_is_one_sentence(acceptance: Verb, words: tuple[str, ...], why: str) -> None:
    code, out, err = acceptance(*words)
    assert code == 2 and out == "" and why in err and len(err.splitlines()) == 1


@pytest.mark.build
def test_from_a_model_to_a_verdict(patched: Build, llt: Llt, tmp_path: Path) -> None:
    mine = tmp_path / "minutes.txt"
    mine.write_text("Room 3 was checked at 14 and had no fault. The pump ran at 900 kPa.\n" * 60)
    out, pairs, page = (tmp_path / name for name in ("a.json", "pairs.jsonl", "a.md"))
    words = ("acceptance", "miniature", *QUICK, "--class", "log", "--text", mine, "--out", out)
    done = llt(*words, "--pairs", pairs, "--markdown", page, "--verify", "--context", "flash_attn=off")
    assert done.returncode == 0, done.stderr
    for words_shown in (
        "drafts that come true",
        "accepted length",
        "verdict",
        "minutes.txt",
        "truly verified",
    ):
        assert words_shown in done.stdout
    assert "Watching changed no text" in done.stdout and str(out) in done.stdout
    found = read(out)
    assert found.acceptance is not None and found.status == "complete"
    log, minutes = found.acceptance.classes
    assert (log.name, minutes.name) == ("log", "minutes.txt")
    for each in (log, minutes):
        assert len(each.runs) == 48 and sum(each.histogram) == 48 and each.first_divergence is None
        assert [row.n_max for row in each.returns] == [1, 2, 3] and each.verdict != "no cost known"
    assert log.accepted[0] > 40 and found.acceptance.idle is not None
    lines = [json.loads(line) for line in pairs.read_text().splitlines()]
    assert len(lines) == 2 * 48 * 3
    assert sum(pair["accepted"] for pair in lines if pair["class"] == "log") == sum(log.runs)
    # The texts of the tokens are those of the text.
    dense = next(cell for cell in found.cells if cell.mode == "dense")
    actual = {pair["position"]: pair["actual_text"] for pair in lines if pair["class"] == "log"}
    assert "".join(actual[at] for at in sorted(actual)) in (dense.output_text or "")
    assert page.read_text().startswith("# Acceptance by class and lookahead")
    told = " ".join(map(str, QUICK))
    typed = f"{told} --context flash_attn=off"
    again = found.acceptance.command
    assert again.startswith("llt acceptance miniature ") and again in page.read_text()
    assert "--text minutes.txt" in again and str(tmp_path) not in page.read_text()
    assert sorted(again.split()) == sorted(
        f"llt acceptance miniature {typed} --class log --text minutes.txt --verify".split()
    )
    # A watched text is no mode of its own: report, compare and advise leave it and its speed out.
    assert llt("report", out).returncode == 0
    assert "traced" not in llt("compare", out, out).stdout
    assert llt("advise", out).returncode == 0
    again = llt("acceptance", "miniature", *QUICK, "--out", out)
    assert again.returncode == 2 and "is not overwritten" in again.stderr


@pytest.mark.build
def test_switches_change_the_drafts_and_not_the_text(patched: Build, llt: Llt, tmp_path: Path) -> None:
    found = {}
    for name, words in (
        ("usual", ()),
        ("alone", ("--draft-history", "off")),
        ("before", ("--hidden-row", "before-norm")),
        ("off", ("--mtp", "off")),
    ):
        out = tmp_path / f"{name}.json"
        done = llt("acceptance", "miniature", *QUICK, "--class", "log", "--out", out, *words, "--json")
        assert done.returncode == 0, done.stderr
        found[name] = json.loads(done.stdout), read(out).cells[0].output_tokens
    assert len({tuple(tokens or ()) for _, tokens in found.values()}) == 1
    usual, alone, before, off = (found[name][0] for name in ("usual", "alone", "before", "off"))
    assert sum(alone["classes"][0]["runs"]) < 0.9 * sum(usual["classes"][0]["runs"])
    assert (alone["draft_history"], before["hidden_row"]) == (False, "before-norm")
    assert not off["mtp"] and off["classes"][0]["runs"] == [] and off["classes"][0]["plain_tps"] > 0


@pytest.mark.build
def test_a_death_is_a_row_and_the_rest_goes_on(without_mtp_iswa: Build, llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    words = ("--class", "log", "--window", 64, "--build", without_mtp_iswa.manifest.variant, "--out", out)
    done = llt("acceptance", "miniature", *QUICK, *words)
    assert done.returncode == 1 and "GGML_ASSERT" in done.stderr
    found = read(out)
    assert found.acceptance is not None
    (log,) = found.acceptance.classes
    assert log.reason is not None and log.reason.startswith("crashed: GGML_ASSERT") and log.plain_tps
    assert "plain decode, nothing drafted" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.build
def test_ctrl_c_keeps_what_is_there_and_resume_goes_on(patched: Build, llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    words = ["acceptance", "miniature", *QUICK, "--class", "log", "--class", "code", "--out", out]
    with subprocess.Popen(
        [sys.executable, "-m", "llamacpp_tools", *map(str, words)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
    ) as going:  # fmt: skip
        journal = out.with_name("a.journal.jsonl")
        end = time.monotonic() + 120
        while '"entry":"round"' not in (journal.read_text() if journal.exists() else ""):
            assert time.monotonic() < end and going.poll() is None
            time.sleep(0.02)
        going.send_signal(signal.SIGINT)
        _, said = going.communicate(timeout=120)
        assert going.returncode == 130, said
    assert f"--resume --out {out} goes on" in said
    before = sum(len(cell.samples) for cell in read(out).cells)
    assert before >= 1
    for other, why in (
        (
            (*words, "--resume", "--lookahead", "4"),
            "was made with other settings (draft.n_max [3] there, [4] now",
        ),
        ((*words[:-4], "--out", out, "--resume"), "has code as well, which --resume would leave out"),
    ):
        refused = llt(*other)
        assert refused.returncode == 2 and why in refused.stderr
    assert sum(len(cell.samples) for cell in read(out).cells) == before
    done = llt(*words, "--resume")
    assert done.returncode == 0, done.stderr
    found = read(out)
    assert found.status == "complete" and found.acceptance is not None and len(found.runs) == 2
    assert all(each.runs for each in found.acceptance.classes)
    # Rows of other switches are no less in the way than a class that is not asked for.
    refused = llt(*words, "--resume", "--draft-history", "off")
    assert refused.returncode == 2 and "which --resume would leave out: repeat --verify" in refused.stderr
    assert read(out) == found
