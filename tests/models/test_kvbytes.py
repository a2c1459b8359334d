"""`kv_bytes` against what libllama itself reported.

The figures in `REPORTED` are `llama_get_memory_breakdown` (context part) of contexts made with the patched
library at b9842 on the CPU backend, on the synthetic models, so they are bytes, not rounded MiB.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import GgufHeader, check_gguf
from llamacpp_tools.models.kvbytes import KV_TYPES, kv_bytes, mtp_kv_bytes, recurrent_bytes, row_bytes
from llamacpp_tools.models.shapes import SHAPES
from llamacpp_tools.models.synth import synth

Headers = dict[str, GgufHeader]


@dataclass(frozen=True)
class Reported:
    n_ctx: int
    n_ubatch: int
    type_k: str
    type_v: str
    n_seq_max: int
    n_rs_seq: int
    kv_unified: bool
    window: int | None
    full_layers: tuple[int, ...]
    swa_full: bool
    target: int  # bytes of the target context of qwen35moe and qwen35
    draft: int  # bytes of their MTP context
    next: int  # bytes of qwen3next's context: no rollback copies


REPORTED = [
    Reported(4096, 512, "f16", "f16", 1, 0, False, None, (), True, 4624384, 2097152, 4624384),
    Reported(1000, 512, "f16", "f16", 1, 3, False, None, (), True, 2768896, 524288, 1478656),
    Reported(5000, 64, "q4_1", "q8_0", 1, 0, False, None, (), True, 2641920, 1105920, 2641920),
    Reported(4096, 512, "q8_0", "f16", 3, 2, False, None, (), False, 7483392, 1806336, 4902912),
    Reported(3000, 512, "bf16", "q5_1", 4, 4, True, None, (), False, 10764288, 1081344, 3883008),
    Reported(4096, 512, "f16", "f16", 1, 3, False, 256, (), False, 2506752, 2097152, 1216512),
    Reported(4096, 512, "f16", "f16", 1, 3, False, 256, (7,), False, 4210688, 2097152, 2920448),
    Reported(4096, 512, "f16", "f16", 1, 3, False, 256, (7,), True, 5914624, 2097152, 4624384),
    Reported(8192, 64, "q4_1", "q4_1", 1, 0, False, 1000, (3,), False, 1945600, 1310720, 1945600),
    Reported(600, 512, "f16", "q8_0", 1, 3, False, 100, (), False, 2322432, 301056, 1032192),
    Reported(300, 512, "f16", "f16", 1, 0, False, 10, (), False, 954368, 262144, 954368),
    Reported(6000, 128, "q8_0", "q8_0", 3, 2, False, 300, (7,), False, 5959680, 1671168, 3379200),
    Reported(6000, 128, "q8_0", "q8_0", 3, 2, True, 300, (7,), False, 5890048, 1671168, 3309568),
    Reported(2048, 512, "f16", "f16", 1, 3, False, 4096, (), False, 3817472, 1048576, 2527232),
    # n_batch (2048) caps the physical batch of 4096.
    Reported(20000, 4096, "f16", "f16", 1, 0, False, 1, (), False, 2789376, 10354688, 2789376),
]


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Headers:
    folder = tmp_path_factory.mktemp("kvbytes")
    return {
        shape.arch: check_gguf(synth(shape, folder / f"{shape.name}.gguf").path)
        for shape in (SHAPES["tiny"], SHAPES["tiny-dense"], SHAPES["tiny-next"])
    }


@pytest.mark.parametrize("said", REPORTED, ids=range(len(REPORTED)))
@pytest.mark.parametrize("arch", ["qwen35moe", "qwen35", "qwen3next"])
def test_the_sum_is_what_the_library_allocated(headers: Headers, arch: str, said: Reported) -> None:
    found = kv_bytes(
        headers[arch], said.n_ctx, said.n_ubatch, said.type_k, said.type_v, window=said.window,
        full_layers=said.full_layers, n_seq_max=said.n_seq_max, swa_full=said.swa_full,
        n_rs_seq=said.n_rs_seq, kv_unified=said.kv_unified,
    )  # fmt: skip
    draft = mtp_kv_bytes(
        headers[arch],
        said.n_ctx,
        said.type_k,
        said.type_v,
        n_seq_max=said.n_seq_max,
        kv_unified=said.kv_unified,
    )
    assert found.total == (said.next if arch == "qwen3next" else said.target)
    assert draft == (0 if arch == "qwen3next" else said.draft)


def test_the_parts_are_what_the_log_says(headers: Headers) -> None:
    # llama_kv_cache: size = 2.00 MiB (4096 cells, 1 layers); size = 0.38 MiB (768 cells, 1 layers);
    # llama_memory_recurrent: size = 1.64 MiB (1 cells, 3 rs_seq)
    found = kv_bytes(headers["qwen35moe"], 4096, 512, "f16", "f16", window=256, full_layers=(7,), n_rs_seq=3)
    assert (found.n_cells_full, found.n_cells_swa) == (4096, 768)
    assert found.full_layers_bytes == 2 * 2**20
    assert found.swa_layers_bytes == 3 * 2**17
    assert round(found.recurrent_bytes / 2**20, 2) == 1.64
    assert found.recurrent_bytes == recurrent_bytes(headers["qwen35moe"], n_rs_seq=3)


def test_layers_with_other_head_counts_are_counted_one_by_one(headers: Headers) -> None:
    uneven = dataclasses.replace(headers["qwen35moe"], n_head_kv=(0, 0, 0, 1, 0, 0, 0, 4, 2))
    found = kv_bytes(uneven, 1024, 512, window=256, full_layers=[7])
    assert found.full_layers_bytes == 1024 * 4 * (64 + 64) * 2
    assert found.swa_layers_bytes == 768 * 1 * (64 + 64) * 2


def test_zero_cells_mean_the_training_length(headers: Headers) -> None:
    assert kv_bytes(headers["qwen35"], 0, 512).n_cells_full == 262144


@given(
    n_ctx=st.integers(1, 1 << 18), n_ubatch=st.integers(1, 2048), window=st.integers(1, 1 << 18),
    type_k=st.sampled_from(KV_TYPES), kept=st.sets(st.sampled_from([3, 7])),
)  # fmt: skip
def test_a_window_never_costs_more_than_dense(
    headers: Headers, n_ctx: int, n_ubatch: int, window: int, type_k: str, kept: set[int]
) -> None:
    header = headers["qwen35moe"]
    dense = kv_bytes(header, n_ctx, n_ubatch, type_k)
    windowed = kv_bytes(header, n_ctx, n_ubatch, type_k, window=window, full_layers=kept)
    assert windowed.total <= dense.total
    assert windowed.recurrent_bytes == dense.recurrent_bytes
    assert (windowed.swa_layers_bytes == 0) == (kept == {3, 7})
    if window >= n_ctx:
        assert windowed.total == dense.total


@pytest.mark.parametrize(
    ("type_name", "n_bytes"),
    [("f32", 256), ("f16", 128), ("q8_0", 68), ("q5_1", 48), ("q4_1", 40), ("q4_0", 36)],
)
def test_bytes_of_a_head_of_64(type_name: str, n_bytes: int) -> None:
    assert row_bytes(64, type_name) == n_bytes


def test_bad_questions_are_one_sentence(headers: Headers) -> None:
    header = headers["qwen35moe"]
    with pytest.raises(BadInput, match="'q4_k' is no cache type; did you mean 'q4_"):
        kv_bytes(header, 1024, 512, type_k="q4_k")
    with pytest.raises(BadInput, match="packs 32 values, which does not divide 80"):
        kv_bytes(dataclasses.replace(header, head_dim_k=80), 1024, 512, type_k="q8_0")
    with pytest.raises(BadInput, match=r"layer 4 of .* has no full attention; these have: 3, 7"):
        kv_bytes(header, 1024, 512, window=256, full_layers=[4])
    with pytest.raises(BadInput, match="layer 8 of"):
        kv_bytes(header, 1024, 512, window=256, full_layers=[8])
    with pytest.raises(BadInput, match="window must be 1 or more, not 0"):
        kv_bytes(header, 1024, 512, window=0)
    with pytest.raises(BadInput, match="n_ubatch must be 1 or more"):
        kv_bytes(header, 1024, 0)
    with pytest.raises(BadInput, match="architecture llama, which the SWA recipe does not know"):
        kv_bytes(dataclasses.replace(header, arch="llama", path=Path("x.gguf")), 1024, 512, window=256)
