"""What cannot be run is refused with one sentence and exit code 2, and nothing is left behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llamacpp_tools.build.manifest import Build
from tests.conftest import Llt

from .conftest import Refused

pytestmark = pytest.mark.build
Probe = Callable[..., dict[str, Any]]

RECIPES = {
    "a layer out of range": (64, [99], "layer 99"),
    "a recurrent layer": (64, [2], "recurrent"),
    "the MTP block": (64, [8], "MTP block"),
    "a window under 1": (-1, [], "window"),
    "nothing left to window": (64, [3, 7], "full"),
    "a layer twice": (64, [7, 7], "7"),
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_bad_recipe_is_refused_when_the_model_loads(
    probe: Probe, patched: Build, tiny: Path, what: str
) -> None:
    window, full_layers, words = RECIPES[what]
    with pytest.raises(Refused) as refused:
        probe(patched, tiny, text="one two three", window=window, full_layers=full_layers)
    status, said = refused.value.args
    assert status == 2
    assert words in said
    assert said.splitlines()[-1].startswith(f"{tiny} cannot be loaded: ")
    assert words in said.splitlines()[-1]


def test_an_architecture_without_the_recipe_is_refused(probe: Probe, patched: Build, tmp_path: Path) -> None:
    # The recipe is checked before the vocabulary and the weights, so a header is enough.
    other = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(other, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_block_count(2)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tensor("token_embd.weight", np.zeros((32, 64), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Refused) as refused:
        probe(patched, other, text="one", window=64)
    status, said = refused.value.args
    assert status == 2
    assert "llama" in said
    assert "qwen35moe" in said


def test_mtp_on_a_model_without_a_block_is_refused(probe: Probe, patched: Build, tiny_next: Path) -> None:
    with pytest.raises(Refused) as refused:
        probe(patched, tiny_next, text="one two", n_max=3)
    assert refused.value.args[0] == 2
    assert "no MTP block" in refused.value.args[1]


CONFIGS = {
    "a wrong key": ("name: x\nmodel: {model}\nmodes: [dense]\ndeepths: [64]\nworkloads: [code]\n", "depths"),
    "a wrong type": (
        "name: x\nmodel: {model}\nmodes: [dense]\ndepths: [many]\nworkloads: [code]\n",
        "depths",
    ),
    "a key twice": (
        "name: x\nname: y\nmodel: {model}\nmodes: [dense]\ndepths: [64]\nworkloads: [code]\n",
        "name",
    ),
    "no YAML": ("name: [x\n", "expected"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_bad_sweep_file_is_refused(llt: Llt, patched: Build, tiny: Path, tmp_path: Path, what: str) -> None:
    text, words = CONFIGS[what]
    (tmp_path / "bad.yaml").write_text(text.replace("{model}", str(tiny)))
    done = llt("sweep", "bad.yaml", "--out", "out.json", cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "bad.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml"]


SWA = {
    "a layer out of range": "{window: 64, full_layers: [99]}",
    "a recurrent layer": "{window: 64, full_layers: [2]}",
    "the MTP block": "{window: 64, full_layers: [8]}",
    "a window under 1": "{window: 0}",
    "a list without a window": "{full_layers: [7]}",
    "nothing left to window": "{window: 64, full_layers: [3, 7]}",
}


@pytest.mark.parametrize("what", SWA)
def test_a_bad_recipe_ends_a_sweep_before_it_begins(
    llt: Llt, patched: Build, tiny: Path, tmp_path: Path, what: str
) -> None:
    text = f"name: x\nmodel: {tiny}\nswa: {SWA[what]}\nmodes: [swa]\ndepths: [64]\nworkloads: [code]\n"
    (tmp_path / "sweep.yaml").write_text(text)
    done = llt("sweep", "sweep.yaml", "--out", "out.json", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, "one sentence"
    assert "window" in done.stderr or "layer" in done.stderr
    assert not (tmp_path / "out.json").exists()


FILES = {
    "missing": (None, "no such file|does not exist|not there|missing"),
    "truncated": ("cut", "truncated|bytes|ends"),
    "no GGUF": ("noise", "not a GGUF"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_bad_model_file_is_refused(llt: Llt, patched: Build, tiny: Path, tmp_path: Path, what: str) -> None:
    kind, words = FILES[what]
    model = tmp_path / "model.gguf"
    if kind == "cut":
        model.write_bytes(tiny.read_bytes()[: 10 << 20])
    elif kind == "noise":
        model.write_bytes(b"\x7fELF" + bytes(4096))
    (tmp_path / "sweep.yaml").write_text(
        "name: x\nmodel: model.gguf\nmodes: [dense]\ndepths: [64]\nworkloads: [code]\n"
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    done = llt("sweep", "sweep.yaml", "--out", "out.json", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert re.search(words, done.stderr, re.IGNORECASE), done.stderr
    assert "model.gguf" in done.stderr
    assert str(tmp_path) not in done.stderr, "a path is named as the user typed it"
    assert sorted(path.name for path in tmp_path.iterdir()) == before
