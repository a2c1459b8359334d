"""A sweep over boxes on loopback: three processes, as many homes, one of them killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from llamacpp_tools import home
from llamacpp_tools.results import document
from llamacpp_tools.results.boxes import between, of_box
from llamacpp_tools.sweep.journal import journal_path
from tests.cluster.conftest import listening, own_home

pytestmark = pytest.mark.build

CONFIG = """
name: boxes
model: miniature
context: {n_ubatch: 64, threads: 1, flash_attn: false}
draft: {n_max: 3}
modes: [dense, mtp]
depths: [64, 96, 128, 160]
workloads: [maintenance_log]
generate: {n_predict: 8}
rounds: 2
"""


@pytest.fixture
def config(tmp_path: Path, patched) -> Path:
    path = tmp_path / "boxes.yaml"
    path.write_text(CONFIG)
    return path


def entries(out: Path, kind: str) -> list[dict]:
    path = journal_path(out)
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [row for line in lines if line.endswith(b"\n") and (row := json.loads(line))["entry"] == kind]


def test_a_killed_worker_and_a_killed_scheduler_lose_nothing(config, start, llt, tmp_path):
    alone, out = tmp_path / "alone.json", tmp_path / "over.json"
    assert llt("sweep", config, "--out", alone).returncode == 0
    boss = start("cluster", "scheduler", "--port", "0")
    where = listening(boss)
    boxes = {name: start("worker", where, "--name", name, env=own_home(tmp_path / name)) for name in "abc"}
    for box in boxes.values():
        box.said("has joined")
    sweep = start("sweep", config, "--out", out, "--cluster", where)
    for name in boxes:
        sweep.said(f"box {name} has joined")
    while not entries(out, "round"):
        assert sweep.process.poll() is None, sweep.log.read_text()
    boxes["b"].kill()
    sweep.said("box b has left")
    first = entries(out, "round")
    boss.kill()
    sweep.process.wait(60)
    if sweep.process.returncode:
        said = sweep.log.read_text()
        assert sweep.process.returncode == 1 and "Traceback" not in said
        assert "go on with: llt sweep" in said and "the scheduler does not answer any more" in said
    port = where.rsplit(":", 1)[1]
    listening(start("cluster", "scheduler", "--port", port))
    done = llt("sweep", config, "--out", out, "--cluster", where, "--resume")
    assert done.returncode == 0, done.stderr

    ours, theirs = document.read(alone), document.read(out)
    tokens = {cell.id: cell.output_tokens for cell in ours.cells}
    assert theirs.status == "complete" and {cell.id: cell.output_tokens for cell in theirs.cells} == tokens
    assert all(cell.status == "ok" and cell.box in ("a", "b", "c") for cell in theirs.cells)
    for depth in (64, 96, 128, 160):
        assert len({cell.box for cell in theirs.cells if cell.n_depth == depth}) == 1
    assert {each.name for each in theirs.boxes} == {cell.box for cell in theirs.cells}
    assert all(each.provenance.libllama_sha256 for each in theirs.boxes)
    rounds = entries(out, "round")
    assert rounds[: len(first)] == first
    assert max(Counter((row["key"], row["sample"]["round"]) for row in rounds).values()) == 1

    # Everything is there: nobody is asked again, and one machine alone does not mix in.
    again = llt("sweep", config, "--out", out, "--cluster", where, "--resume")
    assert again.returncode == 0 and "nothing was measured" in again.stderr
    assert llt("sweep", config, "--out", out, "--resume").returncode == 2


def test_every_box_measures_all_and_they_are_compared(config, start, scheduler, llt, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("A text of one's own, line by line, that no other box has.\r\n" * 60, newline="")
    config.write_text(
        CONFIG.replace("[64, 96, 128, 160]", "[64]").replace("[maintenance_log]", f"[{{file: {text}}}]")
    )
    for name in "ab":
        start("worker", scheduler, "--name", name, env=own_home(tmp_path / name)).said("has joined")
    out = tmp_path / "each.json"
    done = llt("sweep", config, "--out", out, "--cluster", scheduler, "--place", "each")
    assert done.returncode == 0, done.stderr
    found = document.read(out)
    assert Counter(cell.box for cell in found.cells) == {"a": 2, "b": 2}
    assert len({cell.id for cell in found.cells}) == 4
    assert {cell.reference for cell in found.cells if cell.mode == "mtp"} == {
        cell.id for cell in found.cells if cell.mode == "dense"
    }
    assert all({item.cell[-2:], item.to[-2:]} in ({"@a"}, {"@b"}) for item in found.comparisons)
    (beside,) = between(found)
    assert (beside.a, beside.b, len(beside.matched)) == ("a", "b", 2)
    assert all(match.tokens == "same" for match in beside.matched)
    assert [cell.box for cell in of_box(found, "a").cells] == [None, None]
    assert any(sentence.startswith("Over 2 cells the box b decodes") for sentence in found.findings)


@pytest.mark.parametrize("place", ["any", "each"])
def test_what_boxes_measured_of_another_text_or_series_does_not_count(
    config, start, scheduler, llt, tmp_path, place
):
    text, out = tmp_path / "own.txt", tmp_path / "over.json"
    text.write_text("A text of one's own, line by line, that no other box has.\n" * 60)
    config.write_text(
        CONFIG.replace("[64, 96, 128, 160]", "[64]").replace(
            "[maintenance_log]", f"[maintenance_log, {{file: {text}}}]"
        )
    )
    words = ("sweep", config, "--out", out, "--cluster", scheduler, "--place", place, "--wait", "2")
    box = start("worker", scheduler, "--name", "a", env=own_home(tmp_path / "a"))
    box.said("has joined")
    done = llt(*words)
    assert done.returncode == 0, done.stderr
    first, before = document.read(out), len(entries(out, "round"))
    assert before == 2 * 2 * 2

    text.write_text("Another text, of the same name, which goes on in another way.\n" * 60)
    done = llt(*words, "--resume")
    assert done.returncode == 0, done.stderr
    second = document.read(out)
    assert len(entries(out, "round")) == before + 2 * 2
    changed = {
        cell.workload
        for cell, was in zip(second.cells, first.cells, strict=True)
        if cell.output_tokens != was.output_tokens
    }
    assert changed == {f"file:{text}"} and {cell.status for cell in second.cells} == {"ok"}

    # A journal of another series: nobody is asked what that build gave, it is measured (here: found) again.
    journal = journal_path(out)
    digest = second.provenance.series_digest
    journal.write_text(journal.read_text().replace(digest, "ab" * 32))
    box.kill()
    done = llt(*words, "--resume")
    assert done.returncode == 1 and "nothing was measured" not in done.stderr, done.stderr
    assert "join one with `llt worker`" in done.stderr
    start("worker", scheduler, "--name", "b", env=own_home(tmp_path / "b")).said("has joined")
    done = llt(*words, "--resume")
    assert done.returncode == 0, done.stderr
    assert len(entries(out, "round")) == before + 2 * 2 + before
    third = document.read(out)
    assert [(cell.box, cell.output_tokens) for cell in third.cells] == [
        ("b", cell.output_tokens) for cell in second.cells
    ]


def test_a_cell_that_is_invalid_on_a_box_keeps_its_figures_and_is_measured_again(
    config, start, scheduler, llt, tmp_path
):
    alone, out = tmp_path / "alone.json", tmp_path / "over.json"
    config.write_text(
        CONFIG.replace("[64, 96, 128, 160]", "[64]").replace("n_max: 3", "n_max: 3, p_min: 1.0")
    )
    assert llt("sweep", config, "--out", alone).returncode in (0, 1)
    start("worker", scheduler, "--name", "a", env=own_home(tmp_path / "a")).said("has joined")
    llt("sweep", config, "--out", out, "--cluster", scheduler)
    (here,), (there,) = (
        [cell for cell in document.read(path).cells if cell.status == "invalid"] for path in (alone, out)
    )
    assert (here.mode, here.reason) == (there.mode, there.reason) == ("mtp", "the MTP head drafted nothing")
    assert len(here.samples) == len(there.samples) == 2 and there.decode_tps
    rounds = len(entries(out, "round"))
    llt("sweep", config, "--out", out, "--cluster", scheduler, "--resume")
    assert len(entries(out, "round")) == rounds + 2


def test_a_box_with_another_series_is_refused_and_the_sweep_says_so(
    config, start, scheduler, llt, tmp_path, patched
):
    env = own_home(tmp_path / "home")
    builds = tmp_path / "home" / "builds"
    builds.unlink()
    builds.mkdir()
    (builds / patched.folder.name).mkdir()
    for path in patched.folder.iterdir():
        if path.name != "manifest.json":
            (builds / patched.folder.name / path.name).symlink_to(path)
    other = patched.path.read_text().replace(patched.manifest.series_digest, "ab" * 32)
    (builds / patched.folder.name / "manifest.json").write_text(other)
    (builds / "patched-cpu.current").write_text((home.builds_dir() / "patched-cpu.current").read_text())
    start("worker", scheduler, "--name", "other", env=env).said("has joined")
    out = tmp_path / "out.json"
    done = llt("sweep", config, "--out", out, "--cluster", scheduler, "--wait", "2")
    assert done.returncode == 1
    assert "box other has left: its patched build for cpu is of series abababababab" in done.stderr
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .startswith("llt: no box is left that can go on: other: its patched")
    )
    assert not out.exists() and not journal_path(out).exists()


def test_no_box_at_all(config, scheduler, llt, tmp_path):
    done = llt("sweep", config, "--out", tmp_path / "out.json", "--cluster", scheduler, "--wait", "1")
    assert done.returncode == 1 and "join one with `llt worker" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--certs", "x"], "--certs goes with --cluster or --hosts"),
        (["--place", "some", "--cluster", "tcp://127.0.0.1:1"], "there are any and each"),
        (["--cluster", "tcp://127.0.0.1:1", "--hosts", "h.yaml"], "exclude each other"),
        (["--cluster", "tcp://192.0.2.1:1"], "TLS is required"),
        (["--hosts", "none.yaml"], "there is no file none.yaml"),
    ],
)
def test_options_that_do_not_go_together(config, llt, words, told):
    done = llt("sweep", config, *words)
    assert done.returncode == 2 and told in done.stderr
