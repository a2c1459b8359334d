"""The factors that undo a norm are those of the weights in the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamacpp_tools.engine.bisect import Bisect
from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return {
        tensor.name: tensor.data for tensor in gguf.GGUFReader(miniature()).tensors if "norm" in tensor.name
    }


def test_factors_undo_the_norm_of_the_trunk_and_that_of_the_block(weights) -> None:
    header = check_gguf(miniature())
    trunk, block = Bisect(before_norm=True).factors(header, header)
    assert np.allclose(np.array(trunk) * weights["output_norm.weight"], 1)
    assert np.allclose(np.array(block) * weights["blk.12.nextn.shared_head_norm.weight"], 1)
    assert not np.allclose(trunk, block)
    assert Bisect(history=False).factors(header, header) == ((), ())


def test_a_block_without_a_norm_of_its_own_has_the_trunks() -> None:
    header = check_gguf(miniature())
    bare = replace(header, tensors=tuple(t for t in header.tensors if "shared_head_norm" not in t.name))
    trunk, block = Bisect(before_norm=True).factors(bare, bare)
    assert trunk == block


def test_a_weight_of_zero_cannot_be_undone(tmp_path: Path) -> None:
    path = tmp_path / "zero.gguf"
    data = bytearray(miniature().read_bytes())
    header = check_gguf(miniature())
    norm = next(tensor for tensor in header.tensors if tensor.name == "output_norm.weight")
    at = header.parts[0].data_offset + norm.offset
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    zero = check_gguf(path)
    with pytest.raises(BadInput, match=r"output_norm\.weight of .*zero\.gguf has a weight of 0"):
        Bisect(before_norm=True).factors(zero, zero)
