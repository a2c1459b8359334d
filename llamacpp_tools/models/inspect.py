"""What a GGUF file is good for: its layers, its MTP block, what the two levers cost in memory and what fits here.

All of it is told by headers, so a file of many gigabytes answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf

from llamacpp_tools.errors import BadInput
from llamacpp_tools.models.header import HYBRID_ARCHS, MTP_ARCHS, GgufHeader, check_gguf
from llamacpp_tools.models.kvbytes import PAD, row_bytes
from llamacpp_tools.models.memory import Demand, Need, fits, need
from llamacpp_tools.models.recipe import StartingPoint, starting_point

# Contexts that are shown by default, as far as the model was trained for them.
DEPTHS = (8192, 32768, 131072, 262144)
SHOWN_KV = ("f16", "q8_0", "q4_1")
_MTP_TENSOR = re.compile(r"^blk\.(\d+)\.nextn\.")


@dataclass(frozen=True)
class TypeShare:
    """Tensors of one type."""

    type_name: str
    n_tensors: int
    n_bytes: int


@dataclass(frozen=True)
class MtpBlock:
    """The MTP head.

    Attributes:
        blocks: its layer numbers.
        tensors: names of all its tensors, in file order.
        nextn: those that only an MTP block has.
        n_bytes: of all its tensors; embeddings and output matrix are the trunk's.
    """

    blocks: tuple[int, ...]
    tensors: tuple[str, ...]
    nextn: tuple[str, ...]
    n_bytes: int


@dataclass(frozen=True)
class MemoryRow:
    """What a mode takes at a context of `depth` tokens with caches of type `type_kv`."""

    depth: int
    mode: str
    type_kv: str
    need: Need


@dataclass(frozen=True)
class FitRow:
    """The greatest context of a mode that fits into memory, at most the training length; 0 if none does."""

    mode: str
    type_kv: str
    depth: int


@dataclass(frozen=True)
class Inspection:
    """All that `llt model inspect` says.

    Attributes:
        header: the model.
        types: tensor types, the one with most bytes first.
        file_type: what `general.file_type` says, in llama.cpp's name; empty without that key.
        mtp: the MTP block, None without one that llama.cpp can use.
        no_mtp: why there is none and what to look for; empty with one.
        no_recipe: why the SWA recipe cannot be used; empty if it can.
        start: a recipe to begin with; None where neither lever can be used.
        exact_kv: the cache sizes are libllama's own rules for this architecture, not an upper bound.
        left_out: KV types that the heads cannot be packed into.
        memory: by context, mode and KV type.
        free_bytes: the memory that `fits` is counted against.
        fits: what fits there.
    """

    header: GgufHeader
    types: tuple[TypeShare, ...]
    file_type: str
    mtp: MtpBlock | None
    no_mtp: str
    no_recipe: str
    start: StartingPoint | None
    exact_kv: bool
    left_out: tuple[str, ...]
    memory: tuple[MemoryRow, ...]
    free_bytes: int
    fits: tuple[FitRow, ...]


def inspect(
    path: Path,
    free_bytes: int,
    depths: Sequence[int] = (),
    types: Sequence[str] = SHOWN_KV,
    n_max: int = 3,
) -> Inspection:
    """Read the headers at `path` and tell what they mean.

    Args:
        path: a GGUF file, or any part of a split one.
        free_bytes: memory that a mode may take.
        depths: contexts in tokens; empty for a few up to the training length.
        types: KV types.
        n_max: the longest draft, which decides how many copies of the recurrent state the target keeps.

    Raises:
        BadInput: it is no sound GGUF file, or a type, depth or draft length is none.
    """
    header = check_gguf(path)
    for depth in depths:
        if not 1 <= depth <= 1 << 30:
            raise BadInput(f"a depth is a number of tokens from 1 on, not {depth}")
    if not 1 <= n_max <= 64:
        raise BadInput(f"n_max is a number of tokens from 1 to 64, not {n_max}")
    packed = tuple(name for name in types if _packs(header, name))
    mtp, no_mtp = _mtp(header)
    no_recipe = _no_recipe(header)
    start = starting_point(header, not no_recipe, mtp is not None, n_max)
    demands = _demands(start, header)
    limit = header.n_ctx_train or DEPTHS[-1]
    shown = depths or (*(depth for depth in DEPTHS if depth < limit), limit)
    return Inspection(
        header=header,
        types=_types(header),
        file_type=_file_type(header),
        mtp=mtp,
        no_mtp=no_mtp,
        no_recipe=no_recipe,
        start=start,
        exact_kv=header.arch in HYBRID_ARCHS,
        left_out=tuple(name for name in types if name not in packed),
        memory=tuple(
            MemoryRow(depth, mode, name, _need(header, demand, depth, name))
            for depth in shown
            for mode, demand in demands.items()
            for name in packed
        ),
        free_bytes=free_bytes,
        fits=tuple(
            FitRow(mode, name, _greatest(header, demand, name, limit, free_bytes))
            for mode, demand in demands.items()
            for name in packed
        ),
    )


def _packs(header: GgufHeader, type_name: str) -> bool:
    row_bytes(0, type_name)
    try:
        return bool(row_bytes(header.head_dim_k, type_name) + row_bytes(header.head_dim_v, type_name) >= 0)
    except BadInput:
        return False


def _types(header: GgufHeader) -> tuple[TypeShare, ...]:
    found: dict[str, tuple[int, int]] = {}
    for tensor in header.tensors:
        count, size = found.get(tensor.type_name, (0, 0))
        found[tensor.type_name] = count + 1, size + tensor.n_bytes
    shares = (TypeShare(name, count, size) for name, (count, size) in found.items())
    return tuple(sorted(shares, key=lambda share: -share.n_bytes))


def _file_type(header: GgufHeader) -> str:
    number = header.metadata.get("general.file_type")
    if type(number) is not int:
        return ""
    try:
        return gguf.LlamaFileType(number).name.removeprefix("MOSTLY_").removeprefix("ALL_").lower()
    except ValueError:
        return f"unknown ({number})"


def _mtp(header: GgufHeader) -> tuple[MtpBlock | None, str]:
    """The MTP block, or why there is none."""
    key = f"{header.arch}.nextn_predict_layers"
    announced = header.metadata.get(key, 0)
    inside = [tensor.name for tensor in header.tensors if _MTP_TENSOR.match(tensor.name)]
    if header.arch not in MTP_ARCHS:
        also = ", though this file has one" if announced or inside else ""
        return (
            None,
            f"llama.cpp drafts with the MTP head of {' and '.join(MTP_ARCHS)}, not of {header.arch}{also}",
        )
    look = (
        f"Look for a GGUF with {key} above 0 and tensors blk.{header.n_layer}.nextn.*; converters and quantisers "
        "often drop them, and a name with MTP in it is a hint, not a proof"
    )
    if header.n_layer_nextn == 0:
        if inside:
            return None, f"there are tensors such as {inside[0]}, but {key} is {announced}. {look}"
        return None, f"{key} is {'0' if key in header.metadata else 'missing'}. {look}"
    if header.n_layer_nextn > 1:
        return None, f"{key} is {announced}, and llama.cpp drafts with one block"
    if not inside:
        return None, f"{key} is {announced}, but no tensor blk.{header.n_layer}.nextn.* is there. {look}"
    blocks = tuple(range(header.n_layer, header.n_layer + header.n_layer_nextn))
    own = [
        tensor for tensor in header.tensors if tensor.name.startswith(tuple(f"blk.{at}." for at in blocks))
    ]
    names = tuple(tensor.name for tensor in own)
    return MtpBlock(blocks, names, tuple(inside), sum(tensor.n_bytes for tensor in own)), ""


def _no_recipe(header: GgufHeader) -> str:
    if header.arch not in HYBRID_ARCHS:
        return f"it is for {', '.join(HYBRID_ARCHS)}, not for {header.arch}"
    if not header.has_trunk:
        return "this file holds nothing but the MTP block, which is never windowed"
    if not header.full_attention_layers:
        return "no layer has full attention"
    return ""


def _demands(start: StartingPoint | None, header: GgufHeader) -> dict[str, Demand]:
    """The modes that this model can run, without context and type."""
    if not header.has_trunk:
        return {}
    plain = Demand(0)
    modes = {"dense": plain}
    if start is None:
        return modes
    if start.window is not None:
        modes["swa"] = Demand(0, window=start.window, full_layers=start.full_layers)
    if start.n_max is not None:
        for name in list(modes):
            mode = modes[name]
            both = Demand(0, window=mode.window, full_layers=mode.full_layers, n_max=start.n_max)
            modes["mtp" if name == "dense" else f"{name}+mtp"] = both
    return modes


def _need(header: GgufHeader, demand: Demand, depth: int, type_kv: str) -> Need:
    wanted = Demand(
        depth, type_k=type_kv, type_v=type_kv, window=demand.window, full_layers=demand.full_layers,
        n_max=demand.n_max,
    )  # fmt: skip
    return need(header, wanted)


def _greatest(header: GgufHeader, demand: Demand, type_kv: str, limit: int, free_bytes: int) -> int:
    """The greatest context up to `limit` that fits, in steps of what libllama rounds a context to."""
    if fits(_need(header, demand, limit, type_kv), free_bytes):
        return limit
    low, high = 0, -(-limit // PAD)
    while high - low > 1:
        middle = (low + high) // 2
        if fits(_need(header, demand, middle * PAD, type_kv), free_bytes):
            low = middle
        else:
            high = middle
    return low * PAD
