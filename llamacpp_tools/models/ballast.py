"""A model made as heavy as a larger one, with weights that add exactly nothing.

Rows of zeros in the shared expert's `up` and `gate`, and the matching columns of zeros in its `down`, cost what any
weight costs to read and to multiply; attention heads whose queries, keys, values and output columns are zero do the
same for the KV cache. silu(0) * 0 is 0, and a sum keeps its value when zeros are added behind it, so the logits
stay what they were, to the bit (`shared/facts/upstream.md`, shown by `tests/engine/test_ballast.py`).

What it cannot show: a real mixture of experts reads more of its weights the more tokens a batch has, while the
shared expert is read once; so with ballast the verification of a draft is as cheap as in a dense model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llamacpp_tools.errors import BadInput
from llamacpp_tools.files import write_atomic
from llamacpp_tools.models.gguffile import Bytes, Entry, GgufFile, Key, Progress, read_gguf, write_gguf
from llamacpp_tools.models.header import GgufHeader, check_gguf

# Blocks of q8_0 hold 32 weights; a border inside of one would change its scale.
ROW_STEP = 32


@dataclass(frozen=True)
class Ballast:
    """What a model is to cost.

    Attributes:
        weights: bytes of weights that the trunk reads for one token; 0 leaves them as they are.
        kv: elements that one token takes in the KV caches of the trunk, K and V of all layers; 0 leaves them.
    """

    weights: int = 0
    kv: int = 0


@dataclass(frozen=True)
class Cost:
    """What a model costs for each token.

    Attributes:
        weights: bytes of weights that the trunk reads, of its experts those that are used.
        draft_weights: the same of one MTP step, its block and the output matrix.
        kv: elements in the trunk's KV caches, K and V of all layers.
    """

    weights: int
    draft_weights: int
    kv: int


def cost(path: Path) -> Cost:
    """What the model in a GGUF file costs for each token, by its header.

    Raises:
        BadInput: it is no sound GGUF file.
    """
    header = check_gguf(path)
    found = _weights(header, [(tensor.name, tensor.n_bytes) for tensor in header.tensors])
    heads = sum(header.n_head_kv[layer] for layer in header.full_attention_layers)
    return Cost(*found, heads * (header.head_dim_k + header.head_dim_v))


def _weights(header: GgufHeader, tensors: Iterable[tuple[str, int]]) -> tuple[int, int]:
    """Bytes that the trunk and one MTP step read for a token, of tensors by name and size."""
    trunk = draft = 0
    for name, size in tensors:
        n_bytes = size * header.n_expert_used // header.n_expert if "_exps." in name else size
        if name.startswith("blk."):
            is_trunk = int(name.split(".")[1]) < header.n_layer
            trunk, draft = trunk + n_bytes * is_trunk, draft + n_bytes * (not is_trunk)
        elif name.startswith("output"):
            trunk += n_bytes
            draft += n_bytes if name == "output.weight" else 0
    return trunk, draft


def add_ballast(source: Path, target: Path, ballast: Ballast, progress: Progress | None = None) -> Cost:
    """Write the model of `source` to `target` with ballast; both costs are met or a little exceeded.

    KV elements come in whole heads of all attention layers, weights in steps of 32 rows in all layers. The MTP
    block gets as many rows and heads as any layer, since the format has one size for all.

    Args:
        source: a GGUF file that llt made, of the kind qwen35moe.
        target: the file to write; one that is there is replaced.
        ballast: what it is to cost.
        progress: called with (bytes written, bytes in all).

    Raises:
        BadInput: the model costs more already, or has no shared expert.
    """
    header, before = check_gguf(source), cost(source)
    shared = header.metadata.get(f"{header.arch}.expert_shared_feed_forward_length")
    if header.arch != "qwen35moe" or not isinstance(shared, int):
        raise BadInput(f"{source} has no shared expert (qwen35moe) that ballast could be put into")
    for asked, has, what in (
        (ballast.weights, before.weights, "bytes"),
        (ballast.kv, before.kv, "KV elements"),
    ):
        if asked and asked < has:
            raise BadInput(
                f"the model costs {has} {what} for each token already; ask for more ballast than {asked}"
            )
    file = read_gguf(source)
    # Whole groups of heads, so that each query keeps its own key head.
    plan = _Plan(header, max(1, -(-ballast.kv // before.kv)), 0)
    missing = ballast.weights - plan.trunk_bytes(file)
    if missing > 0:
        each = plan.more(ROW_STEP).trunk_bytes(file) - plan.trunk_bytes(file)
        plan = plan.more(-(-missing // each) * ROW_STEP)
    with write_atomic(target) as part:
        write_gguf(
            part, file.arch, [plan.key(key) for key in file.keys], [plan.entry(each) for each in file.entries],
            lambda entry: plan.data(file, entry), progress,
        )  # fmt: skip
    return cost(target)


@dataclass(frozen=True)
class _Plan:
    """Every head `times` over, the shared expert `rows` longer."""

    header: GgufHeader
    times: int
    rows: int

    def more(self, rows: int) -> _Plan:
        return _Plan(self.header, self.times, self.rows + rows)

    def key(self, key: Key) -> Key:
        name = key.name.removeprefix(f"{self.header.arch}.")
        if name in ("attention.head_count", "attention.head_count_kv"):
            return Key(key.name, key.value * self.times, key.type)
        if name == "expert_shared_feed_forward_length":
            return Key(key.name, key.value + self.rows, key.type)
        return key

    def entry(self, entry: Entry) -> Entry:
        *outer, n_rows, width = (1, *entry.dims)
        kind = entry.name.split(".")[-2]
        if kind in ("attn_q", "attn_k", "attn_v"):
            n_rows *= self.times
        elif kind == "attn_output":
            width *= self.times
        elif kind in ("ffn_gate_shexp", "ffn_up_shexp"):
            n_rows += self.rows
        elif kind == "ffn_down_shexp":
            width += self.rows
        return Entry(entry.name, tuple((*outer, n_rows, width)[1:]), entry.type)

    def data(self, file: GgufFile, entry: Entry) -> Iterator[bytes]:
        """The tensor's bytes with zeros behind each row and behind the last one; all-zero blocks are zeros."""
        old = next(each for each in file.entries if each.name == entry.name)
        raw = file.data[entry.name]
        if old == entry:
            yield raw.tobytes()
            return
        rows: Bytes = np.zeros((raw.size // old.row_bytes, entry.row_bytes), np.uint8)
        rows[:, : old.row_bytes] = raw.reshape(-1, old.row_bytes)
        yield rows.tobytes()
        left = entry.n_bytes - rows.size
        while left > 0:
            piece = bytes(min(left, 1 << 24))
            yield piece
            left -= len(piece)

    def trunk_bytes(self, file: GgufFile) -> int:
        """Bytes of weights that the trunk reads for one token; see `cost`."""
        return _weights(self.header, [(each.name, each.n_bytes) for each in map(self.entry, file.entries)])[0]
