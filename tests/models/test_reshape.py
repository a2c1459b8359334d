"""Shapes with other sizes: what is refused, and that the published ones add up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.reshape import SIZES, reshaped
from llamacpp_tools.models.shapes import SHAPES, shape_named
from llamacpp_tools.models.shelf import file_stem
from llamacpp_tools.models.synth import DTYPES, synth, synth_header


def test_a_size_is_changed_and_the_name_says_so(tmp_path: Path) -> None:
    shape = reshaped(SHAPES["tiny"], {"n_layer": 12, "n_expert": 4})
    assert (shape.n_layer, shape.n_expert, shape.n_embd) == (12, 4, 256)
    assert shape.name == "tiny with n_layer 12, n_expert 4"
    assert file_stem(shape, 1, "") == "tiny-n_layer12-n_expert4-s1-f32"
    assert reshaped(SHAPES["tiny"], {"n_expert": 4, "n_layer": 12}) == shape
    header = check_gguf(synth(shape, tmp_path / "m.gguf").path)
    assert header.full_attention_layers == (3, 7, 11)
    assert header.n_expert == 4


def test_sizes_that_change_nothing_leave_the_shape_as_it_is() -> None:
    assert reshaped(SHAPES["tiny"], {"n_layer": 8}) is SHAPES["tiny"]
    assert reshaped(SHAPES["tiny"], {}) is SHAPES["tiny"]


def test_the_rotated_share_follows_the_head() -> None:
    for shape in SHAPES.values():
        smaller = reshaped(reshaped(shape, {"head_dim": 128}), {"head_dim": shape.head_dim})
        assert smaller.rope_sections == shape.rope_sections
    assert reshaped(SHAPES["tiny"], {"head_dim": 8}).rope_sections == (1, 0, 0)


@pytest.mark.parametrize(
    ("shape", "sizes", "says"),
    [
        ("tiny", {"n_layers": 4}, "a shape has no size 'n_layers'; did you mean 'n_layer'?"),
        ("tiny", {"zzz": 4}, "a shape has no size 'zzz'; there are n_layer,"),
        ("tiny", {"n_layer": 0}, "n_layer is a number from 1 to"),
        ("tiny", {"n_vocab": 511}, "n_vocab is a number from 512 to"),
        ("tiny", {"n_embd": 1 << 40}, "n_embd is a number from 1 to"),
        ("tiny", {"n_ff": 64}, "n_ff is no size of tiny, a qwen35moe with experts"),
        ("tiny-dense", {"n_expert": 8}, "n_expert is no size of tiny-dense, a qwen35 with no experts"),
        ("tiny", {"n_layer": 600}, "make 601 layers, llama.cpp takes 512"),
        ("tiny", {"n_layer": 3}, "n_layer 3 is below full_interval 4"),
        ("tiny", {"n_nextn": 2}, "llama.cpp drafts with one MTP block"),
        ("tiny-next", {"n_nextn": 1}, "llama.cpp knows no MTP block of qwen3next"),
        ("tiny", {"n_head": 5}, "n_head 5 is no multiple of n_head_kv 2"),
        ("tiny", {"head_dim": 12}, "head_dim 12 is no multiple of 8"),
        ("tiny", {"ssm_v_heads": 5}, "ssm_v_heads 5 is no multiple of ssm_k_heads 2"),
        ("tiny", {"n_expert": 1}, "n_expert_used 2 is above n_expert 1"),
        ("tiny", {"n_expert": 1024}, "n_expert is 1024, llama.cpp takes 512"),
    ],
)
def test_sizes_that_make_no_model(shape: str, sizes: dict[str, int], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        reshaped(SHAPES[shape], sizes)
    assert says in str(refusal.value)


def test_rows_that_a_type_cannot_hold(tmp_path: Path) -> None:
    odd = reshaped(SHAPES["tiny"], {"n_embd": 100})
    with pytest.raises(BadInput, match=r"packs 32 weights: the rows of token_embd\.weight are 100 long"):
        synth(odd, tmp_path / "odd.gguf", dtype="q4_0")
    assert synth(odd, tmp_path / "odd.gguf", dtype="bf16").n_bytes > 0


# Largest step between two values of a block, over the largest value in it.
STEPS = {
    "f32": 0, "f16": 1e-3, "bf16": 8e-3, "q8_0": 1 / 127, "q5_1": 2 / 31, "q5_0": 2 / 31, "q4_1": 2 / 15,
    "q4_0": 2 / 15,
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_holds_the_same_weights_as_well_as_it_can(tmp_path: Path, dtype: str) -> None:
    shape = reshaped(SHAPES["tiny"], {"n_layer": 4, "n_embd": 64, "n_expert": 2, "n_ff_exp": 32})
    exact = {
        t.name: t for t in gguf.GGUFReader(synth(shape, tmp_path / "f32.gguf", dtype="f32").path).tensors
    }
    packed = gguf.GGUFReader(synth(shape, tmp_path / "packed.gguf", dtype=dtype).path).tensors
    assert {tensor.tensor_type.name.lower() for tensor in packed} == {"f32", dtype}
    for tensor in packed:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        largest = float(np.abs(exact[tensor.name].data).max())
        np.testing.assert_allclose(
            weights, exact[tensor.name].data, atol=1.1 * STEPS[dtype] * largest, err_msg=tensor.name
        )


def test_the_dense_27b_has_the_size_its_name_says() -> None:
    shape = shape_named("qwen3.6-27b")
    trunk = sum(tensor.n_elements for tensor in shape.tensors() if not tensor.name.startswith("blk.64."))
    assert trunk / 1e9 == pytest.approx(26.9, abs=0.05)
    assert [il for il in range(shape.n_layer) if not shape.is_recurrent(il)] == list(range(3, 64, 4))


def test_a_header_alone_is_as_long_as_the_model_and_takes_no_room(tmp_path: Path) -> None:
    small = reshaped(SHAPES["tiny"], {"n_layer": 4})
    whole, alone = synth(small, tmp_path / "whole.gguf"), synth_header(small, tmp_path / "alone.gguf")
    assert (alone.n_bytes, alone.n_params, alone.sha256) == (whole.n_bytes, whole.n_params, "")
    begin = check_gguf(whole.path).parts[0].data_offset
    assert alone.path.read_bytes()[:begin] == whole.path.read_bytes()[:begin]
    large = synth_header(SHAPES["qwen3.6-27b"], tmp_path / "large.gguf")
    assert check_gguf(large.path).n_params == large.n_params
    status = large.path.stat()
    assert status.st_size > 15e9
    assert status.st_blocks * 512 < 20e6


def test_a_middling_model_is_written_in_little_memory(tmp_path: Path) -> None:
    shape = "{'n_layer': 4, 'n_expert': 8, 'n_vocab': 16384}"
    child = (
        "import resource, sys; from pathlib import Path; from llamacpp_tools.models.synth import synth\n"
        "from llamacpp_tools.models.reshape import reshaped; from llamacpp_tools.models.shapes import shape_named\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"shape = reshaped(shape_named('qwen3.6-35b-a3b'), {shape})\n"
        "made = synth(shape, Path(sys.argv[1]), dtype='q8_0')\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(made.n_bytes, (after - before) * 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, tmp_path / "m.gguf"], capture_output=True, text=True, check=True
    )
    n_bytes, grown = map(int, done.stdout.split())
    (tmp_path / "m.gguf").unlink()
    assert n_bytes > 300e6
    assert grown < 100e6


def test_every_size_is_a_field() -> None:
    assert all(hasattr(SHAPES["tiny"], name) for name in SIZES)
