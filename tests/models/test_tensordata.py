"""The values of a small tensor, against upstream's own reader, and every way not to have them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import check_gguf
from llamacpp_tools.models.miniature import miniature
from llamacpp_tools.models.tensordata import f32_values


def test_values_are_those_that_upstreams_reader_finds() -> None:
    header = check_gguf(miniature())
    wanted = {tensor.name: tensor.data for tensor in gguf.GGUFReader(miniature()).tensors}
    for name in ("output_norm.weight", "blk.12.nextn.hnorm.weight"):
        assert np.array_equal(np.array(f32_values(header, name), np.float32), wanted[name])


@pytest.mark.parametrize(
    ("name", "why"),
    [("no.such", "has no tensor no.such"), ("token_embd.weight", "not a small f32")],
)
def test_what_is_not_there_or_no_small_f32_is_a_sentence(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        f32_values(check_gguf(miniature()), name)


def test_a_file_cut_short_after_it_was_read_is_a_sentence(tmp_path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(miniature().read_bytes())
    header = check_gguf(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="cut short"):
        f32_values(header, "output_norm.weight")
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        f32_values(header, "output_norm.weight")
