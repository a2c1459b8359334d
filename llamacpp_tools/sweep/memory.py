"""What a cell will take in memory, foretold from the model's header, and what is there to take it from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.kvbytes import kv_bytes, mtp_kv_bytes
from llamacpp_tools.sweep.cell import CellSpec, context_size

# Interpreter, library and the workload's text.
PROCESS_BYTES = 200 << 20
# Of a machine's free memory, what a sweep may plan to take.
USABLE = 0.95
_SMALLER_KV = ("q8_0", "q5_1", "q4_1", "q4_0")
_QUANTISED_HEAD = 32


@dataclass(frozen=True)
class Need:
    """Bytes that a cell takes.

    Attributes:
        weights: the tensors of the file, read through the page cache on a CPU.
        kv: caches and recurrent states of the target and, with MTP, of the draft context.
        compute: graph buffers and outputs of both contexts; an estimate.
    """

    weights: int
    kv: int
    compute: int

    @property
    def total(self) -> int:
        """All of it, and the process itself."""
        return self.weights + self.kv + self.compute + PROCESS_BYTES

    @property
    def own(self) -> int:
        """What a second worker on the same model takes beside the first: the weights' pages are shared."""
        return self.total - self.weights


def need(header: GgufHeader, spec: CellSpec) -> Need:
    """What `spec` takes on the model of `header`.

    Raises:
        BadInput: the cell does not fit the model at all (see `kvbytes`).
    """
    target = kv_bytes(
        header,
        spec.n_ctx,
        spec.n_ubatch,
        spec.type_k,
        spec.type_v,
        window=spec.window,
        full_layers=spec.full_layers or (),
        n_rs_seq=spec.n_max or 0,
        n_batch=spec.n_batch,
    ).total
    draft = mtp_kv_bytes(header, spec.n_ctx, spec.type_k, spec.type_v) if spec.mtp else 0
    contexts = 2 if spec.mtp else 1
    return Need(
        sum(tensor.n_bytes for tensor in header.tensors), target + draft, contexts * _compute(header, spec)
    )


def free_memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's if that is less."""
    free = int(psutil.virtual_memory().available)
    with contextlib.suppress(OSError, ValueError):
        folder = _control_group()
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int((folder / "memory.current").read_text(encoding="ascii"))
            reclaimable = _reclaimable(folder / "memory.stat")
            free = min(free, max(0, int(limit) - used + reclaimable))
    return free


def too_large(header: GgufHeader, spec: CellSpec, free: int) -> str | None:
    """Why the cell does not fit into `free` bytes and what would; None if it fits."""
    wanted = need(header, spec)
    if wanted.total <= USABLE * free:
        return None
    parts = f"weights {_gib(wanted.weights)}, KV {_gib(wanted.kv)}, compute about {_gib(wanted.compute)}"
    fitting = next((words for words, other in _smaller(header, spec) if _fits(header, other, free)), None)
    mend = f"{fitting} would fit" if fitting else "no smaller cache or depth would fit"
    return f"it needs about {_gib(wanted.total)} ({parts}) and {_gib(free)} are free; {mend}"


def _fits(header: GgufHeader, spec: CellSpec, free: int) -> bool:
    return need(header, spec).total <= USABLE * free


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


def _compute(header: GgufHeader, spec: CellSpec) -> int:
    """Graph buffers: one ubatch of logits, activations and masks, and attention's scores without flash attention."""
    rows = min(spec.n_ubatch, spec.n_ctx)
    activations = 24 * header.n_embd * 4 * rows
    # The mask is f16 for flash attention, else f32 like the scores.
    mask = (4 if spec.flash_attn is False else 2) * spec.n_ctx * rows
    heads = max(header.n_head, default=1)
    scores = 4 * heads * spec.n_ctx * rows if spec.flash_attn is False else 0
    hidden_rows = 4 * header.n_embd * spec.n_batch if spec.mtp else 0
    return 4 * header.n_vocab * rows + activations + mask + scores + hidden_rows


def _control_group() -> Path:
    line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    own = Path("/sys/fs/cgroup") / line.split(":", 2)[2].lstrip("/")
    # Inside a container the path is often the host's and the group's own files lie at the root.
    return own if (own / "memory.max").is_file() else Path("/sys/fs/cgroup")


def _reclaimable(stat: Path) -> int:
    rows = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
    return int(rows.get("inactive_file", 0)) + int(rows.get("active_file", 0))


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
