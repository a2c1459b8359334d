"""How sentences name cells and lists."""

from __future__ import annotations

from collections.abc import Sequence

from llamacpp_tools.results.schema import Cell


def some(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    shown = "; ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def name(cell: Cell) -> str:
    """A cell by its mode, depth and workload."""
    kind = " with forced acceptance" if cell.forced else " watched" if cell.traced else ""
    return f"{cell.mode}{kind} at depth {cell.n_depth} on {cell.workload}"


def place(cell: Cell) -> str:
    """Its depth and workload."""
    return f"depth {cell.n_depth} on {cell.workload}"
