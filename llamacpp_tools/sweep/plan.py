"""The cells of a sweep, in the order in which they run.

Depths and workloads as listed, then the context's axes, then the modes dense, swa, mtp, swa+mtp, and
within a mode its own axes only: a dense cell is not repeated for each window or draft length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from llamacpp_tools.errors import BadInput
from llamacpp_tools.sweep.cell import CellSpec, Mode, cell_id, context_size, uses_mtp, uses_swa
from llamacpp_tools.sweep.config import (
    MAX_CELLS,
    ContextConfig,
    FileWorkload,
    SweepConfig,
    TurnsWorkload,
    Workload,
)
from llamacpp_tools.workloads.cut import FILE_PREFIX, added_tokens, turns_label

__all__ = ["CellSpec", "Plan", "cell_id", "plan", "workload_label"]

# llama-bench's logical batch.
DEFAULT_BATCH = 2048


@dataclass(frozen=True)
class Plan:
    """A configuration and its cells; `cells[i].index == i`."""

    config: SweepConfig
    cells: tuple[CellSpec, ...]

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens to be prefilled if every round does a true prefill."""
        return sum(cell.n_depth * cell.rounds for cell in self.cells)

    @property
    def decode_tokens(self) -> int:
        """Tokens to be generated over all rounds."""
        return sum(cell.n_predict * cell.rounds for cell in self.cells)


def workload_label(workload: Workload) -> str:
    """A workload as one word: its name, `file:PATH`, or `turns:NAME+NAME`."""
    if isinstance(workload, TurnsWorkload):
        return turns_label(workload.turns)
    return FILE_PREFIX + workload.file if isinstance(workload, FileWorkload) else workload


def plan(config: SweepConfig) -> Plan:
    """The cells of `config`.

    Raises:
        BadInput: the axes multiply to more cells than a sweep can sensibly have.
    """
    cells: list[CellSpec] = []
    for bare in _bases(config):
        for cell in _modes(config, bare):
            if len(cells) == MAX_CELLS:
                raise BadInput(f"the sweep {config.name} has more than {MAX_CELLS} cells; shorten an axis")
            cells.append(replace(cell, index=len(cells)))
    return Plan(config, tuple(cells))


def _bases(config: SweepConfig) -> Iterator[dict[str, Any]]:
    for depth, workload in itertools.product(config.depths, config.workloads):
        for context in _contexts(config.context):
            yield {
                "n_depth": depth,
                "workload": workload_label(workload),
                "n_predict": config.generate.n_predict,
                "ignore_eos": config.generate.ignore_eos,
                "rounds": config.rounds,
                **context,
            }


def _contexts(context: ContextConfig) -> Iterator[dict[str, Any]]:
    axes = context.model_dump()
    n_batches, both = axes.pop("n_batch"), axes.pop("type_kv")
    types_k, types_v = axes.pop("type_k"), axes.pop("type_v")
    axes["types"] = tuple(zip(both, both, strict=True)) or tuple(itertools.product(types_k, types_v))
    for values in itertools.product(*axes.values()):
        row = dict(zip(axes, values, strict=True))
        row["type_k"], row["type_v"] = row.pop("types")
        for n_batch in n_batches or (max(DEFAULT_BATCH, row["n_ubatch"]),):
            yield {**row, "n_batch": n_batch}


def _modes(config: SweepConfig, base: dict[str, Any]) -> Iterator[CellSpec]:
    for mode in config.modes:
        for recipe, draft in itertools.product(_recipes(config, mode), _drafts(config, mode)):
            depth = base["n_depth"] + added_tokens(base["workload"])
            size = context_size(depth, base["n_predict"], draft["n_max"])
            yield CellSpec(index=0, mode=mode, n_ctx=size, **base, **recipe, **draft)


def _recipes(config: SweepConfig, mode: Mode) -> list[dict[str, Any]]:
    if not uses_swa(mode) or config.swa is None:
        return [{"window": None, "full_layers": None}]
    pairs = itertools.product(config.swa.window, config.swa.full_layers)
    return [{"window": window, "full_layers": layers} for window, layers in pairs]


def _drafts(config: SweepConfig, mode: Mode) -> list[dict[str, Any]]:
    if not uses_mtp(mode):
        return [{"n_max": None, "p_min": None}]
    pairs = itertools.product(config.draft.n_max, config.draft.p_min)
    asked = config.draft
    return [
        {
            "n_max": asked.limit if n_max == "auto" else n_max,
            "p_min": float(p_min),
            "forced": asked.forced,
            "auto": n_max == "auto",
        }
        for n_max, p_min in pairs
    ]
