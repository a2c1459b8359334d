"""`llt model` as a user calls it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.sweep.configfile import parse_config
from llamacpp_tools.sweep.fit import check_fit
from llamacpp_tools.sweep.plan import plan

from ..conftest import ROOT

Llt = Callable[..., subprocess.CompletedProcess[str]]


def test_json_is_the_only_thing_on_stdout(llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "folder" / "dense.gguf"
    done = llt("model", "synth", "--shape", "tiny-dense", "--out", out, "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert facts["path"] == str(out)
    assert facts["arch"] == "qwen35"
    assert facts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_an_unknown_shape_is_one_sentence_and_exit_2(llt: Llt, tmp_path: Path) -> None:
    done = llt("model", "synth", "--shape", "tinny", "--out", tmp_path / "x.gguf")
    assert done.returncode == 2
    assert "did you mean 'tiny'?" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_has_an_example(llt: Llt) -> None:
    assert "Example: llt model synth" in llt("model", "synth", "--help").stdout


def test_inspect_prints_facts_and_a_recipe(llt: Llt) -> None:
    done = llt("model", "inspect", miniature(), "--tensors")
    assert done.returncode == 0, done.stderr
    for words in (
        "3 full attention (3,7,11), 9 recurrent (0-2,4-6,8-10), 1 MTP (12)",
        "q8_0 142 (4.08 MiB), f32 100 (114 KiB); the file says q8_0",
        "blk.12.nextn.eh_proj.weight (nextn)",
        "blk.12.attn_q.weight\n",
        "swa: {window: 1024, full_layers: [11]}",
        "--dynsparse-swa 1024 --dynsparse-swa-full 11 --spec-type draft-mtp --spec-draft-n-max 3",
    ):
        assert words in done.stdout, words


def test_inspect_counts_against_the_memory_that_is_named(llt: Llt) -> None:
    found = json.loads(llt("model", "inspect", miniature(), "--memory", "100 MB", "--json").stdout)
    assert found["free_bytes"] == 100_000_000
    assert {row["depth"] for row in found["fits"]} == {0}


def test_inspect_fits_a_narrow_terminal(llt: Llt) -> None:
    done = llt("model", "inspect", miniature(), "--depth", "1024", env={"COLUMNS": "50"})
    row = next(line for line in done.stdout.splitlines() if "1,024" in line)
    assert row.split()[:2] == ["1,024", "dense"]
    assert row.count("KiB") + row.count("MiB") == 3


def test_the_recipe_of_inspect_is_a_sweep_file(llt: Llt) -> None:
    start = json.loads(llt("model", "inspect", miniature(), "--json").stdout)["start"]
    raw = yaml.safe_load(start["yaml"]) | {"name": "a", "depths": [512], "workloads": ["code"]}
    planned = plan(parse_config({"model": str(miniature()), **raw}, "a.yaml"))
    check_fit(planned, check_gguf(miniature()))
    assert [cell.mode for cell in planned.cells] == ["dense", "swa", "mtp", "swa+mtp"]


def test_inspect_of_what_is_no_model_is_exit_2_and_one_sentence(llt: Llt, tmp_path: Path) -> None:
    absurd = tmp_path / "absurd.gguf"
    absurd.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 4))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(miniature().read_bytes()[:-9])
    for words, says in (
        ([absurd], "claims 1152921504606846976 tensors"),
        ([cut], "9 are missing"),
        ([tmp_path / "none.gguf"], "does not exist"),
        ([miniature(), "--depth", "8k"], "--depth takes numbers of tokens"),
        ([miniature(), "--kv", "q9"], "is no cache type"),
        ([miniature(), "--memory", "much"], "--memory must be a size such as 400MB or 1GiB, not 'much'"),
    ):
        done = llt("model", "inspect", *words)
        assert done.returncode == 2
        assert done.stdout == ""
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_extract_mtp_says_what_it_wrote(llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "mtp.gguf"
    facts = json.loads(llt("model", "extract-mtp", miniature(), "--out", out, "--json").stdout)
    assert facts["path"] == str(out)
    assert facts["n_bytes"] == out.stat().st_size
    assert facts["blocks"] == [12]
    shown = llt("model", "inspect", out)
    assert "only the MTP block 12: a draft model for `llama-server -md`" in shown.stdout
    again = llt("model", "extract-mtp", out, "--out", tmp_path / "again.gguf")
    assert again.returncode == 2
    assert "it can be used as it is" in again.stderr


def test_synth_takes_other_sizes_and_types(llt: Llt, tmp_path: Path) -> None:
    words = ("--shape", "tiny-dense", "--n-layer", "4", "--n-embd", "128", "--dtype", "q4_1", "--json")
    done = llt("model", "synth", *words, cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["shape"] == "tiny-dense with n_layer 4, n_embd 128"
    assert facts["path"] == "tiny-dense-n_layer4-n_embd128-s0-q4_1.gguf"
    header = check_gguf(tmp_path / facts["path"])
    assert (header.n_layer, header.n_embd) == (4, 128)
    wrong = llt("model", "synth", "--shape", "tiny", "--n-ff", "12")
    assert wrong.returncode == 2
    assert wrong.stderr == "llt: n_ff is no size of tiny, a qwen35moe with experts\n"


def test_the_header_of_a_large_model_is_there_at_once(llt: Llt, tmp_path: Path) -> None:
    out = tmp_path / "27b.gguf"
    done = llt("model", "synth", "--shape", "qwen3.6-27b", "--header-only", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "sparse, no weights" in done.stdout
    shown = json.loads(llt("model", "inspect", out, "--json").stdout)
    assert shown["file_type"] == "q4_0"
    assert shown["start"]["full_layers"] == [43, 47, 51, 55, 59, 63]


def test_a_sweep_of_a_large_synthetic_model_is_planned_without_writing_it(llt: Llt, tmp_path: Path) -> None:
    raw = {
        "name": "large", "model": {"synth": "qwen3.6-27b"}, "swa": {"window": 16384, "full_layers": [59, 63]},
        "modes": ["dense", "swa+mtp"], "depths": [32768], "workloads": ["code"],
    }  # fmt: skip
    home = tmp_path / "home"

    def planned(**changes: Any) -> subprocess.CompletedProcess[str]:
        (tmp_path / "large.yaml").write_text(yaml.safe_dump(raw | changes))
        return llt("sweep", "large.yaml", "--dry-run", cwd=tmp_path, env={"LLT_HOME": str(home)})

    done = planned()
    assert done.returncode == 0, done.stderr
    assert "synthetic qwen3.6-27b" in done.stdout
    assert not list(tmp_path.rglob("*.gguf"))
    for model, says in (
        (
            {"synth": "qwen3.6-27b", "sizes": {"n_layer": 48}},
            "layer 59 of synthetic qwen3.6-27b with n_layer 48",
        ),
        ({"synth": "qwen3.6-27b", "sizes": {"n_layrs": 48}}, "did you mean 'n_layer'?"),
        ({"synth": "qwen3.6-27b", "dtype": "q9"}, "dtype"),
    ):
        wrong = planned(model=model)
        assert wrong.returncode == 2
        assert says in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_reader_that_leaves_is_no_error() -> None:
    words = [sys.executable, "-m", "llamacpp_tools", "model", "inspect", str(miniature()), "--json"]
    for command in (words, words[:-1]):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_a_model_is_written_is_exit_130_and_leaves_nothing(tmp_path: Path) -> None:
    words = ["model", "synth", "--shape", "qwen3.6-27b", "--n-layer", "4", "--out", str(tmp_path / "m.gguf")]
    writing = subprocess.Popen(
        [sys.executable, "-m", "llamacpp_tools", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    end = time.monotonic() + 60
    while not any(part.stat().st_size for part in tmp_path.glob(".m.gguf.*")):
        assert time.monotonic() < end and writing.poll() is None
        time.sleep(0.02)
    writing.send_signal(signal.SIGINT)
    _, err = writing.communicate(timeout=60)
    assert writing.returncode == 130
    assert err.startswith("llt: stopped")
    assert list(tmp_path.iterdir()) == []
