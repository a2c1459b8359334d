"""Synthetic models: the bytes they are, and what the file says to an independent reader (gguf's own)."""

from __future__ import annotations

import dataclasses
import hashlib
import tracemalloc
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_tools.errors import BadInput, MissingTool
from llamacpp_tools.models import synth as module
from llamacpp_tools.models.shapes import SHAPES, Shape, shape_named
from llamacpp_tools.models.synth import SynthResult, synth
from llamacpp_tools.models.vocab import build_vocab

# Pinned: whoever changes a byte of these files changes what every stored result was measured on.
SHA256 = {
    "tiny": "671829c3f2ac2182bb5f16567a9e0d772a662c31702c137f964eb61fdc6fb73d",
    "tiny-dense": "d9ab4a42d30f672722166a9c03225c365dd6ffd6718d85d29d79f72f82099638",
    "tiny-next": "628e879dea92d6ce05ca7d8b394630337b5496d5c99f09b3e4afb577039ca6a0",
}
# The same sizes in miniature, for what needs no real model.
SMALL = dataclasses.replace(
    SHAPES["tiny"], name="small", n_layer=4, n_embd=64, n_expert=2, n_ff_exp=32, n_ff_shexp=32
)
Written = tuple[Shape, SynthResult]
FULL_ATTENTION = {"attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_output.weight"}


@pytest.fixture(scope="module", params=sorted(SHA256))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    shape = shape_named(request.param)
    return shape, synth(shape, tmp_path_factory.mktemp("synth") / f"{shape.name}.gguf")


def tensors_of(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def test_the_bytes_are_the_pinned_ones(written: Written) -> None:
    shape, result = written
    data = result.path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == result.sha256 == SHA256[shape.name]
    assert len(data) == result.n_bytes


def test_an_independent_reader_finds_every_tensor_finite(written: Written) -> None:
    shape, result = written
    tensors = tensors_of(result.path)
    assert {name: tuple(t.shape[::-1].tolist()) for name, t in tensors.items()} == {
        tensor.name: tensor.dims for tensor in shape.tensors()
    }
    assert sum(int(t.n_elements) for t in tensors.values()) == result.n_params == shape.n_params
    assert all(np.isfinite(t.data).all() for t in tensors.values())


def test_layers_are_where_the_architecture_wants_them(written: Written) -> None:
    shape, result = written
    names = set(tensors_of(result.path))
    n_blocks = shape.n_layer + shape.n_nextn
    attending = {il for il in range(n_blocks) if {f"blk.{il}.{part}" for part in FULL_ATTENTION} <= names}
    recurrent = {il for il in range(n_blocks) if f"blk.{il}.ssm_a" in names}
    assert attending == ({3, 7, 8} if shape.n_nextn else {3, 7})
    assert recurrent == {0, 1, 2, 4, 5, 6}
    assert (f"blk.{shape.n_layer}.nextn.eh_proj.weight" in names) == (shape.arch != "qwen3next")


def test_every_matrix_row_fits_a_k_quant(written: Written) -> None:
    shape, _ = written
    rows = {t.name: t.dims[-1] for t in shape.tensors() if len(t.dims) > 1 and t.role != "conv"}
    assert {name: row for name, row in rows.items() if row % 256} == {}


def test_norms_and_decays_have_the_signs_that_keep_a_state_bounded(written: Written) -> None:
    _, result = written
    for name, tensor in tensors_of(result.path).items():
        if name.endswith("ssm_a"):
            assert (tensor.data < 0).all(), name
        if name.endswith("_norm.weight"):
            assert (tensor.data > 0.5).all(), name


def test_no_block_writes_to_the_constant_feature(written: Written) -> None:
    _, result = written
    outs = {"attn_output", "ssm_out", "ffn_down", "ffn_down_exps", "ffn_down_shexp"}
    found = {name: t.data for name, t in tensors_of(result.path).items() if name.split(".")[-2] in outs}
    assert found
    for name, data in found.items():
        assert not data[..., 0, :].any(), name


def test_tokens_that_must_not_be_spoken_see_only_that_feature(written: Written) -> None:
    _, result = written
    tensors = tensors_of(result.path)
    head, embedding = tensors["output.weight"].data, tensors["token_embd.weight"].data
    speakable = set(build_vocab().speakable)
    mute = [token for token in range(len(head)) if token not in speakable]
    assert (embedding[:, 0] > 0).all()
    assert (head[mute, 0] < 0).all()
    assert not head[mute, 1:].any()
    assert not head[sorted(speakable), 0].any()


def test_each_speakable_token_has_one_likely_successor(written: Written) -> None:
    _, result = written
    tensors = tensors_of(result.path)
    speakable = build_vocab().speakable
    scores = tensors["token_embd.weight"].data[list(speakable)] @ tensors["output.weight"].data.T
    assert set(scores.argmax(axis=1).tolist()) == set(speakable)


def test_seed_and_shape_decide_the_bytes(tmp_path: Path) -> None:
    first, again, other = (synth(SMALL, tmp_path / "small.gguf", seed=seed).sha256 for seed in (1, 1, 2))
    assert first == again != other


def test_chunk_size_does_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = synth(SMALL, tmp_path / "whole.gguf")
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 7 * 64)
    assert synth(SMALL, tmp_path / "pieces.gguf").sha256 == whole.sha256


@pytest.mark.parametrize(("dtype", "tolerance"), [("f16", 1e-3), ("q8_0", 0.12)])
def test_other_types_hold_the_same_weights(tmp_path: Path, dtype: str, tolerance: float) -> None:
    exact = tensors_of(synth(SMALL, tmp_path / "f32.gguf").path)
    packed = tensors_of(synth(SMALL, tmp_path / "packed.gguf", dtype=dtype).path)
    assert {t.tensor_type.name.lower() for t in packed.values()} == {"f32", dtype}
    assert packed["blk.0.ffn_gate_inp.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    for name, tensor in packed.items():
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        np.testing.assert_allclose(weights, exact[name].data, atol=tolerance, err_msg=name)


def test_memory_stays_small_whatever_the_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 1 << 14)
    wide = dataclasses.replace(SMALL, n_expert=64, n_ff_exp=512)
    tracemalloc.start()
    try:
        result = synth(wide, tmp_path / "wide.gguf")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.n_bytes > 100e6
    assert peak < 8e6


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    synth(SMALL, tmp_path / "small.gguf", progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1
    assert seen[-1][0] == seen[-1][1]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synth(SMALL, tmp_path / "small.gguf", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(MissingTool, match="GiB are free there"):
        synth(SMALL, tmp_path / "small.gguf")
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"synth writes f32, .* not 'q3'"):
        synth(SMALL, tmp_path / "x.gguf", dtype="q3")
    with pytest.raises(BadInput, match="seed"):
        synth(SMALL, tmp_path / "x.gguf", seed=-1)
    with pytest.raises(BadInput, match="is a folder"):
        synth(SMALL, tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written"):
        synth(SMALL, tmp_path / "file" / "x.gguf")


def test_an_unknown_shape_names_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'tiny-dense'"):
        shape_named("tiny-dens")
    with pytest.raises(BadInput, match="known: tiny,"):
        shape_named("xyz")


def test_the_large_shape_has_the_size_its_name_says() -> None:
    # 35B is the trunk; the MTP block comes on top.
    shape = shape_named("qwen3.6-35b-a3b")
    trunk = sum(tensor.n_elements for tensor in shape.tensors() if not tensor.name.startswith("blk.40."))
    assert trunk / 1e9 == pytest.approx(34.66, abs=0.01)
    attending = [il for il in range(shape.n_layer) if not shape.is_recurrent(il)]
    assert attending == [3, 7, 11, 15, 19, 23, 27, 31, 35, 39]
