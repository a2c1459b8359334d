"""The model of a sweep: a split file is one, and what llt would write is known before it is written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from llamacpp_tools import home as homes
from llamacpp_tools.build.manifest import Build
from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import sha256_file
from llamacpp_tools.models.extract import extract_mtp
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.results import document
from llamacpp_tools.sweep.config import MiniatureModel, SynthModel
from llamacpp_tools.sweep.fit import check_fit
from llamacpp_tools.sweep.modelfile import in_words, model_file, model_header
from llamacpp_tools.sweep.plan import plan
from tests.models.parts import split

Llt = Callable[..., subprocess.CompletedProcess[str]]


def test_a_synthetic_model_is_written_once_with_its_sizes_and_type(home: Path) -> None:
    choice = SynthModel(synth="tiny", seed=3, dtype="q4_0", sizes={"n_layer": 4})
    foretold = model_header(choice)
    assert not home.exists()
    assert str(foretold.path) == in_words(choice) == "synthetic tiny with n_layer 4"
    path = model_file(choice)
    assert path.parent == home / "models"
    assert path.name.startswith("tiny-n_layer4-s3-q4_0-")
    written = path.stat().st_mtime_ns
    assert model_file(choice) == path and path.stat().st_mtime_ns == written
    assert model_header(str(path)).tensors == foretold.tensors


def test_a_miniature_with_ballast_is_told_by_the_one_without() -> None:
    assert model_header(MiniatureModel()).path == miniature()


def test_an_mtp_block_alone_is_no_model_to_measure(config, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    head = extract_mtp(miniature(), tmp_path / "mtp.gguf").path
    with pytest.raises(BadInput, match=r"holds nothing but an MTP block, .*: name that model"):
        check_fit(plan(config), model_header(str(head)))


@pytest.mark.build
def test_a_split_model_is_swept(llt: Llt, patched: Build, tmp_path: Path) -> None:
    parts = split(miniature(), tmp_path, 100)
    raw = {
        "name": "split", "model": parts[1].name, "modes": ["dense", "mtp"], "depths": [300], "rounds": 1,
        "workloads": ["extraction"], "context": {"n_ubatch": 128}, "generate": {"n_predict": 12},
    }  # fmt: skip
    (tmp_path / "split.yaml").write_text(json.dumps(raw))
    done = llt("sweep", "split.yaml", "--out", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = document.read(tmp_path / "r.json")
    assert [cell.status for cell in result.cells] == ["ok", "ok"]
    assert result.provenance.model_filename == parts[1].name
    # What the figures are kept under is the hash of all three.
    assert sha256_file(*parts) in (homes.models_dir() / "digests.json").read_text()
