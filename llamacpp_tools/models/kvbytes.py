"""How many bytes libllama allocates for a context's memory, by arithmetic alone.

The rules are those of `llama-context.cpp` (padding of the context), `llama-kv-cache-iswa.cpp` (size of the
sliding cache), `llama-kv-cache.cpp` (one K and one V tensor a layer) and `llama-memory-recurrent.cpp` (R
and S, in f32) at tag b9842. Buffers are counted as libllama's log line `size = ... MiB` counts them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import gguf

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import HYBRID_ARCHS, MTP_ARCHS, GgufHeader

PAD = 256  # contexts and sliding caches are rounded up to this many cells
F32_BYTES = 4
# What `--cache-type-k` and `--cache-type-v` accept (common/arg.cpp).
KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


@dataclass(frozen=True)
class KvBytes:
    """Bytes of one context's memory.

    Attributes:
        full_layers_bytes: K and V of the layers that see the whole context.
        swa_layers_bytes: K and V of the sliding layers, 0 without a window.
        recurrent_bytes: the recurrent layers' states, rollback copies included.
        n_cells_full: cells a sequence stream holds in the full layers.
        n_cells_swa: cells a stream holds in the sliding layers, 0 without a window.
    """

    full_layers_bytes: int
    swa_layers_bytes: int
    recurrent_bytes: int
    n_cells_full: int
    n_cells_swa: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.full_layers_bytes + self.swa_layers_bytes + self.recurrent_bytes


def kv_bytes(
    header: GgufHeader,
    n_ctx: int,
    n_ubatch: int,
    type_k: str = "f16",
    type_v: str = "f16",
    *,
    window: int | None = None,
    full_layers: Iterable[int] = (),
    n_seq_max: int = 1,
    swa_full: bool = False,
    n_rs_seq: int = 0,
    kv_unified: bool = False,
    n_batch: int = 2048,
) -> KvBytes:
    """Memory of the target context: attention cache and recurrent states.

    Args:
        header: the model.
        n_ctx: cells asked for, all sequences together; 0 means the model's training length.
        n_ubatch: physical batch; libllama cuts it to `n_batch` and that to the context.
        type_k: a name of `KV_TYPES`.
        type_v: a name of `KV_TYPES`.
        window: sliding window of the SWA recipe in tokens, None for dense.
        full_layers: layers that the recipe leaves full; ignored without a window.
        n_seq_max: sequences that the context is made for.
        swa_full: libllama's flag that gives sliding layers a full-size cache all the same.
        n_rs_seq: rollback copies of the recurrent state (the MTP target's `n_max`).
        kv_unified: one stream shared by all sequences instead of one each.
        n_batch: logical batch.

    Raises:
        BadInput: a number is out of range, a type is unknown or does not divide the heads, or a kept layer
            is none that attends.
    """
    _check_numbers(n_ctx=n_ctx, n_rs_seq=n_rs_seq)
    _check_numbers(1, n_ubatch=n_ubatch, n_batch=n_batch, n_seq_max=n_seq_max)
    n_ctx = n_ctx or header.n_ctx_train
    n_streams, cells = _streams(n_ctx, n_seq_max, kv_unified)
    kept = _kept_layers(header, window, full_layers)
    sliding = [il for il in header.full_attention_layers if il not in kept]
    cells_swa = 0
    if window is not None:
        ubatch = min(n_ubatch, n_batch, n_ctx)
        wanted = window * (n_seq_max if kv_unified else 1) + ubatch
        cells_swa = cells if swa_full else _pad(min(cells, wanted))
    return KvBytes(
        full_layers_bytes=_attention_bytes(header, kept, cells * n_streams, type_k, type_v),
        swa_layers_bytes=_attention_bytes(header, sliding, cells_swa * n_streams, type_k, type_v),
        recurrent_bytes=recurrent_bytes(header, n_rs_seq, n_seq_max),
        n_cells_full=cells,
        n_cells_swa=cells_swa,
    )


def mtp_kv_bytes(
    header: GgufHeader,
    n_ctx: int,
    type_k: str = "f16",
    type_v: str = "f16",
    *,
    n_seq_max: int = 1,
    kv_unified: bool = False,
) -> int:
    """Memory of the draft context: the MTP blocks' own cache, never windowed; 0 without such a block.

    Raises:
        BadInput: as `kv_bytes`.
    """
    _check_numbers(n_ctx=n_ctx)
    _check_numbers(1, n_seq_max=n_seq_max)
    n_streams, cells = _streams(n_ctx or header.n_ctx_train, n_seq_max, kv_unified)
    blocks = range(header.n_layer, header.n_layer + header.n_layer_nextn)
    return _attention_bytes(header, blocks, cells * n_streams, type_k, type_v)


def recurrent_bytes(header: GgufHeader, n_rs_seq: int = 0, n_seq_max: int = 1) -> int:
    """Memory of the recurrent layers: one state a sequence and `n_rs_seq` rollback copies of it, in f32.

    Where libllama has no rollback (`llm_arch_supports_rs_rollback`) it makes no copies, and says nothing.
    """
    conv = max(header.ssm_d_conv - 1, 0) * (header.ssm_d_inner + 2 * header.ssm_n_group * header.ssm_d_state)
    state = header.ssm_d_state * header.ssm_d_inner
    copies = 1 + (n_rs_seq if header.arch in MTP_ARCHS else 0)
    return len(header.recurrent_layers) * n_seq_max * copies * (conv + state) * F32_BYTES


def row_bytes(n_values: int, type_name: str) -> int:
    """Bytes of `n_values` values in one of `KV_TYPES`, from ggml's block sizes.

    Raises:
        BadInput: unknown type, or its blocks do not divide `n_values`.
    """
    if type_name not in KV_TYPES:
        near = difflib.get_close_matches(type_name, KV_TYPES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KV_TYPES)}"
        raise BadInput(f"{type_name!r} is no cache type; {hint}")
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[type_name.upper()]]
    if n_values % per_block:
        raise BadInput(f"cache type {type_name} packs {per_block} values, which does not divide {n_values}")
    return int(n_values // per_block * block_bytes)


def _streams(n_ctx: int, n_seq_max: int, kv_unified: bool) -> tuple[int, int]:
    """Number of streams and cells of each."""
    if kv_unified:
        return 1, _pad(n_ctx)
    return n_seq_max, _pad(_pad(n_ctx) // n_seq_max)


def _pad(cells: int) -> int:
    return cells + -cells % PAD


def _kept_layers(header: GgufHeader, window: int | None, full_layers: Iterable[int]) -> list[int]:
    if window is None:
        return list(header.full_attention_layers)
    _check_numbers(1, window=window)
    if header.arch not in HYBRID_ARCHS:
        raise BadInput(f"{header.path} is of architecture {header.arch}, which the SWA recipe does not know")
    kept = sorted(set(full_layers))
    for layer in kept:
        if layer not in header.full_attention_layers:
            attending = ", ".join(map(str, header.full_attention_layers))
            raise BadInput(f"layer {layer} of {header.path} has no full attention; these have: {attending}")
    return kept


def _attention_bytes(
    header: GgufHeader, layers: Iterable[int], n_cells: int, type_k: str, type_v: str
) -> int:
    # The context checks a head, not only the row, against the type's block.
    k_head, v_head = row_bytes(header.head_dim_k, type_k), row_bytes(header.head_dim_v, type_v)
    return sum(header.n_head_kv[il] * (k_head + v_head) for il in layers) * n_cells


def _check_numbers(least: int = 0, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise BadInput(f"{name} must be {least} or more, not {number}")
