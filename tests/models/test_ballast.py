from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.ballast import Ballast, add_ballast, cost
from llamacpp_tools.models.gguffile import read_gguf
from llamacpp_tools.models.recast import recast
from llamacpp_tools.models.shapes import TINY, TINY_DENSE
from llamacpp_tools.models.synth import synth


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("light") / "tiny.gguf"
    synth(TINY, path, dtype="q8_0")
    return path


@pytest.mark.parametrize(
    ("weights", "kv"), [(40_000_000, 0), (0, 1000), (25_000_000, 2048), (400_000_000, 2048)]
)
def test_it_costs_what_was_asked(tmp_path: Path, light: Path, weights: int, kv: int) -> None:
    before = cost(light)
    path = tmp_path / "heavy.gguf"
    after = add_ballast(light, path, Ballast(weights, kv))
    assert after == cost(path)
    if weights:
        assert weights <= after.weights < weights * 1.01
    if kv:
        assert kv <= after.kv < kv + before.kv
        assert after.kv % before.kv == 0
    assert path.stat().st_size >= after.weights


def test_only_zeros_are_added(tmp_path: Path, light: Path) -> None:
    add_ballast(light, tmp_path / "heavy.gguf", Ballast(20_000_000, 700))
    before, after = read_gguf(light), read_gguf(tmp_path / "heavy.gguf")
    changed = set()
    for old, new in zip(before.entries, after.entries, strict=True):
        was, now = before.data[old.name], after.data[old.name]
        assert int(now.sum(dtype=np.int64)) == int(was.sum(dtype=np.int64)), old.name
        if old != new:
            changed.add(old.name.split(".", 2)[2])
            kept = now.reshape(-1, new.row_bytes)[: was.size // old.row_bytes, : old.row_bytes]
            assert np.array_equal(kept.reshape(-1), was), old.name
    assert changed == {
        f"{name}.weight"
        for name in (
            "attn_q",
            "attn_k",
            "attn_v",
            "attn_output",
            "ffn_gate_shexp",
            "ffn_up_shexp",
            "ffn_down_shexp",
        )
    }


def test_what_cannot_be_is_one_sentence(tmp_path: Path, light: Path) -> None:
    with pytest.raises(BadInput, match=f"costs {cost(light).weights} bytes for each token already"):
        add_ballast(light, tmp_path / "x.gguf", Ballast(1000))
    with pytest.raises(BadInput, match="512 KV elements"):
        add_ballast(light, tmp_path / "x.gguf", Ballast(0, 100))
    synth(TINY_DENSE, tmp_path / "dense.gguf")
    with pytest.raises(BadInput, match="no shared expert"):
        add_ballast(tmp_path / "dense.gguf", tmp_path / "x.gguf", Ballast(10**9))
    assert not (tmp_path / "x.gguf").exists()


def test_recast_keeps_the_numbers(tmp_path: Path, light: Path) -> None:
    synth(TINY, tmp_path / "f32.gguf")
    recast(tmp_path / "f32.gguf", tmp_path / "f16.gguf", "f16")
    synth(TINY, tmp_path / "direct.gguf", dtype="f16")
    assert (tmp_path / "f16.gguf").read_bytes() == (tmp_path / "direct.gguf").read_bytes()
    recast(light, tmp_path / "one.gguf", "f32")
    recast(tmp_path / "one.gguf", tmp_path / "two.gguf", "f32")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    with pytest.raises(BadInput, match="not 'q3'"):
        recast(light, tmp_path / "x.gguf", "q3")
