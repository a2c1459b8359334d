"""The order of a sweep's rounds: what is compared takes turns.

A comparison is all cells that share depth, workload and context. Within it each round runs every mode once, forward
and backward in turn, so that a machine that slows down as it warms up slows all modes alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llamacpp_tools.sweep.cell import CellSpec


def comparisons(cells: Sequence[CellSpec]) -> list[list[CellSpec]]:
    """The cells, gathered by what they are compared with, in the plan's order."""
    found: dict[tuple[object, ...], list[CellSpec]] = {}
    for cell in cells:
        found.setdefault(cell.base_key(), []).append(cell)
    return list(found.values())


def turns(cells: Sequence[CellSpec], number: int) -> Iterator[CellSpec]:
    """The cells of one comparison in the order of round `number`: as listed, or from the end where it is odd."""
    return iter(cells) if number % 2 == 0 else reversed(cells)
