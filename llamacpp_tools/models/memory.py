"""What a model takes in memory in a given mode, foretold from its header, and what is there to take it from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

from llamacpp_tools.models.header import GgufHeader
from llamacpp_tools.models.kvbytes import kv_bytes, mtp_kv_bytes

# Interpreter, library and the workload's text.
PROCESS_BYTES = 200 << 20
# With MTP a context keeps graphs of batches up to this beside each other (the patch small-graphs).
SMALL_GRAPHS = 9
# Of a machine's free memory, what may be planned to be taken.
USABLE = 0.95


@dataclass(frozen=True)
class Demand:
    """A mode of a model: the numbers that its memory depends on.

    Attributes:
        n_ctx: cells of the context.
        n_ubatch, n_batch: physical and logical batch.
        type_k, type_v: types of the caches, of `kvbytes.KV_TYPES`.
        flash_attn: False where it is off; then attention's scores are kept, too.
        window, full_layers: the SWA recipe; None for dense.
        n_max: the longest draft, None without MTP.
    """

    n_ctx: int
    n_ubatch: int = 512
    n_batch: int = 2048
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attn: bool = True
    window: int | None = None
    full_layers: tuple[int, ...] = ()
    n_max: int | None = None


@dataclass(frozen=True)
class Need:
    """Bytes that a mode takes.

    Attributes:
        weights: the tensors of the file, read through the page cache on a CPU.
        target_kv: cells of the target context's attention layers.
        recurrent: its recurrent states, rollback copies included.
        draft_kv: the draft context's own cache, 0 without MTP.
        compute: graph buffers and outputs of both contexts; an estimate.
    """

    weights: int
    target_kv: int
    recurrent: int
    draft_kv: int
    compute: int

    @property
    def kv(self) -> int:
        """Caches and recurrent states of both contexts."""
        return self.target_kv + self.recurrent + self.draft_kv

    @property
    def total(self) -> int:
        """All of it, and the process itself."""
        return self.weights + self.kv + self.compute + PROCESS_BYTES

    @property
    def own(self) -> int:
        """What a second worker on the same model takes beside the first: the weights' pages are shared."""
        return self.total - self.weights


def need(header: GgufHeader, demand: Demand) -> Need:
    """What `demand` takes on the model of `header`.

    Raises:
        BadInput: the demand does not fit the model at all (see `kvbytes`).
    """
    types = (demand.type_k, demand.type_v)
    target = kv_bytes(
        header,
        demand.n_ctx,
        demand.n_ubatch,
        *types,
        window=demand.window,
        full_layers=demand.full_layers,
        n_rs_seq=demand.n_max or 0,
        n_batch=demand.n_batch,
    )
    with_mtp = demand.n_max is not None
    return Need(
        sum(tensor.n_bytes for tensor in header.tensors),
        target.full_layers_bytes + target.swa_layers_bytes,
        target.recurrent_bytes,
        mtp_kv_bytes(header, demand.n_ctx, *types) if with_mtp else 0,
        _compute(header, demand),
    )


def fits(wanted: Need, free: int) -> bool:
    """Whether it can be planned for where `free` bytes are free."""
    return wanted.total <= USABLE * free


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


def _compute(header: GgufHeader, demand: Demand) -> int:
    """Graph buffers of all contexts: of one ubatch each, and with MTP of each small batch for itself."""
    rows = min(demand.n_ubatch, demand.n_ctx)
    if demand.n_max is None:
        return _graph(header, demand, rows)
    hidden_rows = 4 * header.n_embd * demand.n_batch
    small = sum(range(1, min(SMALL_GRAPHS, demand.n_max + 1) + 1)) + sum(range(1, SMALL_GRAPHS + 1))
    return 2 * (_graph(header, demand, rows) + hidden_rows) + _graph(header, demand, small)


def _graph(header: GgufHeader, demand: Demand, rows: int) -> int:
    """Logits, activations and masks of so many rows, and attention's scores without flash attention."""
    activations = 24 * header.n_embd * 4 * rows
    # The mask is f16 for flash attention, else f32 like the scores.
    mask = (4 if not demand.flash_attn else 2) * demand.n_ctx * rows
    heads = max(header.n_head, default=1)
    scores = 4 * heads * demand.n_ctx * rows if not demand.flash_attn else 0
    return 4 * header.n_vocab * rows + activations + mask + scores


def _control_group() -> Path:
    line = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()[-1]
    own = Path("/sys/fs/cgroup") / line.split(":", 2)[2].lstrip("/")
    # Inside a container the path is often the host's and the group's own files lie at the root.
    return own if (own / "memory.max").is_file() else Path("/sys/fs/cgroup")


def _reclaimable(stat: Path) -> int:
    rows = dict(line.split() for line in stat.read_text(encoding="ascii").splitlines())
    return int(rows.get("inactive_file", 0)) + int(rows.get("active_file", 0))
