"""The seeds' crash and its fix, through `llt sweep` on real builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llamacpp_tools.build.manifest import Build
from llamacpp_tools.results.schema import Document
from tests.conftest import Llt

pytestmark = pytest.mark.build

CONFIG = """
name: crash
model: {{synth: tiny}}
build: {{backend: cpu, variant: {variant}}}
context: {{n_ubatch: 64, threads: 2}}
swa: {{window: 64, full_layers: [7]}}
draft: {{n_max: 3}}
modes: [dense, swa, mtp, swa+mtp]
depths: [320]
workloads: [maintenance_log]
generate: {{n_predict: 24}}
rounds: 2
"""


def swept(llt: Llt, folder: Path, variant: str) -> dict[str, object]:
    (folder / "crash.yaml").write_text(CONFIG.format(variant=variant))
    done = llt("sweep", folder / "crash.yaml", "--out", folder / "out.json", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((folder / "out.json").read_text())
    Document.model_validate(document)
    return {cell["mode"]: cell for cell in document["cells"]}


def test_without_mtp_iswa_the_assert_becomes_a_row(llt: Llt, tmp_path: Path, without_mtp_iswa: Build) -> None:
    cells = swept(llt, tmp_path, "patched-without-mtp-iswa")
    crashed = cells.pop("swa+mtp")
    assert crashed["status"] == "crashed"
    assert 'hparams.swa_type == LLAMA_SWA_TYPE_NONE && "Use llama_kv_cache_iswa for SWA"' in crashed["reason"]
    assert "llama-graph.cpp:" in crashed["reason"]
    assert str(Path.home()) not in crashed["reason"]
    assert {mode: cell["status"] for mode, cell in cells.items()} == {"dense": "ok", "swa": "ok", "mtp": "ok"}


def test_with_both_patches_all_four_modes_run(llt: Llt, tmp_path: Path, patched: Build) -> None:
    cells = swept(llt, tmp_path, "patched")
    assert {mode: cell["status"] for mode, cell in cells.items()} == dict.fromkeys(
        ("dense", "swa", "mtp", "swa+mtp"), "ok"
    )
    assert cells["mtp"]["output_tokens"] == cells["dense"]["output_tokens"]
    assert cells["swa+mtp"]["output_tokens"] == cells["swa"]["output_tokens"]
    assert cells["swa"]["kv_bytes"] < cells["dense"]["kv_bytes"]
    assert 0 < cells["mtp"]["accepted"] <= cells["mtp"]["drafted"]
    assert cells["mtp"]["n_rs_seq"] == 3
