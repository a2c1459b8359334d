"""What inspect says of models of each kind; its bytes against libllama's are in `tests/engine/test_inspect.py`."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.extract import extract_mtp
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.inspect import Inspection, inspect
from llamacpp_tools.models.memory import Demand, fits, need
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.recipe import starting_point
from llamacpp_tools.models.reshape import reshaped
from llamacpp_tools.models.shapes import SHAPES
from llamacpp_tools.models.synth import synth_header

from .parts import split, without_mtp

FREE = 24 << 30


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The header of Qwen3.6-35B-A3B, 20 GB long and sparse."""
    return synth_header(SHAPES["qwen3.6-35b-a3b"], tmp_path_factory.mktemp("large") / "35b.gguf").path


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """A plain llama, as the `gguf` package writes one."""
    path = tmp_path / "llama.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("a small llama")
    writer.add_block_count(2)
    writer.add_context_length(4096)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list(["a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((2, 64), np.float32))
    writer.add_tensor("blk.0.attn_q.weight", np.zeros((64, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def modes(found: Inspection) -> list[str]:
    return list(dict.fromkeys(row.mode for row in found.memory))


def test_the_miniature() -> None:
    found = inspect(miniature(), FREE)
    assert found.header.full_attention_layers == (3, 7, 11)
    assert found.mtp is not None
    assert (found.mtp.blocks, len(found.mtp.tensors)) == ((12,), 20)
    assert found.mtp.nextn == tuple(
        f"blk.12.nextn.{name}.weight" for name in ("eh_proj", "enorm", "hnorm", "shared_head_norm")
    )
    sizes = {tensor.name: tensor.n_bytes for tensor in found.header.tensors}
    assert found.mtp.n_bytes == sum(sizes[name] for name in found.mtp.tensors)
    assert (found.no_mtp, found.no_recipe, found.file_type, found.exact_kv) == ("", "", "q8_0", True)
    assert [(share.type_name, share.n_tensors) for share in found.types] == [("q8_0", 142), ("f32", 100)]
    assert sum(share.n_bytes for share in found.types) == sum(sizes.values())
    assert modes(found) == ["dense", "swa", "mtp", "swa+mtp"]
    assert {row.depth for row in found.memory} == {8192, 16384}
    assert found.start is not None
    assert (found.start.window, found.start.full_layers, found.start.published) == (1024, (11,), False)


def test_the_large_model_is_told_by_its_header_at_once(large: Path) -> None:
    begin = time.monotonic()
    found = inspect(large, FREE)
    assert time.monotonic() - begin < 5
    assert found.start is not None
    assert found.start.published
    assert found.start.as_yaml().splitlines() == [
        "swa: {window: 16384, full_layers: [27, 31, 35, 39]}",
        "draft: {n_max: 3}",
        "modes: [dense, swa, mtp, swa+mtp]",
    ]
    assert found.start.as_flags() == (
        "--dynsparse-swa", "16384", "--dynsparse-swa-full", "27,31,35,39", "--spec-type", "draft-mtp",
        "--spec-draft-n-max", "3",
    )  # fmt: skip
    # By hand: 10 layers of 2 heads of 256, K and V in f16; 30 states of 31 rows in f32; one MTP layer.
    dense = next(row.need for row in found.memory if (row.depth, row.mode) == (131072, "dense"))
    assert dense.target_kv == 131072 * 10 * 2 * 2 * 256 * 2
    mtp = next(row.need for row in found.memory if (row.depth, row.mode) == (131072, "mtp"))
    assert mtp.recurrent == 4 * dense.recurrent == 4 * 30 * (3 * (4096 + 2 * 2048) + 128 * 4096) * 4
    assert mtp.draft_kv == 131072 * 2 * 2 * 256 * 2


def test_the_greatest_context_fits_and_the_next_does_not(large: Path) -> None:
    found = inspect(large, FREE)
    header = found.header
    some = [row for row in found.fits if 0 < row.depth < header.n_ctx_train]
    assert some
    for row in some:
        start = found.start
        assert start is not None
        demand = Demand(
            row.depth, type_k=row.type_kv, type_v=row.type_kv,
            window=start.window if "swa" in row.mode else None,
            full_layers=start.full_layers if "swa" in row.mode else (),
            n_max=start.n_max if "mtp" in row.mode else None,
        )  # fmt: skip
        assert fits(need(header, demand), FREE)
        assert not fits(need(header, dataclasses.replace(demand, n_ctx=row.depth + 256)), FREE)
    assert {row.depth for row in inspect(large, 10 << 30).fits} == {0}
    assert {row.depth for row in inspect(large, 1 << 40).fits} == {header.n_ctx_train}


def test_another_model_gets_the_same_shares(tmp_path: Path) -> None:
    def start(shape: str, **sizes: int) -> tuple[int | None, tuple[int, ...]]:
        path = synth_header(reshaped(SHAPES[shape], sizes), tmp_path / "m.gguf").path
        found = starting_point(check_gguf(path), True, True, 3)
        assert found is not None and not found.published
        return found.window, found.full_layers

    assert start("qwen3.6-27b") == (16384, (43, 47, 51, 55, 59, 63))
    assert start("tiny", n_layer=12, n_ctx_train=1000) == (256, (11,))
    assert start("tiny", n_ctx_train=1 << 20) == (16384, (7,))
    # The library refuses a recipe under which nothing slides.
    assert start("tiny", n_layer=4) == (16384, ())


def test_a_model_that_lost_its_head_says_what_to_look_for(tmp_path: Path) -> None:
    found = inspect(without_mtp(miniature(), tmp_path / "trunk.gguf"), FREE)
    assert found.mtp is None
    assert found.no_mtp.startswith("qwen35moe.nextn_predict_layers is missing. Look for a GGUF with")
    assert "tensors blk.12.nextn.*" in found.no_mtp
    assert modes(found) == ["dense", "swa"]
    assert found.start is not None
    assert found.start.as_yaml() == "swa: {window: 1024, full_layers: [11]}\nmodes: [dense, swa]"


def test_a_head_that_is_announced_but_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(miniature().read_bytes().replace(b"blk.12.nextn.", b"blk.12.other."))
    found = inspect(path, FREE)
    assert found.mtp is None
    assert "is 1, but no tensor blk.12.nextn.* is there" in found.no_mtp


def test_a_hybrid_whose_head_llama_cpp_does_not_know(tiny_next: Path) -> None:
    found = inspect(tiny_next, FREE)
    assert found.no_mtp == "llama.cpp drafts with the MTP head of qwen35moe and qwen35, not of qwen3next"
    assert found.no_recipe == ""
    assert modes(found) == ["dense", "swa"]


def test_a_plain_llama_answers_too(llama: Path) -> None:
    found = inspect(llama, FREE, [1024], ["f16", "q8_0"])
    assert found.no_recipe == "it is for qwen35moe, qwen35, qwen3next, not for llama"
    assert found.no_mtp.endswith("not of llama")
    assert (found.start, found.exact_kv, found.left_out) == (None, False, ("q8_0",))
    assert [(row.mode, row.type_kv, row.need.kv) for row in found.memory] == [
        ("dense", "f16", 2 * 1024 * 2 * 32 * 2)
    ]
    assert [share.type_name for share in found.types] == ["f16", "f32"]
    assert found.file_type == ""


def test_an_mtp_block_alone_is_called_one(tmp_path: Path) -> None:
    found = inspect(extract_mtp(miniature(), tmp_path / "mtp.gguf").path, FREE)
    assert not found.header.has_trunk
    assert found.mtp is not None
    assert found.memory == found.fits == ()
    assert found.start is None


def test_a_split_model_is_told_as_a_whole(tmp_path: Path) -> None:
    whole = inspect(miniature(), FREE)
    for part in split(miniature(), tmp_path, 100):
        found = inspect(part, FREE)
        assert (found.mtp, found.types, found.start) == (whole.mtp, whole.types, whole.start)
        assert found.memory == whole.memory
        assert len(found.header.files) == 3


def test_bad_questions_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'q4_k' is no cache type"):
        inspect(miniature(), FREE, types=["q4_k"])
    with pytest.raises(BadInput, match="a depth is a number of tokens from 1 on, not 0"):
        inspect(miniature(), FREE, [0])
    with pytest.raises(BadInput, match="n_max is a number of tokens from 1 to 64, not 0"):
        inspect(miniature(), FREE, n_max=0)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(miniature().read_bytes()[:-7])
    with pytest.raises(BadInput, match=r"is cut short: its tensors need .* 7 are missing"):
        inspect(cut, FREE)
