"""One cell of a sweep: everything a worker needs to know to measure it, and nothing about the others.

Kept apart from the configuration and the plan, so that a worker process starts without loading either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Mode = Literal["dense", "swa", "mtp", "swa+mtp"]
MODES: tuple[Mode, ...] = ("dense", "swa", "mtp", "swa+mtp")

# libllama rounds the cells of a KV cache up to a multiple of this many.
KV_PAD = 256
# Room for the token that a last verification step may produce beyond what was asked.
CTX_SLACK = 8


def pad_cells(n: int) -> int:
    """`n` rounded up to the multiple of 256 that libllama uses for KV cells."""
    return -(-n // KV_PAD) * KV_PAD


def context_size(n_depth: int, n_predict: int, n_max: int | None) -> int:
    """Cells a context needs to hold the prompt, what is generated and one rejected draft."""
    return pad_cells(n_depth + n_predict + (n_max or 0) + CTX_SLACK)


def uses_swa(mode: str) -> bool:
    """True when the mode runs with the sliding-window recipe."""
    return "swa" in mode.split("+")


def uses_mtp(mode: str) -> bool:
    """True when the mode drafts with the MTP head."""
    return "mtp" in mode.split("+")


@dataclass(frozen=True)
class CellSpec:
    """The parameters of one measurement.

    Attributes:
        index: position in the plan, from 0.
        mode: dense, swa, mtp or swa+mtp.
        n_depth: prompt length in the model's own tokens; generation starts there.
        workload: a workload's name, `file:PATH`, or `turns:NAME+NAME`.
        n_ubatch, n_batch: physical and logical batch, in tokens (`n_ubatch <= n_batch`).
        type_k, type_v: ggml names of the KV cache's types.
        flash_attn: on, off, or left to libllama.
        n_gpu_layers: how many layers to put on the device.
        threads: CPU threads; `auto` is the number of physical cores this process may use.
        window: sliding window in tokens; None without SWA.
        full_layers: indices of the attention layers that stay full; None without SWA.
        n_max: most tokens drafted in one step, 0 for a head that is loaded and drafts nothing; None without MTP.
        auto: the length of each draft is chosen, from 0 to `n_max`.
        p_min: a draft ends below this probability; None without MTP.
        forced: drafts of 0 to `n_max` tokens in turns, accepted on a schedule: tells what a step costs, and no text.
        traced: plain decode, watched: at every token `n_max` are drafted and dropped (`engine.trace`), so `n_predict`
            is `n_max` more than the positions that are told of.
        draft_history, before_norm: what a draft sees (`engine.bisect`).
        n_predict: tokens to generate in each round.
        ignore_eos: go on past the end-of-generation token.
        rounds: how often the cell is measured.
        n_ctx: cells of the context, a multiple of 256.
        rpc: RPC servers (`host:port`) that hold layers; none for all on this machine.
    """

    index: int
    mode: Mode
    n_depth: int
    workload: str
    n_ubatch: int
    n_batch: int
    type_k: str
    type_v: str
    flash_attn: bool | Literal["auto"]
    n_gpu_layers: int | Literal["all"]
    threads: int | Literal["auto"]
    window: int | None
    full_layers: tuple[int, ...] | None
    n_max: int | None
    p_min: float | None
    n_predict: int
    ignore_eos: bool
    rounds: int
    n_ctx: int
    forced: bool = False
    auto: bool = False
    traced: bool = False
    draft_history: bool = True
    before_norm: bool = False
    rpc: tuple[str, ...] = ()

    @property
    def swa(self) -> bool:
        """Whether the sliding-window recipe is on."""
        return uses_swa(self.mode)

    @property
    def mtp(self) -> bool:
        """Whether the MTP head drafts."""
        return uses_mtp(self.mode)

    @property
    def bounded(self) -> bool:
        """Whether the window makes the sliding layers' cache smaller than the context.

        A sliding layer's cache has `pad256(window + n_ubatch)` cells (llama_kv_cache_iswa).
        """
        return self.window is not None and pad_cells(self.window + self.n_ubatch) < self.n_ctx

    def base_key(self) -> tuple[object, ...]:
        """What all modes of one comparison share: depth, workload and the context's parameters."""
        return (
            self.n_depth,
            self.workload,
            self.n_ubatch,
            self.n_batch,
            self.type_k,
            self.type_v,
            self.flash_attn,
            self.n_gpu_layers,
            self.threads,
            self.rpc,
        )

    def swa_key(self) -> tuple[object, ...]:
        """The recipe's parameters."""
        return (self.window, self.full_layers)

    def draft_key(self) -> tuple[object, ...]:
        """The draft's parameters."""
        return (
            self.n_max,
            self.p_min,
            self.forced,
            self.auto,
            self.traced,
            self.draft_history,
            self.before_norm,
        )

    def to_json(self) -> dict[str, Any]:
        """The cell as JSON values, `full_layers` and `rpc` lists."""
        row = dataclasses.asdict(self)
        row["rpc"] = list(self.rpc)
        if self.full_layers is not None:
            row["full_layers"] = list(self.full_layers)
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> CellSpec:
        """The cell that `to_json` wrote.

        Raises:
            ValueError: a field is missing, unknown, or the mode is not one of the four.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        wrong = names.symmetric_difference(row)
        if wrong:
            raise ValueError(f"a cell's fields do not match, see {', '.join(sorted(wrong))}")
        if row["mode"] not in MODES:
            raise ValueError(f"a cell's mode is {row['mode']!r}, not one of {', '.join(MODES)}")
        values = dict(row)
        if values["full_layers"] is not None:
            values["full_layers"] = tuple(int(layer) for layer in values["full_layers"])
        values["rpc"] = tuple(str(server) for server in values["rpc"])
        return cls(**values)


class _Sizes(Protocol):
    """What `unbounded` asks of a cell, planned or measured."""

    @property
    def n_depth(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def n_ubatch(self) -> int | None: ...
    @property
    def n_ctx(self) -> int | None: ...


def unbounded(cell: _Sizes) -> str | None:
    """Why the window of a cell saves nothing there; None if it does, or where there is none."""
    if cell.window is None or cell.n_ctx is None or cell.n_ubatch is None:
        return None
    if pad_cells(cell.window + cell.n_ubatch) < cell.n_ctx:
        return None
    return (
        f"At depth {cell.n_depth} the window of {cell.window} saves no memory: a sliding layer keeps "
        f"window and n_ubatch ({cell.n_ubatch}) cells, which is the whole context."
    )


def cell_id(spec: CellSpec) -> str:
    """A readable name, unique within a sweep and the same in every run of the same parameters."""
    parts = [
        f"{spec.mode} d{spec.n_depth} {spec.workload}",
        f"ub{spec.n_ubatch} b{spec.n_batch} k-{spec.type_k} v-{spec.type_v}",
        f"fa-{_word(spec.flash_attn)} ngl-{spec.n_gpu_layers} t-{spec.threads}",
    ]
    if spec.rpc:
        parts.append(f"rpc-{'+'.join(spec.rpc)}")
    if spec.swa:
        layers = ",".join(str(layer) for layer in spec.full_layers or ()) or "none"
        parts.append(f"w{spec.window} full-{layers}")
    if spec.mtp:
        ways = {"forced": spec.forced, "auto": spec.auto, "traced": spec.traced}
        parts.append(f"n{spec.n_max} {next((name for name, on in ways.items() if on), f'p{spec.p_min:g}')}")
        parts += [] if spec.draft_history else ["no-history"]
        parts += ["before-norm"] if spec.before_norm else []
    parts.append(f"g{spec.n_predict}{'' if spec.ignore_eos else '-eos'}")
    return " ".join(parts)


def _word(value: bool | str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value
