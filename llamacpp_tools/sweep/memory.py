"""What a cell will take in memory, and the cells that would take less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llamacpp_tools.models import memory
from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.memory import Demand, Need, fits
from llamacpp_tools.sweep.cell import CellSpec, context_size

_SMALLER_KV = ("q8_0", "q5_1", "q4_1", "q4_0")
_QUANTISED_HEAD = 32


def need(header: GgufHeader, spec: CellSpec) -> Need:
    """What `spec` takes on the model of `header`.

    Raises:
        BadInput: the cell does not fit the model at all (see `kvbytes`).
    """
    demand = Demand(
        spec.n_ctx,
        spec.n_ubatch,
        spec.n_batch,
        spec.type_k,
        spec.type_v,
        spec.flash_attn is not False,
        spec.window,
        spec.full_layers or (),
        spec.n_max if spec.mtp else None,
    )
    return memory.need(header, demand)


def too_large(header: GgufHeader, spec: CellSpec, free: int) -> str | None:
    """Why the cell does not fit into `free` bytes and what would; None if it fits."""
    wanted = need(header, spec)
    if fits(wanted, free):
        return None
    parts = f"weights {_gib(wanted.weights)}, KV {_gib(wanted.kv)}, compute about {_gib(wanted.compute)}"
    fitting = next(
        (words for words, other in _smaller(header, spec) if fits(need(header, other), free)), None
    )
    mend = f"{fitting} would fit" if fitting else "no smaller cache or depth would fit"
    return f"it needs about {_gib(wanted.total)} ({parts}) and {_gib(free)} are free; {mend}"


def _smaller(header: GgufHeader, spec: CellSpec) -> Iterator[tuple[str, CellSpec]]:
    """Cells that take less, the least change first, in words."""
    if spec.flash_attn is not False and not header.head_dim_k % _QUANTISED_HEAD:
        smaller = (
            _SMALLER_KV[_SMALLER_KV.index(spec.type_k) + 1 :] if spec.type_k in _SMALLER_KV else _SMALLER_KV
        )
        for name in smaller:
            yield f"{name} for type_k and type_v", replace(spec, type_k=name, type_v=name)
    depth = spec.n_depth // 2
    while depth >= 512:
        n_ctx = context_size(depth, spec.n_predict, spec.n_max)
        yield f"a depth of {depth}", replace(spec, n_depth=depth, n_ctx=n_ctx)
        depth //= 2


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
